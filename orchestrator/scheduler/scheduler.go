package scheduler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/clock"

	"golang.org/x/sync/errgroup"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
	"github.com/pintle/pintle/orchestrator/scheduler/plugins"
)

// Config is what a Scheduler needs. Client is required.
type Config struct {
	Client Client
	// Name is the schedulerName of the pods that it places; "" means default-scheduler.
	Name string
	// Plugins decide about those pods. Nil means plugins.Default().
	Plugins []framework.Plugin
	// Profiles are further schedulerNames that it serves, each with plugins of its own. One called Name replaces Plugins.
	Profiles []Profile
	// Policy decides beside them. Nil: none.
	Policy Policy
	// BindWriters is how many bindings are written at a time; 0 means 256: they share the store's commits.
	BindWriters int
	Logger      *slog.Logger // nil discards
	Clock       clock.Clock  // nil: the machine's

	observe bool // decide nothing: see Observe
}

// Scheduler places pods. Make one with New.
type Scheduler struct {
	cfg      Config
	ready    chan struct{}
	explains chan explainRequest
}

// New checks the config and starts nothing.
func New(cfg Config) (*Scheduler, error) {
	if cfg.Client == nil {
		return nil, errors.New("scheduler: Config.Client is nil: give it a registry.Client")
	}
	if cfg.Name == "" {
		cfg.Name = corev1.DefaultSchedulerName
	}
	if cfg.Plugins == nil {
		cfg.Plugins = plugins.Default()
	}
	cfg.Profiles = append([]Profile{{Name: cfg.Name, Plugins: cfg.Plugins}}, cfg.Profiles...)
	if cfg.BindWriters <= 0 {
		cfg.BindWriters = 256
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	return &Scheduler{cfg: cfg, ready: make(chan struct{}), explains: make(chan explainRequest)}, nil
}

// Ready is closed once every node and pod has been seen for the first time.
func (s *Scheduler) Ready() <-chan struct{} { return s.ready }

// Run schedules until ctx ends, then waits for the bindings that are being written and returns nil.
// It may be called once.
func (s *Scheduler) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	loop := newLoop(s.cfg)
	for _, gvr := range watchedResources() {
		group.Go(func() error { return s.watch(ctx, gvr, loop.changes) })
	}
	for range s.cfg.BindWriters {
		group.Go(func() error { return loop.writeBindings(ctx) })
	}
	for i := range loop.reports {
		group.Go(func() error { return loop.report(ctx, loop.reports[i]) })
	}
	for _, r := range loop.decider.runners() {
		group.Go(func() error { return r.Run(ctx) })
	}
	group.Go(func() error { return loop.writePreemptions(ctx) })
	group.Go(func() error { return loop.outbox.run(ctx) })
	group.Go(func() error { return loop.tick(ctx) })
	group.Go(func() error { return loop.run(ctx, s.ready, s.explains) })
	if err := group.Wait(); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// watched is how many resources are watched.
const watched = 15

func watchedResources() [watched]schema.GroupVersionResource {
	return [watched]schema.GroupVersionResource{namespacesResource, nodesResource, podsResource, budgetsResource, podGroupsResource(), queuesResource(),
		claimsResource, slicesResource, classesResource,
		volumesResource, volumeClaimResource, storageClasses, csiDrivers, csiNodes, csiCapacities}
}

// change is one event of a watch. A relist starts with a change of type "" whose list tells the loop to
// forget what doesn't come again before the bookmark.
type change struct {
	gvr    schema.GroupVersionResource
	event  watch.Event
	relist bool
}

// watch feeds one resource's events to the loop, and starts over when the watch ends.
func (s *Scheduler) watch(ctx context.Context, gvr schema.GroupVersionResource, out chan<- change) error {
	for wait := 10 * time.Millisecond; ctx.Err() == nil; wait = min(wait*2, time.Second) {
		w, err := s.cfg.Client.Watch(ctx, gvr)
		if err != nil {
			s.cfg.Logger.Warn("watch failed", "resource", gvr.Resource, "error", err)
		} else {
			if !send(ctx, out, change{gvr: gvr, relist: true}) {
				w.Stop()
				return nil
			}
			for event := range w.ResultChan() {
				if event.Type == watch.Error {
					break
				}
				if !send(ctx, out, change{gvr: gvr, event: event}) {
					break
				}
			}
			w.Stop()
		}
		select {
		case <-s.cfg.Clock.After(wait):
		case <-ctx.Done():
		}
	}
	return nil
}

func send[T any](ctx context.Context, out chan<- T, value T) bool {
	select {
	case out <- value:
		return true
	case <-ctx.Done():
		return false
	}
}

// guarded calls f and turns a panic of a plugin or policy into an error, so that it costs one pod its
// turn and not the host program its life.
func guarded[T any](f func() (T, error)) (out T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return f()
}
