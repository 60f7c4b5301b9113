package raftstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// The leader asks every member how it is.
	healthEvery = 250 * time.Millisecond
	healthWait  = time.Second
	// healthyWithin is how long ago a healthy member has answered at most.
	healthyWithin = 3 * time.Second
	// healthyLag is how many log entries a healthy member lacks at most.
	healthyLag = 1024
	// promoteLag and promoteAfter: how near, and for how long, before a new member gets its vote.
	promoteLag   = 64
	promoteAfter = time.Second
)

// healthTable is what the leader has heard from the others. It starts anew with each term.
type healthTable struct {
	mu   sync.Mutex
	term uint64
	byID map[string]*memberHealth
}

type memberHealth struct {
	since  time.Time // when this leader first asked
	heard  time.Time // zero: never
	near   time.Time // since when it has been near; zero: it is not
	status memberStatus
	err    error
}

// watchMembers runs on every member, and does something on the leader.
func (s *Store) watchMembers(ctx context.Context) {
	tick := time.NewTicker(healthEvery)
	defer tick.Stop()
	for {
		if term := s.Term(); term != 0 {
			s.askHealth(ctx, term)
			s.tend(ctx)
			if conf, _ := s.configuration(); findServer(conf, s.cfg.NodeID) != nil {
				_ = s.change(ctx, memberChange{kind: changeMoved, id: s.cfg.NodeID, address: s.cfg.Address})
			}
		} else {
			s.tellAddress(ctx)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		case <-s.fail.done:
			return
		}
	}
}

// askHealth asks every other member for its status, all at once.
func (s *Store) askHealth(ctx context.Context, term uint64) {
	h := &s.c.health
	now := time.Now()
	servers := s.raft.GetConfiguration().Configuration().Servers
	h.mu.Lock()
	if h.term != term {
		h.term, h.byID = term, map[string]*memberHealth{}
	}
	known := map[string]bool{}
	for _, srv := range servers {
		known[string(srv.ID)] = true
		if h.byID[string(srv.ID)] == nil {
			h.byID[string(srv.ID)] = &memberHealth{since: now}
		}
	}
	for id := range h.byID {
		if !known[id] {
			delete(h.byID, id)
		}
	}
	h.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, healthWait)
	defer cancel()
	var asking sync.WaitGroup
	for _, srv := range servers {
		if string(srv.ID) == s.cfg.NodeID {
			continue
		}
		asking.Go(func() {
			out, err := s.c.peers.call(ctx, string(srv.Address), callStatus, nil)
			var st memberStatus
			if err == nil {
				st, err = decodeMemberStatus(out)
			}
			if err == nil && st.id != string(srv.ID) {
				err = fmt.Errorf("%w: at %s is the member %q", ErrInvalid, srv.Address, st.id)
			}
			h.heard(string(srv.ID), st, err, s.m.appliedIndex())
		})
	}
	asking.Wait()
}

func (h *healthTable) heard(id string, st memberStatus, err error, applied uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.byID[id]
	if m == nil {
		return
	}
	now := time.Now()
	if m.err = err; err != nil {
		m.near = time.Time{}
		return
	}
	m.heard, m.status = now, st
	if near := st.failure == "" && st.applied+promoteLag >= applied; !near {
		m.near = time.Time{}
	} else if m.near.IsZero() {
		m.near = now
	}
}

