package raftstore

import (
	"fmt"
	"log/slog"
	"time"
)

// Clock tells the time. It decides when leases expire and how old a revision is, on the leader
// only, and never what the state machine does.
type Clock interface{ Now() time.Time }

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

// Config says how to open a Store. Its zero value is a store in memory.
type Config struct {
	// Dir holds everything; it is made if it is not there. "" keeps everything in memory.
	Dir string
	// NodeID names this member among the voters; "" is "single". It never changes for a folder.
	NodeID string
	// KeyProvider has everything in Dir, and every backup, sealed under a data key that it wraps. A
	// folder that was not sealed is sealed when it is opened with one. nil: nothing is sealed, and a
	// folder that is sealed is refused with ErrKey.
	KeyProvider KeyProvider
	// Unseal has a folder that KeyProvider sealed written anew, unsealed, when it is opened.
	Unseal bool
	// Backups has Run write a backup into a folder from time to time. The zero value: none.
	Backups BackupSchedule
	// Logger; nil discards. What raft reports as information is logged for debugging.
	Logger *slog.Logger
	// Clock; nil is the system's.
	Clock Clock
	// RetainRevisions is how many revisions of the past are kept, and up to a quarter more; 0 is
	// 10,000.
	RetainRevisions int64
	// RetainAge is the age at which a revision of the past is forgotten even if there are fewer;
	// 0 is 5 minutes.
	RetainAge time.Duration
	// NoAutoCompact leaves forgetting to Compact alone. The folder then grows without bound.
	NoAutoCompact bool

	// fault, in tests, is asked before each kind of disk operation: "log", "stable", "flush",
	// "snapshot".
	fault func(op string) error
}

func (c Config) withDefaults() (Config, error) {
	if c.NodeID == "" {
		c.NodeID = "single"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Clock == nil {
		c.Clock = systemClock{}
	}
	if c.RetainRevisions < 0 || c.RetainAge < 0 {
		return c, fmt.Errorf("%w: RetainRevisions and RetainAge cannot be negative", ErrInvalid)
	}
	if c.RetainRevisions == 0 {
		c.RetainRevisions = 10_000
	}
	if c.RetainAge == 0 {
		c.RetainAge = 5 * time.Minute
	}
	return c, nil
}
