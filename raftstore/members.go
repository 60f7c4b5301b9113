package raftstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// Member is one member of the store as the leader sees it.
type Member struct {
	ID, Address string
	// Voter says that it counts for majorities. A new member does once it has caught up.
	Voter  bool
	Leader bool
	Self   bool // the member that answered the call to Members
	// Healthy says that it answers, that its disk works and that it keeps up.
	Healthy bool
	// Problem says why it is not healthy; "" if it is.
	Problem string
	// LastContact is how long ago it last answered the leader; 0 for the leader itself, negative if
	// it never has in this term.
	LastContact time.Duration
	// AppliedIndex is the log entry that its state has reached, Lag how many it lacks.
	AppliedIndex, Lag uint64
	// Version is the highest version of the log's format that it speaks; 0: not known yet.
	Version int
}

// Members lists the members, by ID. It may be called on any of them. If no leader answers until ctx
// ends, it returns what this member knows by itself, with an error.
func (s *Store) Members(ctx context.Context) ([]Member, error) {
	if s.c == nil {
		return []Member{{ID: s.cfg.NodeID, Voter: true, Leader: s.Term() != 0, Self: true, Healthy: s.Err() == nil,
			AppliedIndex: s.m.appliedIndex(), Version: s.cfg.speaks}}, nil
	}
	out, err := s.ask(ctx, callList, nil)
	if err != nil {
		return s.knownMembers(), fmt.Errorf("members: %w", err)
	}
	list, err := decodeMessages(out)
	if err != nil {
		return nil, fmt.Errorf("members: %w", err)
	}
	ms := make([]Member, len(list))
	for i, b := range list {
		if ms[i], err = decodeMember(b); err != nil {
			return nil, fmt.Errorf("members: %w", err)
		}
		ms[i].Self = ms[i].ID == s.cfg.NodeID
	}
	return ms, nil
}

