package registry

import (
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pintle/pintle/orchestrator/api"
)

// resource is every object of one stored kind, and its recent changes. Only the feeder writes to it.
type resource struct {
	kind   *api.Kind
	prefix string // of its keys in the store

	mu         sync.RWMutex // guards what follows; held for pointer work only, never while encoding
	entries    map[string]*Entry
	sorted     []*Entry            // by key
	namespaces map[string][]*Entry // by key
	indexes    indexes
	lastMod    int64 // revision of the last change
	ring       ring
	// epoch counts reloads, each of which ends all watches.
	epoch int
	// changed is closed, and replaced, whenever something is added to the ring or the epoch changes.
	changed chan struct{}
}

func newResource(kind *api.Kind, recent int) *resource {
	return &resource{kind: kind, prefix: root + resourcePath(kind.GVR()) + "/", entries: map[string]*Entry{},
		namespaces: map[string][]*Entry{}, indexes: indexes{owners: map[types.UID]map[string]*Entry{}},
		ring: ring{limit: uint64(recent)}, changed: make(chan struct{})}
}

func (c *resource) get(key string) *Entry {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.entries[key]
}

// snapshot copies the pointers of one namespace ("": all), with the place in the ring from which a
// watch misses nothing and the revision of the last change.
func (c *resource) snapshot(namespace string) (entries []*Entry, at cursor, lastMod int64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if namespace == "" {
		entries = slices.Clone(c.sorted)
	} else {
		entries = slices.Clone(c.namespaces[namespace])
	}
	return entries, cursor{next: c.ring.next, epoch: c.epoch}, c.lastMod
}

// wait returns the entry of key, or nil and a channel that is closed at the next change.
func (c *resource) wait(key string) (*Entry, <-chan struct{}) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.entries[key], c.changed
}

// change is one decoded event of the store.
type change struct {
	key      string
	entry    *Entry // nil for a deletion
	deleted  *Entry // the last version, at the deletion's revision
	revision int64
}

// apply takes over the changes of one batch, all or none visible. observe is told of each, under the lock.
func (c *resource) apply(changes []change, observe func(old, now *Entry)) {
	c.copyDeleted(changes)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ch := range changes {
		prev := c.entries[ch.key]
		ev := record{prev: prev, entry: ch.entry, revision: ch.revision}
		switch {
		case ch.entry == nil && prev == nil:
			continue
		case ch.entry == nil:
			c.removeLocked(prev)
			ev.kind, ev.entry = watch.Deleted, ch.deleted
		case prev == nil:
			c.insertLocked(ch.entry)
			ev.kind = watch.Added
		default:
			c.indexes.remove(prev)
			c.insertLocked(ch.entry)
			ev.kind = watch.Modified
		}
		if observe != nil {
			observe(prev, ch.entry)
		}
		c.lastMod = ch.revision
		c.ring.push(ev)
	}
	c.wakeLocked()
}

// copyDeleted makes the copies for deletions outside the lock. Only the feeder writes, so what is there
// now is what apply finds, unless the same batch changes the key before.
func (c *resource) copyDeleted(changes []change) {
	latest := map[string]*Entry{}
	for n := range changes {
		ch := &changes[n]
		if ch.entry != nil {
			latest[ch.key] = ch.entry
			continue
		}
		last, ok := latest[ch.key]
		if !ok {
			last = c.get(ch.key)
		}
		latest[ch.key] = nil
		if last != nil {
			ch.deleted = last.at(ch.revision)
		}
	}
}

// reset replaces everything: at the start, and when the feeder fell behind what the store keeps.
func (c *resource) reset(entries []*Entry, revision int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries, c.namespaces, c.sorted = make(map[string]*Entry, len(entries)), map[string][]*Entry{}, nil
	c.indexes.clear()
	for _, e := range entries { // in the order of their keys
		c.insertLocked(e)
	}
	c.ring = ring{limit: c.ring.limit, floor: revision}
	c.lastMod = revision
	c.epoch++
	c.wakeLocked()
}

func (c *resource) insertLocked(e *Entry) {
	c.entries[e.key] = e
	c.sorted = insertSorted(c.sorted, e)
	if ns := namespaceOf(e.key); ns != "" {
		c.namespaces[ns] = insertSorted(c.namespaces[ns], e)
	}
	c.indexes.insert(e)
}

func (c *resource) removeLocked(e *Entry) {
	c.indexes.remove(e)
	delete(c.entries, e.key)
	c.sorted = removeSorted(c.sorted, e)
	if ns := namespaceOf(e.key); ns != "" {
		if c.namespaces[ns] = removeSorted(c.namespaces[ns], e); len(c.namespaces[ns]) == 0 {
			delete(c.namespaces, ns)
		}
	}
}

func (c *resource) wakeLocked() {
	close(c.changed)
	c.changed = make(chan struct{})
}

func byKey(a, b *Entry) int { return strings.Compare(a.key, b.key) }

func insertSorted(list []*Entry, e *Entry) []*Entry {
	if n := len(list); n == 0 || list[n-1].key < e.key {
		return append(list, e)
	}
	at, found := slices.BinarySearchFunc(list, e, byKey)
	if found {
		list[at] = e
		return list
	}
	return slices.Insert(list, at, e)
}

func removeSorted(list []*Entry, e *Entry) []*Entry {
	if at, found := slices.BinarySearchFunc(list, e, byKey); found {
		return slices.Delete(list, at, at+1)
	}
	return list
}
