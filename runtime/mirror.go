package runtime

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

// mirror keeps a copy of one list of objects: list, watch from there, list again when the watch
// breaks. It is smaller than an informer and has none of its globals.
type mirror[T interface {
	metav1.Object
	runtime.Object
}] struct {
	what   string
	list   func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error)
	watch  func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error)
	keep   func(T) bool
	change func(ctx context.Context, t T, deleted bool) // nil: nobody cares; called in order, from one goroutine
	synced func(ctx context.Context)                    // after each complete list
	log    *slog.Logger

	mu    sync.Mutex
	items map[string]T // namespace/name

	once  sync.Once
	first chan struct{} // closed after the first list
}

func (m *mirror[T]) run(ctx context.Context) {
	wait := 50 * time.Millisecond
	for ctx.Err() == nil {
		began := time.Now()
		err := m.cycle(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			m.log.Debug("watch ended", "of", m.what, "error", err)
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

func (m *mirror[T]) cycle(ctx context.Context) error {
	l, err := m.list(ctx, metav1.ListOptions{})
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
		seen[objectKey(t)] = true
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
	m.once.Do(func() { close(m.first) })
	if m.synced != nil {
		m.synced(ctx)
	}
	w, err := m.watch(ctx, metav1.ListOptions{ResourceVersion: rv, AllowWatchBookmarks: true})
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

func (m *mirror[T]) put(ctx context.Context, t T) {
	if m.keep != nil && !m.keep(t) {
		m.drop(ctx, t)
		return
	}
	key := objectKey(t)
	m.mu.Lock()
	m.items[key] = t
	m.mu.Unlock()
	if m.change != nil {
		m.change(ctx, t, false)
	}
}

func (m *mirror[T]) drop(ctx context.Context, t T) {
	key := objectKey(t)
	m.mu.Lock()
	old, ok := m.items[key]
	delete(m.items, key)
	m.mu.Unlock()
	if ok && m.change != nil {
		m.change(ctx, old, true)
	}
}

func (m *mirror[T]) snapshot() []T {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]T, 0, len(m.items))
	for _, t := range m.items {
		out = append(out, t)
	}
	return out
}

func objectKey(o metav1.Object) string { return o.GetNamespace() + "/" + o.GetName() }
