package registry

import (
	"sort"

	"k8s.io/apimachinery/pkg/watch"
)

// record is one change, as the ring keeps it.
type record struct {
	kind     watch.EventType // Added, Modified or Deleted
	entry    *Entry          // after the change; for Deleted, the last version at the deletion's revision
	prev     *Entry          // before it; nil for Added
	revision int64
}

// ring is the newest changes of one resource. Watchers read it at their own pace and keep nothing of
// their own, so that a thousand slow watchers cost no more than one.
type ring struct {
	limit   uint64
	records []record // the change with sequence number s is at s % limit
	next    uint64   // sequence number of the next change
	floor   int64    // every change after this revision is in the ring
}

// cursor is a place in a ring: the next sequence number to read, in one epoch of its resource.
type cursor struct {
	next  uint64
	epoch int
}

func (r *ring) push(ev record) {
	if uint64(len(r.records)) < r.limit {
		r.records = append(r.records, ev)
	} else {
		slot := &r.records[r.next%r.limit]
		r.floor = slot.revision
		*slot = ev
	}
	r.next++
}

// after is the sequence number of the first change after a revision; false when it is no longer kept.
func (r *ring) after(revision int64) (uint64, bool) {
	if revision < r.floor {
		return 0, false
	}
	first := r.next - uint64(len(r.records))
	n := sort.Search(len(r.records), func(n int) bool {
		return r.records[(first+uint64(n))%r.limit].revision > revision
	})
	return first + uint64(n), true
}

// read copies at most limit records from seq on; false when they are no longer kept.
func (r *ring) read(seq uint64, limit int) ([]record, bool) {
	if seq+uint64(len(r.records)) < r.next {
		return nil, false
	}
	n := min(int(r.next-seq), limit)
	out := make([]record, 0, n)
	for i := range n {
		out = append(out, r.records[(seq+uint64(i))%r.limit])
	}
	return out, true
}
