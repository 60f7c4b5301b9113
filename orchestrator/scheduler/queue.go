package scheduler

import (
	"container/heap"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

// Back-off of a pod that couldn't be scheduled, and how long it may wait for a change before it is
// tried again all the same. Kubernetes documents the same defaults.
const (
	firstBackoff   = time.Second
	longestBackoff = 10 * time.Second
	longestPark    = 5 * time.Minute
)

// queue holds the pods that have no node. A pod is active (in the heap), or parked until something
// changes; a parked pod that was woken during its back-off becomes active when that has passed.
// It belongs to the scheduler's loop.
type queue struct {
	active activeHeap
	pods   map[types.UID]*pending
	waits  map[types.UID]*pending // those that are parked
	next   time.Time              // nothing that waits is due before; zero: look
}

type pending struct {
	pod      *framework.Pod
	index    int   // in the heap, -1 when not there
	key      int64 // a policy's: its place before its priority
	attempts int
	backoff  time.Time // not before
	parked   time.Time // since when
	woken    bool
	refused  map[string]bool // plugins that refused a node the last time; nil: it failed otherwise
}

func newQueue() *queue {
	return &queue{pods: map[types.UID]*pending{}, waits: map[types.UID]*pending{}}
}

// set adds a pod or replaces what is known of it. A parked pod that changed is tried again.
func (q *queue) set(pod *framework.Pod, key int64) {
	p := q.pods[pod.UID]
	if p == nil {
		p = &pending{pod: pod, index: -1, key: key}
		q.pods[pod.UID] = p
		heap.Push(&q.active, p)
		return
	}
	specChanged := p.pod.Generation != pod.Generation || len(p.pod.Labels) != len(pod.Labels) ||
		len(p.pod.Status.ResourceClaimStatuses) != len(pod.Status.ResourceClaimStatuses)
	p.pod, p.key = pod, key
	if p.index >= 0 {
		heap.Fix(&q.active, p.index)
	} else if specChanged {
		q.wakeOne(p)
	}
}

func (q *queue) remove(uid types.UID) {
	p := q.pods[uid]
	if p == nil {
		return
	}
	if p.index >= 0 {
		heap.Remove(&q.active, p.index)
	}
	delete(q.pods, uid)
	delete(q.waits, uid)
}

// pop returns the next pod to schedule, or nil.
func (q *queue) pop() *pending {
	if len(q.active) == 0 {
		return nil
	}
	return heap.Pop(&q.active).(*pending)
}

// park puts back a pod that couldn't be scheduled, with the plugins that refused it.
func (q *queue) park(p *pending, now time.Time, refused map[string]bool) {
	if q.pods[p.pod.UID] != p {
		return // deleted meanwhile
	}
	wait := min(firstBackoff<<min(p.attempts, 8), longestBackoff)
	p.attempts++
	p.parked, p.backoff, p.woken, p.refused = now, now.Add(wait), false, refused
	q.waits[p.pod.UID] = p
	q.next = time.Time{}
}

// wake marks the parked pods that a change may help; helps nil means all of them.
func (q *queue) wake(helps func(refused map[string]bool) bool) {
	q.wakeEach(func(p *pending) bool { return helps == nil || p.refused == nil || helps(p.refused) })
}

// wakeEach marks the parked pods that a change helps.
func (q *queue) wakeEach(helps func(p *pending) bool) {
	for _, p := range q.waits {
		if !p.woken && helps(p) {
			q.wakeOne(p)
		}
	}
}

func (q *queue) wakeOne(p *pending) {
	p.woken = true
	q.next = time.Time{}
}

// activate moves pods whose time has come into the heap and returns how long until the next one's,
// or 0 when there is none.
func (q *queue) activate(now time.Time) (next time.Duration) {
	if len(q.waits) == 0 {
		return 0
	}
	if wait := q.next.Sub(now); wait > 0 {
		return wait
	}
	for uid, p := range q.waits {
		due := p.parked.Add(longestPark)
		if p.woken {
			due = p.backoff
		}
		wait := due.Sub(now)
		if wait <= 0 {
			delete(q.waits, uid)
			heap.Push(&q.active, p)
		} else if next == 0 || wait < next {
			next = wait
		}
	}
	q.next = now.Add(next)
	return next
}

// activeHeap orders by a policy's key, then by priority, then by age.
type activeHeap []*pending

func (h activeHeap) Len() int { return len(h) }
func (h activeHeap) Less(i, j int) bool {
	if h[i].key != h[j].key {
		return h[i].key < h[j].key
	}
	a, b := h[i].pod, h[j].pod
	if pa, pb := priority(a), priority(b); pa != pb {
		return pa > pb
	}
	if !a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return a.CreationTimestamp.Before(&b.CreationTimestamp)
	}
	return a.Name < b.Name
}
func (h activeHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *activeHeap) Push(x any) {
	p := x.(*pending)
	p.index = len(*h)
	*h = append(*h, p)
}
func (h *activeHeap) Pop() any {
	old := *h
	p := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	p.index = -1
	return p
}

func priority(p *framework.Pod) int32 {
	if p.Spec.Priority == nil {
		return 0
	}
	return *p.Spec.Priority
}
