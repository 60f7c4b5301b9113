//go:build !raftstore_faults

package raftstore

// SetFault and Snapshot are in faults_on.go, too.

// SetFault has f asked before each kind of disk operation, by its label.
func SetFault(c *Config, f func(op string) error) { c.fault = f }

// Snapshot has raft take a snapshot and cut its log.
func Snapshot(s *Store) error { return s.raft.Snapshot().Error() }
