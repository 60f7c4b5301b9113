//go:build !race

package meter_test

const skipSome = false
