package raftstore

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// Raft tells followers what is committed along with the next entries, or when CommitTimeout has
// passed. A follower's client, and whoever reads on a follower what was just written, would wait that
// long whenever the store is not busy. So the leader sends the same message itself, at once, when
// nothing else is on its way: an AppendEntries without entries. It is right whenever it arrives: the
// entry that it names is committed, and raft takes it from that only if it has that very entry.
type nudges struct {
	kick  chan struct{}
	index atomic.Uint64 // of the newest entry that is committed

	mu   sync.Mutex
	busy map[raft.ServerID]bool
}

// committed is called on the leader when an entry has been applied.
func (s *Store) committed(index uint64) {
	if s.c == nil {
		return
	}
	s.c.nudges.index.Store(index)
	if s.committing.Load() <= 1 { // this one; others would take the word along
		signal(s.c.nudges.kick)
	}
}

// nudge runs on every member, and does something on the leader.
func (s *Store) nudge(ctx context.Context) {
	n := &s.c.nudges
	for {
		select {
		case <-n.kick:
		case <-ctx.Done():
			return
		}
		term, index := s.Term(), n.index.Load()
		if term == 0 {
			continue
		}
		for _, srv := range s.raft.GetConfiguration().Configuration().Servers {
			if string(srv.ID) == s.cfg.NodeID {
				continue
			}
			n.mu.Lock()
			busy := n.busy[srv.ID]
			n.busy[srv.ID] = true
			n.mu.Unlock()
			if !busy {
				s.tasks.Go(func() { s.nudgeOne(srv, term, index) })
			}
		}
	}
}

func (s *Store) nudgeOne(srv raft.Server, term, index uint64) {
	me := []byte(s.cfg.Address)
	req := &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(s.cfg.NodeID), Addr: me},
		Term:      term, Leader: me, PrevLogEntry: index, PrevLogTerm: term, LeaderCommitIndex: index}
	err := s.c.trans.AppendEntries(srv.ID, srv.Address, req, &raft.AppendEntriesResponse{})
	n := &s.c.nudges
	n.mu.Lock()
	n.busy[srv.ID] = false
	n.mu.Unlock()
	if err == nil && n.index.Load() != index && s.committing.Load() == 0 {
		signal(n.kick) // more came while this one was busy
	}
}
