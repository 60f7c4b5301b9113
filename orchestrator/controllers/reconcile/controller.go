package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/clock"

	"github.com/pintle/pintle/orchestrator/api"
)

// Event is one change as a handler sees it. Old is the object as this watch last saw it, nil when
// it is new. After a Deleted event Object is the last known state.
type Event struct {
	Type   watch.EventType // Added, Modified or Deleted
	Object api.Object
	Old    api.Object
}

// Watch maps changes of one resource to keys.
type Watch struct {
	Resource schema.GroupVersionResource
	// Map calls enqueue for every key that the change concerns. It must be quick: it runs on the
	// watch's goroutine. Nil enqueues the object itself. After an error the watch is opened again
	// and the change delivered again, so a read that fails loses nothing.
	Map func(ctx context.Context, e Event, enqueue func(Key)) error
}

// Controller is one level-based control loop. Reconcile gets a key and nothing else: it reads the
// present state and makes it nearer to what is wanted; that it ran twice, or after changes were
// missed, must make no difference. A positive duration asks for another run after it. An error
// asks for one with back-off; a Conflict is an error like any other, only logged more quietly.
type Controller struct {
	Name    string
	Workers int // at least 1
	Watches []Watch
	// AfterSync has no key reconciled before every watch has delivered what there was: for loops that remember what
	// their handlers were told, and would decide wrongly on the half of it.
	AfterSync bool
	// Start lists keys that are enqueued when the loop starts: for periodic work.
	Start     []Key
	Reconcile func(ctx context.Context, k Key) (time.Duration, error)
}

// Env is what a loop runs with. Client is required; nil elsewhere means the real clock, no logs,
// no metrics.
type Env struct {
	Client  Client
	Clock   clock.WithDelayedExecution
	Logger  *slog.Logger
	Metrics *Metrics
}

// WithDefaults returns e with every unset field set.
func (e Env) WithDefaults() Env {
	if e.Clock == nil {
		e.Clock = clock.RealClock{}
	}
	if e.Logger == nil {
		e.Logger = slog.New(slog.DiscardHandler)
	}
	if e.Metrics == nil {
		e.Metrics, _ = NewMetrics(nil)
	}
	return e
}

// Run runs the loop until ctx ends and every goroutine that it started has ended, and returns
// nil then. synced, if not nil, is called once, when every watch has delivered what there was.
func (c *Controller) Run(ctx context.Context, env Env, synced func()) error {
	env = env.WithDefaults()
	log := env.Logger.With("controller", c.Name)
	q := newQueue(env.Clock)
	unregister := env.Metrics.watchDepth(c.Name, q.depth)
	defer unregister()

	var wg sync.WaitGroup
	var pending atomic.Int64
	pending.Store(int64(len(c.Watches)))
	begin := make(chan struct{}) // closed when the workers may start
	allSynced := sync.OnceFunc(func() {
		if c.AfterSync {
			close(begin)
		}
		if synced != nil {
			synced()
		}
	})
	oneSynced := func() {
		if pending.Add(-1) == 0 {
			allSynced()
		}
	}
	if !c.AfterSync {
		close(begin)
	}
	if len(c.Watches) == 0 {
		allSynced()
	}
	for _, w := range c.Watches {
		wg.Go(func() { c.follow(ctx, env, log, q, w, sync.OnceFunc(oneSynced)) })
	}
	for _, k := range c.Start {
		q.add(k)
	}
	for range max(1, c.Workers) {
		wg.Go(func() {
			select {
			case <-begin:
				c.work(ctx, env, log, q)
			case <-ctx.Done():
			}
		})
	}
	<-ctx.Done()
	q.close()
	wg.Wait()
	return nil
}

func (c *Controller) work(ctx context.Context, env Env, log *slog.Logger, q *queue) {
	for {
		k, ok := q.get()
		if !ok {
			return
		}
		after, err := c.once(ctx, k, log)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			if apierrors.IsConflict(err) {
				log.Debug("reconcile lost a race", "key", k.String(), "error", err)
			} else {
				log.Warn("reconcile failed", "key", k.String(), "error", err)
			}
			env.Metrics.reconciled(c.Name, "error")
			q.addRateLimited(k)
		default:
			q.forget(k)
			if after > 0 {
				env.Metrics.reconciled(c.Name, "requeue_after")
				q.addAfter(k, after)
			} else {
				env.Metrics.reconciled(c.Name, "success")
			}
		}
		q.done(k)
	}
}

