// Package raftstoretest proves stores right. It is for tests.
//
// NewCluster runs a store of several members in this process, on a Net that can be cut and slowed.
//
// Conformance runs the suite of properties that raftstore promises against anything with its
// methods: Store is the contract in raftstore's own types, Of adapts a *raftstore.Store, and Model
// is the plainest implementation that passes, for tests that compare a store with what it should be.
//
// # The properties
//
// Writes (txn.go): a Txn runs Then or Else, whole or not at all, at one revision; every Compare on
// every target and relation says what its table says; operations see the ones before them; what makes
// no sense is refused with ErrInvalid before anything is written.
//
// Reads (ranges.go): keys come in bytewise order; prefixes, ends, limits, pages, key-only and
// count-only answers agree with each other at every retained revision.
//
// Revisions (revisions.go): they grow by one for each write, never for a read; versions and creation
// revisions count as documented; the past stays as it was; compaction forgets exactly what was asked.
//
// Watches (watches.go): from any retained revision, each change under the prefix is delivered exactly
// once, in order, with what it replaced, and a revision is never split; progress tells how far; a
// watch that cannot be complete ends with ErrCompacted.
//
// Leases (leases.go): a lease takes its keys with it, at one revision, when it is revoked or expires,
// and not before; a key belongs to the lease of its newest version.
//
// Concurrency (concurrency.go): every method may be called from any goroutine; compare-and-swap loses
// no increment; a read after an acknowledged write sees it; readers see whole transactions; a list and
// the watch from the revision after it miss nothing and repeat nothing while writes go on; a watcher
// that nobody reads delays nobody.
//
// Restarts (restart.go), for stores that implement Restarter: everything acknowledged, and the history
// that was retained, is there afterwards; leases live on; revisions never come twice.
package raftstoretest