// knownMembers is what can be said without the leader.
func (s *Store) knownMembers() []Member {
	select {
	case <-s.started:
	default:
		return nil
	}
	var ms []Member
	for _, srv := range s.raft.GetConfiguration().Configuration().Servers {
		m := Member{ID: string(srv.ID), Address: string(srv.Address), Voter: srv.Suffrage == raft.Voter,
			Self: string(srv.ID) == s.cfg.NodeID, LastContact: -1, Problem: "no leader answers"}
		if m.Self {
			m.AppliedIndex, m.Version = s.m.appliedIndex(), s.cfg.speaks
		}
		ms = append(ms, m)
	}
	slices.SortFunc(ms, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return ms
}

// LeaderID is the member that this one believes to lead, "" while it knows of none.
func (s *Store) LeaderID() string {
	select {
	case <-s.started:
		_, id := s.raft.LeaderWithID()
		return string(id)
	default:
		return ""
	}
}

// AddMember adds a member, which must run with Config.Join and this id and be reachable at the
// address. It joins without a vote, and gets one by itself once it has caught up and stayed so.
// For a member that is there already it changes the address.
func (s *Store) AddMember(ctx context.Context, id, address string) error {
	if id == "" || address == "" {
		return fmt.Errorf("add member: %w: an id and an address are needed", ErrInvalid)
	}
	return s.askChange(ctx, "add member", memberChange{kind: changeAdd, id: id, address: address})
}

// PromoteMember gives a member its vote now.
func (s *Store) PromoteMember(ctx context.Context, id string) error {
	return s.askChange(ctx, "promote member", memberChange{kind: changePromote, id: id})
}

// RemoveMember removes a member. ErrInvalid when there is no such member, or when the voters that
// remain and are healthy would be no majority. A removed member's folder is of no more use: it joins
// again with a new one.
func (s *Store) RemoveMember(ctx context.Context, id string) error {
	ms, err := s.Members(ctx)
	if err != nil {
		return fmt.Errorf("remove member %s: %w", id, err)
	}
	if !slices.ContainsFunc(ms, func(m Member) bool { return m.ID == id }) {
		return fmt.Errorf("remove member: %w: there is no member %q", ErrInvalid, id)
	}
	return s.askChange(ctx, "remove member", memberChange{kind: changeRemove, id: id})
}

// HandOver makes another voter the leader; "" is the one that is furthest. Run does it before an
// orderly stop.
func (s *Store) HandOver(ctx context.Context, to string) error {
	if s.c == nil {
		return s.askChange(ctx, "hand over", memberChange{})
	}
	// Who leads now is named, so that the call can be made again without being done again.
	var lead leadHint
	for lead.id == "" {
		var changed <-chan struct{}
		if lead, changed = s.c.leader(); lead.id != "" {
			break
		}
		select {
		case <-changed:
		case <-s.stopped:
			return fmt.Errorf("hand over: %w", ErrClosed)
		case <-ctx.Done():
			return fmt.Errorf("hand over: %w", context.Cause(ctx))
		}
	}
	return s.askChange(ctx, "hand over", memberChange{kind: changeHandOver, id: to, address: lead.id})
}

func (s *Store) askChange(ctx context.Context, what string, c memberChange) error {
	if s.c == nil {
		return fmt.Errorf("%s: %w: this store has no Network, it stays alone", what, ErrInvalid)
	}
	if _, err := s.ask(ctx, callChange, c.encode()); err != nil {
		return fmt.Errorf("%s %s: %w", what, c.id, err)
	}
	return nil
}

// change makes a change that this member, as the leader, was asked for.
func (s *Store) change(ctx context.Context, c memberChange) error {
	if s.Term() == 0 {
		return ErrNotLeader
	}
	now, index := s.configuration()
	there := findServer(now, c.id)
	if c.kind == changeAdd || c.kind == changeMoved {
		for _, srv := range now.Servers {
			if string(srv.Address) == c.address && string(srv.ID) != c.id {
				return fmt.Errorf("%w: %s is the address of the member %q", ErrInvalid, c.address, srv.ID)
			}
		}
	}
	switch c.kind {
	case changeAdd:
		if there == nil {
			return s.add(ctx, c, index)
		}
		fallthrough
	case changeMoved:
		switch {
		case there == nil:
			return fmt.Errorf("%w: there is no member %q", ErrInvalid, c.id)
		case string(there.Address) == c.address:
			return nil
		}
		if err := s.foreignAt(ctx, c.address); err != nil {
			return err
		}
		if there.Suffrage == raft.Voter {
			return s.changed(s.raft.AddVoter(there.ID, raft.ServerAddress(c.address), index, enqueueFor))
		}
		return s.changed(s.raft.AddNonvoter(there.ID, raft.ServerAddress(c.address), index, enqueueFor))
	case changePromote:
		switch {
		case there == nil:
			return fmt.Errorf("%w: there is no member %q", ErrInvalid, c.id)
		case there.Suffrage == raft.Voter:
			return nil
		}
		return s.changed(s.raft.AddVoter(there.ID, there.Address, index, enqueueFor))
	case changeRemove:
		if there == nil {
			return nil // the call came twice
		}
		if mayRemove(s.membersNow(), c.id) != nil {
			s.askHealth(ctx, s.Term()) // what is known may be old
		}
		if err := mayRemove(s.membersNow(), c.id); err != nil {
			return err
		}
		if c.id == s.cfg.NodeID {
			if err := s.handOver(ctx, ""); err != nil {
				return err
			}
			return ErrNotLeader // who comes after removes this one
		}
		return s.changed(s.raft.RemoveServer(there.ID, index, enqueueFor))
	case changeHandOver:
		if c.address != "" && c.address != s.cfg.NodeID && (c.id == "" || c.id == s.cfg.NodeID) {
			return nil // the one that was asked has done it already
		}
		return s.handOver(ctx, c.id)
	}
	return fmt.Errorf("%w: change %d", ErrInvalid, c.kind)
}

func (s *Store) configuration() (raft.Configuration, uint64) {
	f := s.raft.GetConfiguration()
	return f.Configuration(), f.Index()
}

func findServer(c raft.Configuration, id string) *raft.Server {
	for i := range c.Servers {
		if string(c.Servers[i].ID) == id {
			return &c.Servers[i]
		}
	}
	return nil
}

// changed waits for a change of raft's configuration.
func (s *Store) changed(f raft.IndexFuture) error {
	s.committing.Add(1)
	defer s.committing.Add(-1)
	if err := f.Error(); err != nil {
		return s.translate(err)
	}
	return nil
}

// add adds a member that is not there. It looks at it first: to add one that holds another store
// would destroy that.
func (s *Store) add(ctx context.Context, c memberChange, index uint64) error {
	out, err := s.c.peers.call(ctx, c.address, callStatus, nil)
	if err != nil {
		return fmt.Errorf("the new member cannot be reached at %s: %w", c.address, err)
	}
	st, err := decodeMemberStatus(out)
	switch {
	case err != nil:
		return err
	case st.id != c.id:
		return fmt.Errorf("%w: at %s is the member %q", ErrInvalid, c.address, st.id)
	case s.foreign(&st) != nil:
		return s.foreign(&st)
	case len(st.members) > 0 && (len(st.members) == 1 || !slices.Contains(st.members, s.cfg.NodeID)):
		return fmt.Errorf("%w: %q holds another store: start it with Join and a new folder", ErrInvalid, c.id)
	case st.speaks < s.m.formatVersion():
		return fmt.Errorf("%w: %q speaks version %d of the log's format, and this store writes %d: upgrade it first",
			ErrInvalid, c.id, st.speaks, s.m.formatVersion())
	}
	return s.changed(s.raft.AddNonvoter(raft.ServerID(c.id), raft.ServerAddress(c.address), index, enqueueFor))
}

// handOver makes another voter the leader.
func (s *Store) handOver(ctx context.Context, to string) error {
	if to == s.cfg.NodeID {
		return nil
	}
	pick := successor(s.membersNow(), to)
	if pick == nil {
		s.askHealth(ctx, s.Term()) // it may have come a moment ago
		pick = successor(s.membersNow(), to)
	}
	if pick == nil {
		if to == "" {
			return fmt.Errorf("%w: there is no other healthy voter", ErrInvalid)
		}
		return fmt.Errorf("%w: %q is no healthy voter", ErrInvalid, to)
	}
	term := s.Term()
	done := make(chan error, 1)
	go func() { // raft may never answer when it stops meanwhile
		done <- s.raft.LeadershipTransferToServer(raft.ServerID(pick.ID), raft.ServerAddress(pick.Address)).Error()
	}()
	select {
	case err := <-done:
		if err != nil {
			return s.translate(err)
		}
	case <-s.stopped:
		return ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for { // until this member knows it, too
		l, changed := s.Leader()
		if !l.Leading || l.Term != term {
			return nil
		}
		select {
		case <-changed:
		case <-s.stopped:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// successor is the healthy voter that is furthest, or the one that is wanted; nil if there is none.
func successor(ms []Member, want string) *Member {
	var pick *Member
	for i := range ms {
		m := &ms[i]
		if m.Leader || want != "" && m.ID != want {
			continue
		}
		if m.Voter && m.Healthy && (pick == nil || m.AppliedIndex > pick.AppliedIndex) {
			pick = m
		}
	}
	return pick
}

// handOverBeforeStop is bounded: a leader that cannot hand over stops all the same.
func (s *Store) handOverBeforeStop() {
	if s.c == nil || s.Term() == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), handOverWait)
	defer cancel()
	if err := s.handOver(ctx, ""); err != nil && !errors.Is(err, ErrInvalid) {
		s.cfg.Logger.Info("stopping without having handed over the leadership", "error", err)
	}
}

const handOverWait = 3 * time.Second

// status is what this member says of itself.
func (s *Store) status() memberStatus {
	st := memberStatus{id: s.cfg.NodeID, address: s.cfg.Address, term: s.raft.CurrentTerm(), lastIndex: s.raft.LastIndex(),
		applied: s.m.appliedIndex(), speaks: s.cfg.speaks, cluster: s.cfg.Cluster}
	if err := s.fail.get(); err != nil {
		st.failure = err.Error()
	}
	for _, srv := range s.raft.GetConfiguration().Configuration().Servers {
		st.members = append(st.members, string(srv.ID))
	}
	return st
}

// listMembers is the leader's answer to Members.
func (s *Store) listMembers() ([]byte, error) {
	if s.Term() == 0 {
		return nil, ErrNotLeader
	}
	var out [][]byte
	for _, m := range s.membersNow() {
		out = append(out, encodeMember(&m))
	}
	return encodeMessages(out), nil
}
