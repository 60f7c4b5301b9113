package raftstore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/raft"
)

// followLeadership turns raft's word of leadership into ours: this node leads once it has applied
// everything before its term.
func (s *Store) followLeadership(ctx context.Context) {
	for {
		select {
		case leads := <-s.raft.LeaderCh():
			term := s.raft.CurrentTerm()
			if leads {
				if err := s.beginTerm(); err != nil || s.raft.CurrentTerm() != term || s.raft.State() != raft.Leader {
					continue // lost already; the next word says so
				}
				s.adoptLeases()
			}
			s.setLeader(Leader{Term: term, Leading: leads})
			if leads {
				s.closeReady()
			}
		case <-ctx.Done():
			return
		case <-s.fail.done:
			return
		}
	}
}

// beginTerm returns when everything before this term is applied here. It is an entry without
// commands, and no barrier of raft's: the machine must hear of it, so that a read can wait for it.
func (s *Store) beginTerm() error {
	s.committing.Add(1)
	defer s.committing.Add(-1)
	err := raft.ErrEnqueueTimeout
	for errors.Is(err, raft.ErrEnqueueTimeout) && s.fail.get() == nil {
		err = s.raft.Apply(nil, enqueueFor).Error()
	}
	return err
}

// becomeReady is for a member that does not lead: it is ready once it can read.
func (s *Store) becomeReady(ctx context.Context) {
	for ctx.Err() == nil && s.fail.get() == nil {
		if s.readIndex(ctx) == nil {
			s.closeReady()
			return
		}
	}
}

func (s *Store) closeReady() { s.readyOnce.Do(func() { close(s.ready) }) }

func (s *Store) setLeader(l Leader) {
	s.leaderMu.Lock()
	defer s.leaderMu.Unlock()
	if s.fail.get() != nil {
		l.Leading = false
	}
	if l == s.leader {
		return
	}
	s.leader = l
	close(s.leaderChanged)
	s.leaderChanged = make(chan struct{})
}

// Leader returns this node's leadership, and a channel that is closed when it changes.
func (s *Store) Leader() (Leader, <-chan struct{}) {
	s.leaderMu.Lock()
	defer s.leaderMu.Unlock()
	return s.leader, s.leaderChanged
}

// Leadership sends this node's leadership, now and at every change, until ctx ends; then it closes
// the channel. A slow receiver misses what was superseded, never the newest.
func (s *Store) Leadership(ctx context.Context) <-chan Leader {
	c := make(chan Leader)
	go func() {
		defer close(c)
		for {
			l, changed := s.Leader()
			select {
			case c <- l:
			case <-changed:
				continue
			case <-ctx.Done():
				return
			case <-s.stopped:
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			case <-s.stopped:
				return
			}
		}
	}()
	return c
}

// Term is the raft term in which this node leads, or 0 if it does not.
func (s *Store) Term() uint64 {
	l, _ := s.Leader()
	if !l.Leading {
		return 0
	}
	return l.Term
}

// WhileLeading calls fn each time this node begins to lead, with a context that ends when it no
// longer does (its cause is ErrNotLeader) and the term for Txn.Term. It waits for fn to return
// before it calls it again. It returns when ctx ends, when the store stops, or with what fn
// returned while it still led.
func (s *Store) WhileLeading(ctx context.Context, fn func(ctx context.Context, term uint64) error) error {
	for {
		l, changed := s.Leader()
		if l.Leading {
			if done, err := s.leadOnce(ctx, changed, l.Term, fn); done {
				return err
			}
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.stopped:
			return ErrClosed
		}
	}
}

func (s *Store) leadOnce(ctx context.Context, changed <-chan struct{}, term uint64, fn func(context.Context, uint64) error) (done bool, err error) {
	leading, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		select {
		case <-changed:
			cancel(ErrNotLeader)
		case <-s.stopped:
			cancel(ErrNotLeader)
		case <-leading.Done():
		}
	}()
	err = fn(leading, term)
	lost := errors.Is(context.Cause(leading), ErrNotLeader)
	cancel(nil)
	<-watching
	return !lost, err
}

// waitLeading waits until this node leads.
func (s *Store) waitLeading(ctx context.Context) error {
	for {
		l, changed := s.Leader()
		if l.Leading {
			return nil
		}
		if err := s.Err(); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-s.fail.done:
		case <-s.stopped:
			return ErrClosed
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// overlap refuses a key that one Txn both writes and deletes by prefix.
func overlap(prefixes []string, written map[string]struct{}) error {
	for i, p := range prefixes {
		for j, q := range prefixes {
			if i != j && strings.HasPrefix(p, q) {
				return fmt.Errorf("%w: the prefixes %q and %q overlap", ErrInvalid, p, q)
			}
		}
		for k := range written {
			if strings.HasPrefix(k, p) {
				return fmt.Errorf("%w: %q is written twice", ErrInvalid, k)
			}
		}
	}
	return nil
}
