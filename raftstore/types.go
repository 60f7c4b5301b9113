package raftstore

import "fmt"

// KV is one version of one key. What the store returns is shared with other readers: treat
// Value as read-only.
type KV struct {
	Key   string
	Value []byte
	// CreateRevision is the revision that created the key (again, after a deletion).
	CreateRevision int64
	// ModRevision is the revision of this version.
	ModRevision int64
	// Version counts the writes since the creation: 1 is the creation itself.
	Version int64
	// Lease is the lease that the key dies with, or 0.
	Lease int64
}

// CompareTarget is what a Compare looks at.
type CompareTarget uint8

// The targets. A key that does not exist has 0 for each number and an empty value.
const (
	ModRevision CompareTarget = iota
	Version
	CreateRevision
	Value
)

// Relation is how the stored side (left) stands to the given side (right).
type Relation uint8

// The relations; bytes compare lexically.
const (
	Equal Relation = iota
	NotEqual
	Less
	Greater
)

// Compare is one condition on one key. {Key: k, Target: ModRevision, Int: 0} says that k does not exist.
type Compare struct {
	Key      string
	Target   CompareTarget
	Relation Relation
	Int      int64  // for every target but Value
	Value    []byte // for Value
}

// OpType says what an Op does.
type OpType uint8

// The operations.
const (
	OpGet          OpType = iota // reads Key, sees the writes before it in the same Txn
	OpPut                        // writes Value under Key; the result holds nothing
	OpDelete                     // deletes Key, if it is there; the result holds what it was
	OpDeletePrefix               // deletes every key that starts with Key; "" is all of them
)

// Op is one operation of a Txn.
type Op struct {
	Type  OpType
	Key   string
	Value []byte
	Lease int64 // OpPut: the lease the key dies with; 0: none
}

// Txn runs Then if all of If hold (none: always), else Else, atomically. All its writes share one
// revision; a Txn that writes nothing takes none. No key may be written twice in one Txn.
type Txn struct {
	If         []Compare
	Then, Else []Op
	// Term fences: not 0, the Txn fails with ErrFenced if it is applied in a later raft term than
	// this, so that a deposed leader cannot write through its successor.
	Term uint64
}

// OpResult is the outcome of the Op at the same place in Then or Else.
type OpResult struct {
	KVs     []KV  // OpGet: the key, if it is there; OpDelete and OpDeletePrefix: what was deleted
	Deleted int64 // how many keys were deleted
}

// TxnResult is the outcome of a Txn.
type TxnResult struct {
	Succeeded bool  // whether all of If held
	Revision  int64 // of the store after the Txn; of its writes, if there were any
	Results   []OpResult
}

// RangeRequest asks for keys in order. Exactly one way of naming them: Prefix; Key alone, for that
// key; Key and End, for Key ≤ k < End. With Prefix, a Key that starts with it is where to begin (for
// paging: the last key seen + "\x00"). All empty: every key.
type RangeRequest struct {
	Prefix, Key, End string
	// Limit is the most KVs to return; 0: no limit.
	Limit int
	// Revision reads the past; 0: now. ErrCompacted when it is no longer kept, ErrFutureRevision
	// when it has not been reached.
	Revision  int64
	KeysOnly  bool // leaves Value nil
	CountOnly bool // leaves KVs nil
	// Local reads what this node has applied, which may be behind what was acknowledged elsewhere.
	// Otherwise the read is linearizable.
	Local bool
}

// RangeResult is the answer to a RangeRequest.
type RangeResult struct {
	KVs      []KV
	More     bool  // Limit cut the answer
	Count    int64 // how many keys there are, whatever the Limit
	Revision int64 // at which the answer holds
}

// EventType is the kind of an Event.
type EventType uint8

// The types of events.
const (
	Put EventType = iota
	Delete
)

func (t EventType) String() string {
	switch t {
	case Put:
		return "put"
	case Delete:
		return "delete"
	}
	return fmt.Sprintf("EventType(%d)", uint8(t))
}

// Event is one change of one key.
type Event struct {
	Type EventType
	// KV is the key after the change. For Delete it holds only Key and ModRevision.
	KV KV
	// Prev is the key before the change; nil if it did not exist.
	Prev *KV
}

// WatchRequest says what to watch.
type WatchRequest struct {
	Prefix string // "" is every key
	// From is the first revision wanted; 0: whatever comes after now.
	From int64
	// Progress has Next return a batch without events when the store has moved on and nothing
	// matched, so that the watcher knows it has seen everything up to that revision.
	Progress bool
}

// WatchBatch is what Next returns: every event up to Revision that no earlier batch held, in
// order. The events of one revision are never split.
type WatchBatch struct {
	Revision int64
	Events   []Event
}

// Leader is this node's view of its own leadership.
type Leader struct {
	Term    uint64 // the raft term
	Leading bool   // whether this node leads in it, and has applied everything before it
}