// membersNow is the leader's view of the members, by ID.
func (s *Store) membersNow() []Member {
	h := &s.c.health
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	applied := s.m.appliedIndex()
	var ms []Member
	for _, srv := range s.raft.GetConfiguration().Configuration().Servers {
		m := Member{ID: string(srv.ID), Address: string(srv.Address), Voter: srv.Suffrage == raft.Voter}
		if m.ID == s.cfg.NodeID {
			m.Self, m.Leader, m.Healthy = true, true, true
			m.AppliedIndex, m.Version = applied, s.cfg.speaks
		} else {
			describe(&m, h.byID[m.ID], now, applied)
		}
		ms = append(ms, m)
	}
	slices.SortFunc(ms, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return ms
}

// describe says how a member is, from what was last heard of it.
func describe(m *Member, h *memberHealth, now time.Time, applied uint64) {
	m.LastContact = -1
	if h == nil || h.heard.IsZero() {
		m.Problem = "it has not answered this leader yet"
		if h != nil && h.err != nil {
			m.Problem += ": " + h.err.Error()
		}
		return
	}
	m.LastContact = now.Sub(h.heard)
	m.AppliedIndex, m.Version = h.status.applied, h.status.speaks
	if m.AppliedIndex < applied {
		m.Lag = applied - m.AppliedIndex
	}
	switch {
	case m.LastContact > healthyWithin:
		m.Problem = fmt.Sprintf("it has not answered for %s", m.LastContact.Round(time.Second))
		if h.err != nil {
			m.Problem += ": " + h.err.Error()
		}
	case h.status.failure != "":
		m.Problem = "its local storage failed: " + h.status.failure
	case m.Lag > healthyLag:
		m.Problem = fmt.Sprintf("it lags by %d log entries", m.Lag)
	default:
		m.Healthy = true
	}
}

// observed is a member as decide looks at it.
type observed struct {
	Member
	// near is how long it has kept close to the leader, away how long it has not answered.
	near, away time.Duration
}

// decision is what is to be done next, at most one thing at a time.
type decision struct {
	promote, remove string
	version         int
}

// decide is pure. version is the log format's version in use.
func decide(ms []observed, version int, removeAfter time.Duration) decision {
	all := make([]Member, len(ms))
	speaks := 0
	for i := range ms {
		all[i] = ms[i].Member
		switch v := ms[i].Version; {
		case v == 0:
			speaks = -1 // not heard of yet
		case speaks == 0 || v < speaks && speaks > 0:
			speaks = v
		}
	}
	for i := range ms {
		if m := &ms[i]; !m.Voter && m.Healthy && m.near >= promoteAfter {
			return decision{promote: m.ID}
		}
	}
	if removeAfter >= 0 {
		for i := range ms {
			m := &ms[i]
			if m.Leader || m.Healthy || m.away < removeAfter {
				continue
			}
			if mayRemove(all, m.ID) == nil && (!m.Voter || votersWithout(all, m.ID) >= 3) {
				return decision{remove: m.ID}
			}
		}
	}
	if speaks > version {
		return decision{version: speaks}
	}
	return decision{}
}

func votersWithout(ms []Member, id string) int {
	n := 0
	for i := range ms {
		if ms[i].Voter && ms[i].ID != id {
			n++
		}
	}
	return n
}

// mayRemove refuses what would leave the store without a majority that works.
func mayRemove(ms []Member, id string) error {
	voters, healthy := 0, 0
	for i := range ms {
		if m := &ms[i]; m.Voter && m.ID != id {
			voters++
			if m.Healthy {
				healthy++
			}
		}
	}
	switch {
	case voters == 0:
		return fmt.Errorf("%w: %q is the last voter", ErrInvalid, id)
	case healthy < voters/2+1:
		return fmt.Errorf("%w: without %q, %d of %d voters would be healthy, and that is no majority", ErrInvalid, id, healthy, voters)
	}
	return nil
}

// tend does what decide says.
func (s *Store) tend(ctx context.Context) {
	ms := s.membersNow()
	obs := make([]observed, len(ms))
	now := time.Now()
	h := &s.c.health
	h.mu.Lock()
	for i := range ms {
		obs[i].Member = ms[i]
		m := h.byID[ms[i].ID]
		if m == nil {
			continue
		}
		if !m.near.IsZero() {
			obs[i].near = now.Sub(m.near)
		}
		if last := m.heard; !last.IsZero() {
			obs[i].away = now.Sub(last)
		} else {
			obs[i].away = now.Sub(m.since)
		}
	}
	h.mu.Unlock()
	d := decide(obs, s.m.formatVersion(), s.cfg.RemoveDeadAfter)
	var err error
	switch {
	case d.promote != "":
		s.cfg.Logger.Info("a new member has caught up and gets its vote", "member", d.promote)
		err = s.change(ctx, memberChange{kind: changePromote, id: d.promote})
	case d.remove != "":
		s.cfg.Logger.Warn("a member that has been away for too long is removed", "member", d.remove)
		err = s.change(ctx, memberChange{kind: changeRemove, id: d.remove})
	case d.version != 0:
		s.cfg.Logger.Info("every member speaks a newer version of the log's format", "version", d.version)
		err = s.raiseVersion(ctx, d.version)
	}
	if err != nil && ctx.Err() == nil {
		s.cfg.Logger.Debug("the members were not changed", "error", err)
	}
}

// tellAddress tells the leader when this member has moved.
func (s *Store) tellAddress(ctx context.Context) {
	conf, _ := s.configuration()
	me := findServer(conf, s.cfg.NodeID)
	if me == nil || string(me.Address) == s.cfg.Address {
		return
	}
	c := memberChange{kind: changeMoved, id: s.cfg.NodeID, address: s.cfg.Address}
	ctx, cancel := context.WithTimeout(ctx, healthWait)
	defer cancel()
	// The leader cannot reach this member where it was, so this one does not hear who leads.
	for _, srv := range conf.Servers {
		if srv.ID == me.ID {
			continue
		}
		if _, err := s.c.peers.call(ctx, string(srv.Address), callChange, c.encode()); err == nil {
			return
		}
	}
}
