package raftstore

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"
)

// A batch ends at the first revision that reaches one of these.
const (
	watchBatchEvents = 500
	watchBatchBytes  = 1 << 20
)

// Watcher reads the log of changes at its own pace. Nothing is queued for it, so it holds up
// nobody and costs no memory; if it falls behind what is retained, it ends with ErrCompacted.
// Next is for one goroutine; Close is for any.
type Watcher struct {
	s        *Store
	prefix   string
	next     int64 // the first revision not yet looked at
	progress bool
	closed   chan struct{}
	once     sync.Once
}

// Watch starts a watch of what this node has applied. Everything from req.From on is delivered
// exactly once and in order. ErrCompacted when that is no longer retained.
func (s *Store) Watch(ctx context.Context, req WatchRequest) (*Watcher, error) {
	if req.From < 0 {
		return nil, fmt.Errorf("%w: negative revision", ErrInvalid)
	}
	if err := s.waitStarted(ctx); err != nil {
		return nil, err
	}
	v := s.m.view.Load()
	next := req.From
	if next == 0 {
		next = v.rev + 1
	}
	if next <= v.compacted {
		return nil, ErrCompacted
	}
	return &Watcher{s: s, prefix: req.Prefix, next: next, progress: req.Progress, closed: make(chan struct{})}, nil
}

// Next waits for the next batch. Errors: ErrCompacted when the watcher was too slow (read the
// present and watch anew), ErrClosed, or the cause of ctx; after the last of these Next may be
// called again and nothing is lost.
func (w *Watcher) Next(ctx context.Context) (WatchBatch, error) {
	for {
		select {
		case <-w.closed:
			return WatchBatch{}, ErrClosed
		default:
		}
		v := w.s.m.view.Load()
		if w.next <= v.compacted {
			return WatchBatch{}, ErrCompacted
		}
		batch, err := w.collect(v)
		if errors.Is(err, errGone) {
			// A value went while it was read: a newer view is there, and knows whether we are too late.
			if w.s.m.view.Load() == v {
				return WatchBatch{}, fmt.Errorf("%w: a value is missing", ErrCorrupt)
			}
			continue
		}
		if err != nil {
			return WatchBatch{}, err
		}
		if batch.Revision >= w.next {
			w.next = batch.Revision + 1
			if len(batch.Events) > 0 || w.progress {
				return batch, nil
			}
		}
		select {
		case <-v.replaced:
		case <-ctx.Done():
			return WatchBatch{}, context.Cause(ctx)
		case <-w.closed:
		case <-w.s.stopped:
			return WatchBatch{}, ErrClosed
		}
	}
}

func (w *Watcher) collect(v *view) (WatchBatch, error) {
	batch := WatchBatch{Revision: v.rev}
	i := sort.Search(len(v.log), func(i int) bool { return v.log[i].mod >= w.next })
	var vs []*version // the version and what it replaced, in turn; nil if nothing
	size := 0
	for ; i < len(v.log); i++ {
		x := v.log[i]
		if len(vs)/2 >= watchBatchEvents || size >= watchBatchBytes {
			if last := vs[len(vs)-2]; x.mod > last.mod {
				batch.Revision = x.mod - 1
				break
			}
		}
		if !strings.HasPrefix(x.key, w.prefix) {
			continue
		}
		vs = append(vs, x, before(v.root.find(x.key), x))
		if p := x.value.Load(); p != nil {
			size += len(*p)
		} else {
			size += 1 << 10 // not worth a look at the disk
		}
	}
	if len(vs) == 0 {
		return batch, nil
	}
	present := make([]*version, 0, len(vs))
	for _, x := range vs {
		if x != nil {
			present = append(present, x)
		}
	}
	kvs, err := w.s.m.read(present)
	if err != nil {
		return WatchBatch{}, err
	}
	for i, j := 0, 0; i < len(vs); i += 2 {
		e := Event{Type: Put, KV: kvs[j]}
		j++
		if vs[i].tomb {
			e.Type = Delete
		}
		if vs[i+1] != nil {
			e.Prev = &kvs[j]
			j++
		}
		batch.Events = append(batch.Events, e)
	}
	return batch, nil
}

// Close ends the watch; a Next that waits returns ErrClosed. It may be called more than once.
func (w *Watcher) Close() { w.once.Do(func() { close(w.closed) }) }
