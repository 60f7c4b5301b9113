package registry

import (
	"context"
	"sync"
)

// frontier is the revision up to which every cache has seen everything, and those who wait for it.
type frontier struct {
	mu      sync.Mutex // guards what follows
	at      int64
	waiters map[*waiter]struct{}
}

type waiter struct {
	revision int64
	done     chan struct{}
}

func (f *frontier) init() { f.waiters = map[*waiter]struct{}{} }

func (f *frontier) revision() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.at
}

func (f *frontier) advance(revision int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = max(f.at, revision)
	for w := range f.waiters {
		if w.revision <= f.at {
			close(w.done)
			delete(f.waiters, w)
		}
	}
}

// wait returns once the frontier has reached revision, or with ctx's cause, or errStopped after stop.
func (f *frontier) wait(ctx context.Context, revision int64, stop <-chan struct{}) error {
	f.mu.Lock()
	if f.at >= revision {
		f.mu.Unlock()
		return nil
	}
	w := &waiter{revision: revision, done: make(chan struct{})}
	f.waiters[w] = struct{}{}
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.waiters, w)
	}()
	select {
	case <-w.done:
		return nil
	case <-stop:
		return errStopped()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
