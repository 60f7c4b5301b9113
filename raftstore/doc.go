// Package raftstore is a replicated, durable key-value store with revisions.
//
// The types to know: Open a Store with a Config, Run it, wait for Ready. Txn writes, Range reads,
// Watch tells of changes. Every write takes the next revision of the whole store; the past can be
// read and watched until it is compacted.
//
// # Concurrency properties
//
// Every method of Store may be called from any goroutine, at any time after Open; those that need
// a leader wait for one until their context ends. A read never waits for a write, a watcher never
// holds up a write, and concurrent writes share one fsync. A Watcher belongs to one goroutine.
//
// # Members
//
// With Config.Network a store has several members. The first starts it; the others are opened with
// Join, wait for AddMember, and get their vote once they have caught up. Every member takes every
// call: writes are forwarded to the leader and done exactly once, whatever happens to it meanwhile;
// reads are linearizable everywhere, or Local; watches are served from the member's own state. Only
// a Txn with a Term stays where it was made. A majority must be up and connected for everything but
// Local reads and watches. Cancelling Run's context hands the leadership over first; Close does not.
//
// # Durability
//
// A write is acknowledged after it is synced to the raft log. When the disk fails or is full, the
// node becomes degraded: writes return ErrDegraded with what to do, Local reads go on, and nothing
// panics. It stays degraded when the cause is gone: end Run, Close, Open and Run again. Check and
// CheckFolder say whether a folder is sound.
//
// # Encryption at rest
//
// With Config.KeyProvider everything in the folder, and every backup, is sealed with AES-256-GCM;
// FileKey is a provider with a key in a file. See RotateKey, RewrapKey, and DESIGN.md for what
// remains visible.
//
// # Caveats
//
// Keys are non-empty strings, ordered bytewise. What the store returns is shared: never write to
// a KV's Value. The members trust each other: Network authenticates them.
package raftstore
