package raftstore

import "github.com/hashicorp/raft"

// For tests outside the package.

// SetSpeaks makes a member speak up to a version of the log's format.
func SetSpeaks(c *Config, version int) { c.speaks = version }

// SetSegBytes makes the files of the log small.
func SetSegBytes(c *Config, n uint32) { c.segBytes = n }

// FirstIndex is where a member's log begins.
func (s *Store) FirstIndex() uint64 {
	i, _ := s.files.log.FirstIndex()
	return i
}

// CutLog has the log cut now, and leaves few entries for others.
func (s *Store) CutLog() error {
	rc := s.raft.ReloadableConfig()
	rc.TrailingLogs = 4
	if err := s.raft.ReloadConfig(rc); err != nil {
		return err
	}
	return s.raft.Snapshot().Error()
}

// FormatVersion is the version that the store writes.
func (s *Store) FormatVersion() int { return s.m.formatVersion() }

// RaftTerm is raft's term, whoever leads.
func (s *Store) RaftTerm() uint64 { return s.raft.CurrentTerm() }

// Elect makes another member stand for election at once, as a leader does that hands over.
func (s *Store) Elect(id, address string) error {
	req := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax,
		ID: []byte(s.cfg.NodeID), Addr: []byte(s.cfg.Address)}}
	return s.c.trans.TimeoutNow(raft.ServerID(id), raft.ServerAddress(address), req, &raft.TimeoutNowResponse{})
}
