package raftstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// A linearizable read asks the leader for an index, and waits until this member's own state has
// reached it. The index is what the leader has committed. It counts once the leader has applied an
// entry of its own term, and a majority of the voters says, after the read began, that it knows of no
// later term: then nobody else can have acknowledged anything before the read.
//
// raft's VerifyLeader is not used for that: it counts answers to heartbeats that were sent before it
// was called, and a leader that stood still for a while would take those for news.

// readRounds lets all reads that arrive during a round share the next one.
type readRounds struct {
	kick chan struct{}

	mu   sync.Mutex
	next *readRound
}

type readRound struct {
	done  chan struct{}
	index uint64
	err   error
}

func (rs *readRounds) join() *readRound {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.next == nil {
		rs.next = &readRound{done: make(chan struct{})}
		signal(rs.kick)
	}
	return rs.next
}

func (rs *readRounds) take() *readRound {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := rs.next
	rs.next = nil
	return r
}

// runReads runs the rounds, one after the other.
func (s *Store) runReads(ctx context.Context) {
	for {
		select {
		case <-s.c.reads.kick:
		case <-ctx.Done():
			if r := s.c.reads.take(); r != nil {
				r.err = ErrClosed
				close(r.done)
			}
			return
		}
		r := s.c.reads.take()
		if r == nil {
			continue
		}
		r.index, r.err = s.readRound(ctx)
		close(r.done)
	}
}

const readRoundWait = 2 * time.Second

func (s *Store) readRound(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, readRoundWait)
	defer cancel()
	if s.Term() != 0 {
		return s.confirmedIndex(ctx)
	}
	if lead, _ := s.c.leader(); lead.id == s.cfg.NodeID {
		return 0, ErrNotLeader // it has not applied everything before its term yet
	}
	out, err := s.askLeader(ctx, callReadIndex, nil)
	if err != nil {
		return 0, err
	}
	return decodeOne(out)
}

// leaderIndex answers a member that reads.
func (s *Store) leaderIndex(ctx context.Context) (uint64, error) {
	if s.Term() == 0 {
		return 0, ErrNotLeader
	}
	return s.joinRound(ctx)
}

func (s *Store) joinRound(ctx context.Context) (uint64, error) {
	r := s.c.reads.join()
	select {
	case <-r.done:
		return r.index, r.err
	case <-s.fail.done:
		return 0, s.Err()
	case <-s.stopped:
		return 0, ErrClosed
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// confirmedIndex is what the leader has committed, once a majority confirms that it still leads.
func (s *Store) confirmedIndex(ctx context.Context) (uint64, error) {
	term := s.Term()
	if term == 0 {
		return 0, ErrNotLeader
	}
	index := s.raft.CommitIndex()
	if err := s.confirm(ctx, term); err != nil {
		return 0, err
	}
	if s.Term() != term || s.raft.CurrentTerm() != term || s.raft.State() != raft.Leader {
		return 0, ErrNotLeader
	}
	return index, nil
}

func (s *Store) confirm(ctx context.Context, term uint64) error {
	voters, mine := 0, false
	var others []raft.Server
	for _, srv := range s.raft.GetConfiguration().Configuration().Servers {
		if srv.Suffrage != raft.Voter {
			continue
		}
		voters++
		if string(srv.ID) == s.cfg.NodeID {
			mine = true
		} else {
			others = append(others, srv)
		}
	}
	need := voters/2 + 1
	if mine {
		need--
	}
	if need <= 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan error, len(others))
	for _, o := range others {
		s.tasks.Go(func() {
			out, err := s.c.peers.call(ctx, string(o.Address), callTerm, nil)
			var t uint64
			if err == nil {
				t, err = decodeOne(out)
			}
			if err == nil && t > term {
				err = ErrNotLeader
			}
			answers <- err
		})
	}
	var errs []error
	for range others {
		err := <-answers
		if errors.Is(err, ErrNotLeader) {
			return err
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if need--; need == 0 {
			return nil
		}
	}
	return fmt.Errorf("no majority confirms the leader: %w", errors.Join(errs...))
}

// readIndex returns once this node's state includes every write acknowledged before the call.
func (s *Store) readIndex(ctx context.Context) error {
	if s.c == nil {
		// A single voter is the only leader there can be, and acknowledges what it has applied: to be
		// the leader, with an entry of its term behind it, is enough.
		return s.waitLeading(ctx)
	}
	if err := s.waitStarted(ctx); err != nil {
		return err
	}
	if broken(ruleReadIndex) {
		return nil
	}
	for {
		if err := s.Err(); err != nil {
			return err
		}
		index, err := s.joinRound(ctx)
		if err == nil {
			return s.waitApplied(ctx, index)
		}
		if ctx.Err() == nil && errors.Is(err, ErrClosed) {
			select {
			case <-s.stopped:
				return ErrClosed
			default:
			}
		}
		if err := s.pause(ctx, err); err != nil {
			return err
		}
	}
}

func (s *Store) waitApplied(ctx context.Context, index uint64) error {
	if s.m.appliedIndex() >= index {
		return nil
	}
	select {
	case <-s.m.passed(index):
		return nil
	case <-s.fail.done:
		return s.Err()
	case <-s.stopped:
		return ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
