// Package registry is the one way to the cluster's objects: the one write path and the typed read cache.
//
// The types to know: New makes a Registry from a Config, Run feeds its cache, and everybody reads and
// writes through it. An Entry is one immutable version of one object. A Watcher delivers changes.
// Client is the narrow view of it that controllers and the scheduler take.
//
// # One write
//
// Every write, a person's or a controller's, takes the same steps in one call: default, prepare, admit,
// validate, set uid, timestamps and generation, encode, and compare-and-swap in the store. The revision
// of the write becomes the object's resourceVersion. A write returns once the cache has reached it, so
// that whoever writes can read what it wrote.
//
// # One copy
//
// The cache holds one decoded object per key with its JSON beside it, made on first need. Get, List and
// Watch hand out the same pointers to everybody.
//
// # Bytes beside an object
//
// What is too large for an object lies beside it, out of the cache: PutBytes replaces it as a whole, Bytes reads it, and
// it goes with the object.
//
// # Concurrency properties
//
// Every method may be called from any goroutine. Nothing is encoded or decoded under a lock. Watchers
// pull from a bounded ring of recent events: they never hold up the feeder or each other, and one that
// falls out of the ring is ended with an Expired error (410).
//
// # Caveats
//
// Objects that come out of an Entry are shared and must not be changed. Until Ready is closed, calls
// wait. Reads answer from this process's cache; with one server that is linearizable, because every
// acknowledged write is in it.
package registry
