package raftstore

import "context"

// The log's format has a version, and every member the highest that it speaks. What the store writes
// is in the version that all of them speak: a replicated number, which the leader raises once every
// member has announced more. So members are upgraded one by one, in any order, and an older one never
// sees an entry that it cannot read. The number never goes down: AddMember refuses who speaks less,
// and so does Open.

// formatNow is the version that this code speaks.
const formatNow = 1

func (m *machine) formatVersion() int { return int(m.version.Load()) }

func (s *Store) raiseVersion(ctx context.Context, to int) error {
	_, err := s.submitAnywhere(ctx, &command{version: to})
	return err
}
