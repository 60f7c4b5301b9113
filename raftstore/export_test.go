//go:build !raftstore_faults

package raftstore

// SetFault has f asked before each kind of disk operation, by its label. faults_on.go has the same.
func SetFault(c *Config, f func(op string) error) { c.fault = f }

// Snapshot has raft take a snapshot and cut its log.
func Snapshot(s *Store) error { return s.raft.Snapshot().Error() }
