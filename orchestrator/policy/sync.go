package policy

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/policies/abi"
)

// syncer brings the stored objects into the host. It belongs to one goroutine; modules are loaded by others, which
// tell it what came of that.
type syncer struct {
	*Engine
	client   Client
	modules  map[string]*module
	policies map[policyKey]*policy
	loaded   chan loadResult
	loading  chan struct{} // a place for each module that may be loaded at a time
}

type policyKey struct {
	kind abi.Kind
	name string
}

// loadsAtOnce is how many modules are read and compiled at a time: each takes a core and some memory.
const loadsAtOnce = 2

func newSyncer(e *Engine, client Client) *syncer {
	return &syncer{Engine: e, client: client, modules: map[string]*module{}, policies: map[policyKey]*policy{},
		loaded: make(chan loadResult), loading: make(chan struct{}, loadsAtOnce)}
}

func (s *syncer) run(ctx context.Context, group *errgroup.Group, changed <-chan struct{}) error {
	for {
		wait, err := s.sync(ctx, group)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			s.log.Warn("policies could not be read; trying again", "error", err)
			wait = time.Second
		}
		var again <-chan time.Time
		if wait > 0 {
			again = s.cfg.Clock.After(wait)
		}
		select {
		case <-changed:
		case <-again:
		case r := <-s.loaded:
			s.finished(r)
		case <-ctx.Done():
			return nil
		}
	}
}

// sync takes one step towards what is stored. wait is when to try again what failed; 0: not before something changes.
func (s *syncer) sync(ctx context.Context, group *errgroup.Group) (wait time.Duration, err error) {
	modules, err := s.client.List(ctx, modulesGVR(), "", nil)
	if err != nil {
		return 0, err
	}
	var policies []api.Object
	for _, list := range []func() ([]api.Object, error){
		func() ([]api.Object, error) { return s.client.List(ctx, admissionGVR(), "", nil) },
		func() ([]api.Object, error) { return s.client.List(ctx, schedulingGVR(), "", nil) },
	} {
		more, err := list()
		if err != nil {
			return 0, err
		}
		policies = append(policies, more...)
	}
	goneModules, wait := s.syncModules(ctx, group, modules)
	gonePolicies := s.syncPolicies(ctx, policies)
	s.publish()
	// Only now that nobody is sent to them any more.
	for _, key := range gonePolicies {
		s.host.Remove(key.kind, key.name)
		s.metrics.forget(key)
	}
	for _, name := range goneModules {
		s.host.Unload(name)
	}
	return wait, nil
}

// publish makes the table of what there is now, where that differs.
func (s *syncer) publish() {
	next := &table{synced: true, scheduling: map[string][]*schedulingEntry{}, replaced: make(chan struct{})}
	for _, p := range s.policies {
		switch spec := p.deciding().(type) {
		case *api.AdmissionPolicy:
			next.admission = append(next.admission, p.admissionEntry(spec))
		case *api.SchedulingPolicy:
			entry := s.schedulingEntry(p, spec)
			next.scheduling[spec.Spec.Profile] = append(next.scheduling[spec.Spec.Profile], entry)
		}
	}
	slices.SortFunc(next.admission, inOrder)
	for _, list := range next.scheduling {
		slices.SortFunc(list, func(a, b *schedulingEntry) int { return strings.Compare(a.name, b.name) })
	}
	s.mu.Lock()
	clear(s.reports)
	for _, m := range s.modules {
		s.reports[reportKey{modulesGVR(), m.name}] = m.report()
	}
	for key, p := range s.policies {
		s.reports[reportKey{p.gvr(), key.name}] = p.report()
	}
	s.mu.Unlock()
	last := s.table.Load()
	next.placing = last.placing
	same := last.synced && reflect.DeepEqual(last.scheduling, next.scheduling)
	if !same {
		next.placing = make(chan struct{})
	}
	s.table.Store(next)
	close(last.replaced)
	if !last.synced {
		close(s.ready)
	}
	if !same {
		close(last.placing)
	}
}

// inOrder: those that mutate first, then by order, then by name.
func inOrder(a, b *admissionEntry) int {
	switch {
	case a.mutate != b.mutate && a.mutate:
		return -1
	case a.mutate != b.mutate:
		return 1
	case a.order != b.order && a.order < b.order:
		return -1
	case a.order != b.order:
		return 1
	}
	return strings.Compare(a.name, b.name)
}

// clear leaves the host as it was found. Nothing else runs any more.
func (s *syncer) clear() {
	for key := range s.policies {
		s.host.Remove(key.kind, key.name)
		s.metrics.forget(key)
	}
	for name := range s.modules {
		s.host.Unload(name)
	}
}
