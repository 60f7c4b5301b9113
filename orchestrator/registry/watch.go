package registry

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pintle/pintle/orchestrator/api"
)

const (
	// watchBatch bounds the copying under a cache's lock.
	watchBatch = 256
	// bookmarkEvery is how often a watcher that wants bookmarks gets one.
	bookmarkEvery = time.Minute
)

// Watcher delivers the changes of one resource. It reads the ring of recent events at its consumer's
// pace; one that falls out of it is ended with an Expired error. Safe for concurrent use.
type Watcher struct {
	r      *Registry
	kind   *api.Kind
	cache  *resource
	opts   WatchOptions
	match  func(*Entry) bool
	at     cursor
	events chan Event
	cancel context.CancelFunc
	done   <-chan struct{} // closed once the watch ends

	mu  sync.Mutex // guards err
	err error
}

// Watch starts a watch. It ends with ctx, with Stop, with the registry, and when its consumer is too
// slow. 410 Expired when FromRevision is older than what is kept; a Timeout when it is not reached soon.
func (r *Registry) Watch(ctx context.Context, gvr schema.GroupVersionResource, opts WatchOptions) (*Watcher, error) {
	k, err := r.served(ctx, gvr)
	if err != nil {
		return nil, err
	}
	match, err := matcher(k.kind, opts.Selector, opts.Fields)
	if err != nil {
		return nil, err
	}
	if err := r.waitFresh(ctx, opts.FromRevision); err != nil {
		return nil, err
	}
	w := &Watcher{r: r, kind: k.kind, cache: k.cache, opts: opts, match: match, events: make(chan Event, 16)}
	revision := r.Revision()
	var initial []*Entry
	if opts.InitialEvents || opts.FromRevision == 0 {
		var lastMod int64
		var present []*Entry
		present, w.at, lastMod = k.cache.snapshot(opts.Namespace)
		revision = max(revision, lastMod)
		if opts.InitialEvents {
			initial = present
		}
	} else if w.at, err = k.cache.cursorAfter(opts.FromRevision); err != nil {
		return nil, err
	}
	ctx, w.cancel = context.WithCancel(ctx)
	w.done = ctx.Done()
	go w.run(ctx, initial, revision)
	return w, nil
}

// Events is closed when the watch ends; Err then says why.
func (w *Watcher) Events() <-chan Event { return w.events }

// Err is nil until Events is closed, and after Stop or the end of the context; otherwise it is why the
// watch ended: Expired when the consumer was too slow, ServiceUnavailable when the registry has stopped.
func (w *Watcher) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Stop ends the watch. It may be called more than once.
func (w *Watcher) Stop() { w.cancel() }

func (w *Watcher) run(ctx context.Context, initial []*Entry, revision int64) {
	defer w.cancel()
	defer close(w.events)
	if err := w.deliver(ctx, initial, revision); ctx.Err() == nil {
		w.mu.Lock()
		w.err = err
		w.mu.Unlock()
	}
}

func (w *Watcher) deliver(ctx context.Context, initial []*Entry, revision int64) error {
	if w.opts.InitialEvents {
		for _, e := range initial {
			e, err := e.as(w.kind)
			if err != nil {
				return err
			}
			if w.match != nil && !w.match(e) {
				continue
			}
			if err := w.send(ctx, Event{Type: watch.Added, Entry: e, Revision: e.revision}); err != nil {
				return err
			}
		}
		if err := w.send(ctx, Event{Type: watch.Bookmark, Revision: revision, InitialEventsEnd: true}); err != nil {
			return err
		}
	}
	var tick <-chan time.Time
	if w.opts.Bookmarks {
		t := time.NewTicker(bookmarkEvery)
		defer t.Stop()
		tick = t.C
	}
	for {
		reached := w.r.Revision() // before reading: everything up to it is in the ring
		records, changed, err := w.read()
		if err != nil {
			return err
		}
		for _, rec := range records {
			ev, ok, err := w.filter(rec)
			if err != nil {
				return err
			}
			if ok {
				if err := w.send(ctx, ev); err != nil {
					return err
				}
			}
		}
		if len(records) > 0 {
			continue
		}
		select {
		case <-changed:
		case <-tick:
			if err := w.send(ctx, Event{Type: watch.Bookmark, Revision: reached}); err != nil {
				return err
			}
		case <-w.r.stopped:
			return errStopped()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (w *Watcher) send(ctx context.Context, ev Event) error {
	select {
	case w.events <- ev:
		return nil
	case <-w.r.stopped:
		return errStopped()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (w *Watcher) read() ([]record, <-chan struct{}, error) {
	c := w.cache
	c.mu.RLock()
	defer c.mu.RUnlock()
	if w.at.epoch != c.epoch {
		return nil, nil, expired()
	}
	records, ok := c.ring.read(w.at.next, watchBatch)
	if !ok {
		return nil, nil, expired()
	}
	w.at.next += uint64(len(records))
	return records, c.changed, nil
}

func (c *resource) cursorAfter(revision int64) (cursor, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	next, ok := c.ring.after(revision)
	if !ok {
		return cursor{}, expired()
	}
	return cursor{next: next, epoch: c.epoch}, nil
}

// filter turns a change into what a watcher with a selector sees: an object that begins to match is
// Added, one that ceases to is Deleted.
func (w *Watcher) filter(rec record) (Event, bool, error) {
	ev := Event{Type: rec.kind, Revision: rec.revision}
	if w.opts.Namespace != "" && namespaceOf(rec.entry.key) != w.opts.Namespace {
		return ev, false, nil
	}
	var err error
	if ev.Entry, err = rec.entry.as(w.kind); err != nil || w.match == nil {
		return ev, err == nil, err
	}
	before := false
	if rec.prev != nil {
		prev, err := rec.prev.as(w.kind)
		if err != nil {
			return ev, false, err
		}
		before = w.match(prev)
	}
	now := rec.kind != watch.Deleted && w.match(ev.Entry)
	switch {
	case now && before:
		ev.Type = watch.Modified
	case now:
		ev.Type = watch.Added
	case before && rec.kind != watch.Deleted:
		// The last version that matched, as of the change that made it leave.
		ev.Type = watch.Deleted
		ev.Entry, err = rec.prev.at(rec.revision).as(w.kind)
	case !before:
		return ev, false, nil
	}
	return ev, err == nil, err
}
