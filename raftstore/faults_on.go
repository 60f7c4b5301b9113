//go:build raftstore_faults

package raftstore

import "os"

// The tag raftstore_faults builds a store that tests can break, to prove that they would notice, and
// disturb. Nobody else builds it.

// broken says whether the rule is one to break: RAFTSTORE_BROKEN names it.
func broken(r rule) bool { return os.Getenv("RAFTSTORE_BROKEN") == string(r) }

// SetFault has f asked before each kind of disk operation, by its label. It may fail it, or hold it up.
func SetFault(c *Config, f func(op string) error) { c.fault = f }

// Snapshot has raft take a snapshot and cut its log, to the last few entries: a member that lags more
// is sent the snapshot.
func Snapshot(s *Store) error {
	select {
	case <-s.started:
	default:
		return ErrClosed // nothing to snapshot yet
	}
	rc := s.raft.ReloadableConfig()
	rc.TrailingLogs = 4
	if err := s.raft.ReloadConfig(rc); err != nil {
		return err
	}
	return s.raft.Snapshot().Error()
}
