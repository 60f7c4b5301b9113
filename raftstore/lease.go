package raftstore

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A lease is replicated, its deadline is not: the leader alone keeps deadlines, in memory, and
// revokes through the log what has expired. A new leader, and a restart, give every lease its full
// time to live again; a lease may live longer than promised, and never shorter.

// Grant makes a lease that expires ttl (1 ms at least) after its last KeepAlive.
func (s *Store) Grant(ctx context.Context, ttl time.Duration) (id int64, err error) {
	if ttl < time.Millisecond {
		return 0, fmt.Errorf("%w: a lease of %s", ErrInvalid, ttl)
	}
	r, err := s.submit(ctx, &command{grant: &leaseGrant{ttlMillis: ttl.Milliseconds()}})
	if err != nil {
		return 0, err
	}
	if s.Term() != 0 {
		s.setDeadline(r.lease, ttl)
	}
	return r.lease, nil
}

// Revoke ends a lease and deletes its keys, at one revision.
func (s *Store) Revoke(ctx context.Context, id int64) error {
	if id <= 0 {
		return ErrLeaseNotFound
	}
	_, err := s.submit(ctx, &command{revoke: id})
	if err == nil || errors.Is(err, ErrLeaseNotFound) {
		s.leaseMu.Lock()
		delete(s.deadlines, id)
		s.leaseMu.Unlock()
	}
	return err
}

// expire revokes a lease, in this term or never.
func (s *Store) expire(ctx context.Context, id int64, term uint64) error {
	r, err := s.submitHere(ctx, &command{revoke: id, term: term})
	if err == nil {
		err = r.err
	}
	if err == nil || errors.Is(err, ErrLeaseNotFound) {
		s.leaseMu.Lock()
		delete(s.deadlines, id)
		s.leaseMu.Unlock()
	}
	return err
}

// KeepAlive gives a lease its full time to live again. It writes nothing.
func (s *Store) KeepAlive(ctx context.Context, id int64) error {
	if s.c != nil && s.Term() == 0 {
		if id <= 0 {
			return ErrLeaseNotFound
		}
		_, err := s.ask(ctx, callKeepAlive, encodeOne(uint64(id)))
		return err
	}
	if err := s.waitLeading(ctx); err != nil {
		return err
	}
	return s.keepAlive(id)
}

// keepAlive is the leader's part.
func (s *Store) keepAlive(id int64) error {
	ttl, ok := s.m.leaseTTL(id)
	if !ok {
		return ErrLeaseNotFound
	}
	s.setDeadline(id, ttl)
	return nil
}

// adoptLease begins the time of a lease that another member asked for.
func (s *Store) adoptLease(id int64) {
	if ttl, ok := s.m.leaseTTL(id); ok {
		s.setDeadline(id, ttl)
	}
}

func (m *machine) leaseTTL(id int64) (time.Duration, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.leases[id]
	if l == nil {
		return 0, false
	}
	return time.Duration(l.ttlMillis) * time.Millisecond, true
}

func (s *Store) setDeadline(id int64, ttl time.Duration) {
	s.leaseMu.Lock()
	s.deadlines[id] = s.cfg.Clock.Now().Add(ttl)
	s.leaseMu.Unlock()
	signal(s.kick)
}

// adoptLeases is called when this node begins to lead.
func (s *Store) adoptLeases() {
	now := s.cfg.Clock.Now()
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.leaseMu.Lock()
	defer s.leaseMu.Unlock()
	clear(s.deadlines)
	for id, l := range s.m.leases {
		s.deadlines[id] = now.Add(time.Duration(l.ttlMillis) * time.Millisecond)
	}
	signal(s.kick)
}

// tidyDeadlines makes deadlines and leases agree, whoever granted or revoked them.
func (s *Store) tidyDeadlines(now time.Time) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.leaseMu.Lock()
	defer s.leaseMu.Unlock()
	for id := range s.deadlines {
		if s.m.leases[id] == nil {
			delete(s.deadlines, id)
		}
	}
	for id, l := range s.m.leases {
		if _, ok := s.deadlines[id]; !ok {
			s.deadlines[id] = now.Add(time.Duration(l.ttlMillis) * time.Millisecond)
		}
	}
}

// expired returns the leases past their deadline, and how long until the next one is; 0: none is.
func (s *Store) expired(now time.Time) (ids []int64, next time.Duration) {
	s.leaseMu.Lock()
	defer s.leaseMu.Unlock()
	for id, at := range s.deadlines {
		left := at.Sub(now)
		if left <= 0 {
			ids = append(ids, id)
		} else if next == 0 || left < next {
			next = left
		}
	}
	return ids, next
}
