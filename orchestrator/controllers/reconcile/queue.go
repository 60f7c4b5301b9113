package reconcile

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/clock"
)

// Key names what a reconcile is about. Resource is set only by controllers that reconcile more
// than one kind.
type Key struct {
	Resource  schema.GroupVersionResource
	Namespace string
	Name      string
}

func (k Key) String() string {
	s := k.Name
	if k.Namespace != "" {
		s = k.Namespace + "/" + s
	}
	if k.Resource.Resource != "" {
		s = k.Resource.Resource + ":" + s
	}
	return s
}

const (
	minBackoff = 5 * time.Millisecond
	maxBackoff = 30 * time.Second
)

type delayed struct {
	timer clock.Timer
	at    time.Time
	gen   uint64
}

// queue hands out each key to one worker at a time, remembers keys that come back while they are
// being worked on, and delays keys that failed, longer each time.
type queue struct {
	clock clock.WithDelayedExecution

	mu         sync.Mutex
	cond       *sync.Cond
	order      []Key
	dirty      map[Key]struct{}
	processing map[Key]struct{}
	failures   map[Key]int
	timers     map[Key]delayed
	gen        uint64
	closed     bool
}

func newQueue(c clock.WithDelayedExecution) *queue {
	q := &queue{clock: c, dirty: map[Key]struct{}{}, processing: map[Key]struct{}{},
		failures: map[Key]int{}, timers: map[Key]delayed{}}
	q.cond = sync.NewCond(&q.mu)
	return q
}

func (q *queue) add(k Key) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.addLocked(k)
}

func (q *queue) addLocked(k Key) {
	if q.closed {
		return
	}
	if _, ok := q.dirty[k]; ok {
		return
	}
	q.dirty[k] = struct{}{}
	if _, ok := q.processing[k]; ok {
		return
	}
	q.order = append(q.order, k)
	q.cond.Signal()
}

// addAfter enqueues k after d. Of several delays for one key the earliest wins.
func (q *queue) addAfter(k Key, d time.Duration) {
	if d <= 0 {
		q.add(k)
		return
	}
	at := q.clock.Now().Add(d)
	q.mu.Lock()
	old, ok := q.timers[k]
	if q.closed || ok && !old.at.After(at) {
		q.mu.Unlock()
		return
	}
	q.gen++
	gen := q.gen
	q.timers[k] = delayed{at: at, gen: gen}
	q.mu.Unlock()
	if old.timer != nil {
		old.timer.Stop()
	}
	// The clock is called without the lock, and answers on a goroutine of its own: a fake clock
	// fires while it holds its own lock.
	t := q.clock.AfterFunc(d, func() { go q.fire(k, gen) })
	q.mu.Lock()
	cur, ok := q.timers[k]
	stale := q.closed || !ok || cur.gen != gen
	if !stale {
		cur.timer = t
		q.timers[k] = cur
	}
	q.mu.Unlock()
	if stale {
		t.Stop()
	}
}

func (q *queue) fire(k Key, gen uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if cur, ok := q.timers[k]; ok && cur.gen == gen {
		delete(q.timers, k)
		q.addLocked(k)
	}
}

func (q *queue) addRateLimited(k Key) {
	q.mu.Lock()
	n := q.failures[k]
	q.failures[k] = n + 1
	q.mu.Unlock()
	q.addAfter(k, backoff(n))
}

func backoff(n int) time.Duration {
	if n > 12 {
		return maxBackoff
	}
	return min(minBackoff<<n, maxBackoff)
}

func (q *queue) forget(k Key) {
	q.mu.Lock()
	delete(q.failures, k)
	q.mu.Unlock()
}

// get blocks for a key; ok is false once the queue is closed.
func (q *queue) get() (k Key, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.order) == 0 && !q.closed {
		q.cond.Wait()
	}
	if q.closed {
		return Key{}, false
	}
	k = q.order[0]
	q.order = q.order[1:]
	q.processing[k] = struct{}{}
	delete(q.dirty, k)
	return k, true
}

func (q *queue) done(k Key) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.processing, k)
	if _, ok := q.dirty[k]; ok && !q.closed {
		q.order = append(q.order, k)
		q.cond.Signal()
	}
}

func (q *queue) depth() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.order)
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	timers := q.timers
	q.timers = map[Key]delayed{}
	q.mu.Unlock()
	q.cond.Broadcast()
	for _, d := range timers {
		if d.timer != nil {
			d.timer.Stop()
		}
	}
}
