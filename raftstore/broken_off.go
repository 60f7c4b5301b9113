//go:build !raftstore_broken

package raftstore

// broken is always false: see broken_on.go.
func broken(rule) bool { return false }
