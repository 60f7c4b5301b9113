package runtime

import (
	"context"
	"slices"
	"sync"
	"time"
)

// turns has few pods start at a time, in the order of asking. Fifty that start at once all become ready late: they fight
// for the processors, for containerd and for the kernel's locks. In turns the first serve soon, and the last no later.
type turns struct {
	mu    sync.Mutex
	free  int
	queue []chan struct{} // closed when it is that one's turn
}

// longestTurn is after what time a pod that is still starting (it unpacks its image, or hangs) makes room for the next.
const longestTurn = 2 * time.Second

// take waits for a turn and returns what ends it, which may be called more than once. It returns nil when ctx ends, or
// when, at a wake, off says that nothing is to be started any more.
func (t *turns) take(ctx context.Context, wake func() <-chan struct{}, off func() bool) (end func()) {
	t.mu.Lock()
	mine := make(chan struct{})
	if t.free > 0 {
		t.free--
		close(mine)
	} else {
		t.queue = append(t.queue, mine)
	}
	t.mu.Unlock()
	for {
		woken := wake()
		if off() || ctx.Err() != nil {
			t.leave(mine)
			return nil
		}
		select {
		case <-mine:
			end := sync.OnceFunc(t.next)
			timer := time.AfterFunc(longestTurn, end)
			return func() { timer.Stop(); end() }
		case <-woken:
		case <-ctx.Done():
		}
	}
}

// next gives a turn that has ended to whoever waits longest.
func (t *turns) next() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue) == 0 {
		t.free++
		return
	}
	close(t.queue[0])
	t.queue = t.queue[1:]
}

// leave gives up a place in the queue, or the turn that has just come.
func (t *turns) leave(mine chan struct{}) {
	t.mu.Lock()
	i := slices.Index(t.queue, mine)
	if i >= 0 {
		t.queue = slices.Delete(t.queue, i, i+1)
	}
	t.mu.Unlock()
	if i < 0 {
		t.next()
	}
}
