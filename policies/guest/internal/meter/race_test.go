//go:build race

package meter_test

// wazero compiles an order of magnitude slower with the race detector, which finds nothing in pure code.
const skipSome = true