func (c *Controller) once(ctx context.Context, k Key, log *slog.Logger) (after time.Duration, err error) {
	defer func() {
		if p := recover(); p != nil {
			log.Error("reconcile panicked", "key", k.String(), "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("reconcile %s: panic: %v", k, p)
		}
	}()
	return c.Reconcile(ctx, k)
}

// follow watches until ctx ends, opening the watch again whenever it closes.
func (c *Controller) follow(ctx context.Context, env Env, log *slog.Logger, q *queue, w Watch, synced func()) {
	known := map[types.NamespacedName]api.Object{}
	for failures := 0; ctx.Err() == nil; failures++ {
		began, moved := env.Clock.Now(), false
		err := c.followOnce(ctx, env, log, q, w, known, func() { moved = true }, synced)
		if ctx.Err() != nil {
			return
		}
		switch {
		case env.Clock.Since(began) > time.Minute:
			failures = 0
		case moved: // a watch that works but ends often mustn't leave us blind for long
			failures = min(failures, 4)
		}
		log.Debug("watch ended, opening it again", "resource", w.Resource.Resource, "error", err)
		t := env.Clock.NewTimer(backoff(failures))
		select {
		case <-ctx.Done():
		case <-t.C():
		}
		t.Stop()
	}
}

func (c *Controller) followOnce(ctx context.Context, env Env, log *slog.Logger, q *queue, w Watch,
	known map[types.NamespacedName]api.Object, moved, synced func()) (err error) {
	wi, err := env.Client.Watch(ctx, w.Resource)
	if err != nil {
		return fmt.Errorf("watch %s: %w", w.Resource.Resource, err)
	}
	defer wi.Stop()
	defer func() {
		if p := recover(); p != nil {
			log.Error("watch handler panicked", "resource", w.Resource.Resource, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("watch %s: panic: %v", w.Resource.Resource, p)
		}
	}()
	deliver := func(e Event) error {
		if w.Map == nil {
			q.add(KeyOf(e.Object))
			return nil
		}
		return w.Map(ctx, e, q.add)
	}
	// Until the bookmark everything is the present state: what was known and isn't in it has been
	// deleted while nobody watched.
	seen := map[types.NamespacedName]struct{}{}
	for {
		var e watch.Event
		var ok bool
		select {
		case <-ctx.Done():
			return nil
		case e, ok = <-wi.ResultChan():
			if !ok {
				return nil
			}
		}
		switch e.Type {
		case watch.Bookmark:
			if seen != nil {
				var errs []error
				for n, o := range known {
					if _, ok := seen[n]; !ok {
						if err := deliver(Event{Type: watch.Deleted, Object: o, Old: o}); err != nil {
							errs = append(errs, err) // still known: delivered again after the next bookmark
							continue
						}
						delete(known, n)
					}
				}
				if err := errors.Join(errs...); err != nil {
					return err
				}
				seen = nil
			}
			moved()
			synced()
			continue
		case watch.Error:
			return apierrors.FromObject(e.Object)
		}
		o, ok := e.Object.(api.Object)
		if !ok {
			return fmt.Errorf("watch %s: unexpected %T", w.Resource.Resource, e.Object)
		}
		n := types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
		old := known[n]
		if err := change(e.Type, o, old, deliver); err != nil {
			return err // known as it was: the next watch finds the difference again
		}
		if old == nil || old.GetResourceVersion() != o.GetResourceVersion() {
			moved()
		}
		if e.Type == watch.Deleted {
			delete(known, n)
			continue
		}
		known[n] = o
		if seen != nil {
			seen[n] = struct{}{}
		}
	}
}

// change delivers what differs between old, the last known state, and o.
func change(t watch.EventType, o, old api.Object, deliver func(Event) error) error {
	switch {
	case t == watch.Deleted:
		return deliver(Event{Type: watch.Deleted, Object: o, Old: old})
	case old == nil:
		return deliver(Event{Type: watch.Added, Object: o})
	case old.GetUID() != o.GetUID(): // deleted and made again while nobody watched
		if err := deliver(Event{Type: watch.Deleted, Object: old, Old: old}); err != nil {
			return err
		}
		return deliver(Event{Type: watch.Added, Object: o})
	case old.GetResourceVersion() != o.GetResourceVersion() || o.GetResourceVersion() == "":
		return deliver(Event{Type: watch.Modified, Object: o, Old: old})
	}
	return nil
}

// KeyOf is the key of an object by its namespace and name.
func KeyOf(o api.Object) Key { return Key{Namespace: o.GetNamespace(), Name: o.GetName()} }
