package policies

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/guest"
)

// policy is a policy as calls find it.
type policy struct {
	spec    *abi.Policy // as it was set last; guarded by Host.mu
	current atomic.Pointer[running]
	problem atomic.Pointer[problem]
	breaker breaker
	tally   tally
}

// problem is why a policy isn't ready, or why it isn't what it was last set to.
type problem struct{ reason, message string }

func (p *policy) blame(reason, message string) { p.problem.Store(&problem{reason, message}) }

// running is a policy with one module and one set of settings. What a call uses it keeps to the end.
type running struct {
	spec     *abi.Policy
	module   *module
	admitter guest.Admitter
	placer   guest.Placer
	hooks    []string // that a scheduling policy takes part in

	calls  sync.RWMutex // held for reading by calls; by retire, when it was replaced
	closed bool
}

// enter takes the policy as it is now; leave gives it back.
func (p *policy) enter() (*running, error) {
	for {
		r := p.current.Load()
		if r == nil {
			return nil, ErrNotReady
		}
		if r.calls.TryRLock() {
			if !r.closed {
				return r, nil
			}
			r.calls.RUnlock()
		}
		runtime.Gosched() // it is being replaced: the next is there already
	}
}

func (r *running) leave() { r.calls.RUnlock() }

// Set makes a policy what spec says, between calls. If the module isn't loaded, refuses the settings, or isn't of the
// policy's kind, an error says so and the policy stays what it was; it becomes what spec says with the next module that
// takes it.
func (h *Host) Set(ctx context.Context, spec abi.Policy) error {
	if spec.Name == "" || spec.Kind != abi.Admission && spec.Kind != abi.Scheduling {
		return fmt.Errorf("policy %q: it needs a name and a kind (%s or %s)", spec.Name, abi.Admission, abi.Scheduling)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return ErrClosed
	}
	key := policyKey{spec.Kind, spec.Name}
	p := (*h.policies.Load())[key]
	if p == nil {
		p = &policy{}
		h.change(func(all map[policyKey]*policy) { all[key] = p })
	}
	p.spec = &spec // also if it can't run so yet: another module may take it
	m := h.modules[spec.Module]
	if m == nil {
		p.blame("ModuleMissing", fmt.Sprintf("no module is loaded under the name %q", spec.Module))
		return fmt.Errorf("policy %s: module %q: %w", spec.Name, spec.Module, ErrNoModule)
	}
	r, err := h.start(ctx, p.spec, m)
	if err != nil {
		p.blame("Refused", err.Error())
		return fmt.Errorf("policy %s: %w", spec.Name, err)
	}
	h.swap(p, r)
	return nil
}

// Remove ends a policy. Calls that run are ended by it.
func (h *Host) Remove(kind abi.Kind, name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := policyKey{kind, name}
	p := (*h.policies.Load())[key]
	if p == nil {
		return
	}
	h.change(func(all map[policyKey]*policy) { delete(all, key) })
	h.retire(p.current.Swap(nil))
}

// start makes a policy of a module and its settings.
func (h *Host) start(ctx context.Context, spec *abi.Policy, m *module) (*running, error) {
	r := &running{spec: spec, module: m}
	var err error
	if spec.Kind == abi.Admission {
		r.admitter, err = m.adapter.Admission(ctx, m.Module, *spec)
	} else {
		r.placer, err = m.adapter.Scheduling(ctx, m.Module, *spec)
	}
	if err != nil {
		return nil, err
	}
	if r.placer != nil {
		if r.hooks, err = hooksOf(r.placer, spec.Hooks); err != nil {
			return nil, errors.Join(err, r.placer.Close(context.WithoutCancel(ctx)))
		}
	}
	m.hold()
	return r, nil
}

// swap has calls from now on find r. h.mu is held.
func (h *Host) swap(p *policy, r *running) {
	old := p.current.Swap(r)
	if r.spec == p.spec {
		p.problem.Store(nil)
	}
	p.breaker.reset()
	h.retire(old)
}

// retire closes r once its calls have ended.
func (h *Host) retire(r *running) {
	if r == nil {
		return
	}
	h.retiring.Go(func() {
		r.calls.Lock()
		r.closed = true
		r.calls.Unlock()
		ctx := context.Background()
		var err error
		if r.admitter != nil {
			err = r.admitter.Close(ctx)
		} else {
			err = r.placer.Close(ctx)
		}
		h.closing(errors.Join(err, r.module.release(ctx)))
	})
}

// Status says how a policy fares; not ready, and nothing else, if there is none.
func (h *Host) Status(kind abi.Kind, name string) abi.Status {
	p := (*h.policies.Load())[policyKey{kind, name}]
	if p == nil {
		return abi.Status{Reason: "NotFound", Message: ErrNoPolicy.Error()}
	}
	t := &p.tally
	s := abi.Status{Calls: t.calls.Load(), Rejections: t.rejections.Load(), Errors: t.errors.Load(), Fuel: t.fuel.Load()}
	s.P50, s.P99 = t.quantiles()
	if r := p.current.Load(); r != nil {
		s.Ready, s.Digest, s.Hooks = true, r.module.info.Digest, r.hooks
	}
	if b := p.problem.Load(); b != nil {
		s.Reason, s.Message = b.reason, b.message
	}
	if p.breaker.open() {
		s.Reason, s.Message = "CircuitOpen", ErrCircuitOpen.Error()
		if last := p.breaker.last.Load(); last != nil {
			s.Message += ": " + *last
		}
	}
	return s
}
