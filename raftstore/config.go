package raftstore

import (
	"fmt"
	"log/slog"
	"strings"
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
	// Network connects this member with the others. nil: a single voter for ever, which dials nobody
	// and listens to nobody.
	Network Network
	// Address is where the others dial this member, in the terms of Network. It may change between
	// two runs.
	Address string
	// Join makes a new folder wait until a member adds it (AddMember) instead of starting a store of
	// its own. It has no effect on a folder that has been filled.
	Join bool
	// Cluster is an id that all members share and no other cluster has. It stays with the folder. Members of another
	// cluster are not added, and a folder of another is refused. "": what the folder says; where it says nothing
	// either, clusters are told apart by their members' names alone.
	Cluster string
	// LogBytes is how large the log on disk gets, more or less, before the part that the state file
	// has is cut off; half of it stays for members that were away. 0 is 32 MiB.
	LogBytes int64
	// RemoveDeadAfter is how long a voter must have been away before it is removed, and only if at
	// least three voters remain and enough of them are healthy; 0 is 24 hours, negative: never.
	RemoveDeadAfter time.Duration
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

	// speaks is the highest version of the log's format that this member speaks; tests lower or raise
	// it. 0: what this code speaks.
	speaks int
	// fault, in tests, is asked before each kind of disk operation: "log", "stable", "flush",
	// "snapshot".
	fault func(op string) error
	// segBytes is when the log begins a new file, for tests; 0: segMaxSize.
	segBytes uint32
}

func (c Config) withDefaults() (Config, error) {
	if c.Network != nil && c.NodeID == "" {
		return c, fmt.Errorf("%w: Network needs a NodeID, which no other member has", ErrInvalid)
	}
	if c.NodeID == "" {
		c.NodeID = "single"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Clock == nil {
		c.Clock = systemClock{}
	}
	if c.Network != nil && c.Address == "" {
		return c, fmt.Errorf("%w: Network needs an Address, where the other members dial this one", ErrInvalid)
	}
	if c.Network == nil && (c.Join || c.Address != "") {
		return c, fmt.Errorf("%w: Join and Address need a Network", ErrInvalid)
	}
	if strings.ContainsAny(c.Cluster, "\r\n") || len(c.Cluster) > 256 {
		return c, fmt.Errorf("%w: Cluster is one line, of 256 bytes at most", ErrInvalid)
	}
	if c.speaks == 0 {
		c.speaks = programSpeaks
	}
	if c.RemoveDeadAfter == 0 {
		c.RemoveDeadAfter = 24 * time.Hour
	}
	if c.RetainRevisions < 0 || c.RetainAge < 0 || c.LogBytes < 0 {
		return c, fmt.Errorf("%w: RetainRevisions, RetainAge and LogBytes cannot be negative", ErrInvalid)
	}
	if c.LogBytes == 0 {
		c.LogBytes = 32 << 20
	}
	if c.RetainRevisions == 0 {
		c.RetainRevisions = 10_000
	}
	if c.RetainAge == 0 {
		c.RetainAge = 5 * time.Minute
	}
	return c, nil
}
