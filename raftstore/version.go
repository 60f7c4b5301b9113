package raftstore

import (
	"context"

	"google.golang.org/protobuf/encoding/protowire"
)

// The log's format has a version, and every member the highest that it speaks. What the store writes
// is in the version that all of them speak: a replicated number, which the leader raises once every
// member has announced more. So members are upgraded one by one, in any order, and an older one never
// sees an entry that it cannot read. The number never goes down: AddMember refuses who speaks less,
// and so does Open.

func (m *machine) formatVersion() int { return int(m.version.Load()) }

func (s *Store) raiseVersion(ctx context.Context, to int) error {
	_, err := s.submitAnywhere(ctx, &command{version: to})
	return err
}

// The next version does not exist yet. Its place is held by one that tests of upgrades make members
// speak: each entry of it has one more field, on which a member of version 1 stops.
const (
	formatMadeUp = formatVersion + 1
	fieldMadeUp  = 15
)

// newestForm puts an entry into the newest form that everybody reads.
func (m *machine) newestForm(entry []byte) []byte {
	if m.version.Load() < formatMadeUp {
		return entry
	}
	return putVarint(entry, fieldMadeUp, 1)
}

// knownForm takes out of an entry what only a newer version has, if this member speaks that.
func (m *machine) knownForm(entry []byte) []byte {
	if m.speaks < formatMadeUp {
		return entry
	}
	end := protowire.AppendVarint(protowire.AppendTag(nil, fieldMadeUp, protowire.VarintType), 1)
	if n := len(entry) - len(end); n >= 0 && string(entry[n:]) == string(end) {
		return entry[:n]
	}
	return entry
}
