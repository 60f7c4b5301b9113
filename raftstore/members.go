package raftstore

import (
	"context"
	"time"
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

// Members lists the members, by ID. It may be called on any of them.
func (s *Store) Members(ctx context.Context) ([]Member, error) {
	return nil, s.callMembers(ctx)
}

// AddMember adds a member, which must run with Config.Join and this id and be reachable at the
// address. It joins without a vote, and gets one by itself once it has caught up and stayed so.
// For a member that is there already it changes the address.
func (s *Store) AddMember(ctx context.Context, id, address string) error {
	return s.callMembers(ctx)
}

// PromoteMember gives a member its vote now.
func (s *Store) PromoteMember(ctx context.Context, id string) error {
	return s.callMembers(ctx)
}

// RemoveMember removes a member. It is refused if the voters that remain and are healthy are no
// majority. A removed member's folder is of no more use: it joins again with a new one.
func (s *Store) RemoveMember(ctx context.Context, id string) error {
	return s.callMembers(ctx)
}

// HandOver makes another voter the leader; "" is the one that is furthest. Run does it before an
// orderly stop.
func (s *Store) HandOver(ctx context.Context, to string) error {
	return s.callMembers(ctx)
}

func (s *Store) callMembers(context.Context) error { return ErrInvalid }
