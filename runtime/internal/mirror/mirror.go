// Package mirror keeps copies of lists of objects, for the parts of the node.
package mirror

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

// Mirror keeps a copy of one list of objects: list, watch from there, list again when the watch
// breaks. It is smaller than an informer and has none of its globals.
type Mirror[T interface {
	metav1.Object
	runtime.Object
}] struct {
	What   string
	List   func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error)
	Watch  func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error)
	Keep   func(T) bool
	Change func(ctx context.Context, t T, deleted bool) // nil: nobody cares; called in order, from one goroutine
	Synced func(ctx context.Context)                    // after each complete list
	Log    *slog.Logger

	mu    sync.Mutex
	items map[string]T // namespace/name

	first  chan struct{} // closed after the first list
	listed bool
}

// First is closed after the first complete list.
func (m *Mirror[T]) First() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.firstLocked()
}

func (m *Mirror[T]) firstLocked() chan struct{} {
	if m.first == nil {
		m.first = make(chan struct{})
	}
	return m.first
}

// Get returns the object with that key.
func (m *Mirror[T]) Get(key string) (T, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, ok := m.items[key]
	return t, ok
}

// Run keeps the copy until ctx ends.
func (m *Mirror[T]) Run(ctx context.Context) {
	wait := 50 * time.Millisecond
	for ctx.Err() == nil {
		began := time.Now()
		err := m.cycle(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			m.Log.Debug("watch ended", "of", m.What, "error", err)
		}
		if time.Since(began) > 10*time.Second {
			wait = 50 * time.Millisecond
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(wait*2, 5*time.Second)
	}
}

func (m *Mirror[T]) cycle(ctx context.Context) error {
	l, err := m.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	rv := l.(metav1.ListInterface).GetResourceVersion()
	seen := map[string]bool{}
	err = meta.EachListItem(l, func(o runtime.Object) error {
		t, ok := o.(T)
		if !ok {
			return errors.New("list holds another kind")
		}
		seen[Key(t)] = true
		m.put(ctx, t)
		return nil
	})
	if err != nil {
		return err
	}
	m.mu.Lock()
	var gone []T
	for k, t := range m.items {
		if !seen[k] {
			gone = append(gone, t)
		}
	}
	m.mu.Unlock()
	for _, t := range gone {
		m.drop(ctx, t)
	}
	m.mu.Lock()
	if !m.listed {
		m.listed = true
		close(m.firstLocked())
	}
	m.mu.Unlock()
	if m.Synced != nil {
		m.Synced(ctx)
	}
	w, err := m.Watch(ctx, metav1.ListOptions{ResourceVersion: rv, AllowWatchBookmarks: true})
	if err != nil {
		return err
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case ev, ok := <-w.ResultChan():
			if !ok {
				return errors.New("closed")
			}
			switch ev.Type {
			case watch.Added, watch.Modified:
				if t, ok := ev.Object.(T); ok {
					m.put(ctx, t)
				}
			case watch.Deleted:
				if t, ok := ev.Object.(T); ok {
					m.drop(ctx, t)
				}
			case watch.Error:
				return apierrors.FromObject(ev.Object)
			}
		}
	}
}

func (m *Mirror[T]) put(ctx context.Context, t T) {
	if m.Keep != nil && !m.Keep(t) {
		m.drop(ctx, t)
		return
	}
	key := Key(t)
	m.mu.Lock()
	if m.items == nil {
		m.items = map[string]T{}
	}
	m.items[key] = t
	m.mu.Unlock()
	if m.Change != nil {
		m.Change(ctx, t, false)
	}
}

func (m *Mirror[T]) drop(ctx context.Context, t T) {
	key := Key(t)
	m.mu.Lock()
	old, ok := m.items[key]
	delete(m.items, key)
	m.mu.Unlock()
	if ok && m.Change != nil {
		m.Change(ctx, old, true)
	}
}

// Snapshot returns all objects, in no order. They are shared: nobody changes them.
func (m *Mirror[T]) Snapshot() []T {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]T, 0, len(m.items))
	for _, t := range m.items {
		out = append(out, t)
	}
	return out
}

// Key is namespace/name.
func Key(o metav1.Object) string { return o.GetNamespace() + "/" + o.GetName() }
