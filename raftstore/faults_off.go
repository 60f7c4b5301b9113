//go:build !raftstore_faults

package raftstore

// broken is always false: see faults_on.go.
func broken(rule) bool { return false }
