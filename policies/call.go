package policies

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/guest"
)

// call is one call of a policy, from begin to done.
type call struct {
	host *Host
	p    *policy
	r    *running
}

// begin finds a policy that may be asked. hook is a scheduling policy's.
func (h *Host) begin(ctx context.Context, kind abi.Kind, name, hook string) (call, error) {
	p := (*h.policies.Load())[policyKey{kind, name}]
	if p == nil {
		return call{}, fmt.Errorf("policy %s: %w", name, ErrNoPolicy)
	}
	if ctx.Err() != nil {
		return call{}, context.Cause(ctx)
	}
	r, err := p.enter()
	if err != nil {
		return call{}, fmt.Errorf("policy %s: %w", name, err)
	}
	if hook != "" && !slices.Contains(r.hooks, hook) {
		r.leave()
		return call{}, fmt.Errorf("policy %s: %s: %w", name, hook, ErrNoHook)
	}
	if !p.breaker.allow(h.cfg.Clock) {
		r.leave()
		return call{}, fmt.Errorf("policy %s: %w", name, ErrCircuitOpen)
	}
	return call{h, p, r}, nil
}

// done counts the call. It is deferred: a panic of an adapter becomes an error.
func (c call) done(ctx context.Context, name string, spent *abi.Spent, rejected *bool, err *error) {
	if p := recover(); p != nil {
		c.host.log.Error("a policy's adapter panicked", "policy", name, "panic", p, "stack", string(debug.Stack()))
		*err = fmt.Errorf("the adapter panicked: %v", p)
	}
	c.r.leave()
	c.p.tally.add(spent.Time, spent.Fuel)
	switch {
	case *err == nil:
		c.p.breaker.succeeded()
		if *rejected {
			c.p.tally.rejections.Add(1)
		}
		return
	case errors.Is(ctx.Err(), context.Canceled): // the caller gave up
		c.p.breaker.abandoned()
	default:
		if c.p.breaker.failed(c.host.cfg.Clock, *err) {
			c.host.log.Warn("a policy failed repeatedly and isn't asked for a while", "policy", name, "error", *err)
		}
	}
	c.p.tally.errors.Add(1)
	*err = fmt.Errorf("policy %s: %w", name, *err)
}

// Admit asks an admission policy about a write. An error says that the policy failed or couldn't be asked, never what
// it thinks.
func (h *Host) Admit(ctx context.Context, name string, q *abi.AdmissionRequest) (response *abi.AdmissionResponse, spent abi.Spent, err error) {
	c, err := h.begin(ctx, abi.Admission, name, "")
	if err != nil {
		return nil, spent, err
	}
	rejected := false
	defer c.done(ctx, name, &spent, &rejected, &err)
	response, spent, err = c.r.admitter.Admit(ctx, q)
	rejected = err == nil && !response.Allowed
	return response, spent, err
}

// Place asks a scheduling policy about a pod and all its candidates: it fills q's verdicts, scores and reasons.
func (h *Host) Place(ctx context.Context, name string, q *abi.Placement) (spent abi.Spent, err error) {
	c, err := h.begin(ctx, abi.Scheduling, name, HookPlace)
	if err != nil {
		return spent, err
	}
	rejected := false
	defer c.done(ctx, name, &spent, &rejected, &err)
	decided := false
	defer func() { // also when an adapter panics
		if !decided {
			q.Reset()
		}
	}()
	if spent, err = c.r.placer.Place(ctx, q); err != nil {
		return spent, err
	}
	decided = true
	rejected = len(q.Rows) > 0 && !slices.Contains(q.Verdicts, 0)
	return spent, nil
}

// QueueKey is a pod's place in the queue: smaller goes first.
func (h *Host) QueueKey(ctx context.Context, name string, pod *abi.Pod) (key int64, spent abi.Spent, err error) {
	err = h.hook(ctx, name, HookQueueSort, &spent, func(p guest.Placer) (bool, error) {
		key, spent, err = p.(guest.QueueKeyer).QueueKey(ctx, pod)
		return false, err
	})
	return key, spent, err
}

// Permit asks whether a pod that has a node may be bound.
func (h *Host) Permit(ctx context.Context, name string, q *abi.PermitRequest) (response *abi.PermitResponse, spent abi.Spent, err error) {
	err = h.hook(ctx, name, HookPermit, &spent, func(p guest.Placer) (bool, error) {
		response, spent, err = p.(guest.Permitter).Permit(ctx, q)
		return err == nil && response.Decision == abi.Deny, err
	})
	return response, spent, err
}

// PostFilter tells that no node is left for a pod.
func (h *Host) PostFilter(ctx context.Context, name string, q *abi.PostFilterRequest) (response *abi.PostFilterResponse, spent abi.Spent, err error) {
	err = h.hook(ctx, name, HookPostFilter, &spent, func(p guest.Placer) (bool, error) {
		response, spent, err = p.(guest.PostFilterer).PostFilter(ctx, q)
		return false, err
	})
	return response, spent, err
}

func (h *Host) hook(ctx context.Context, name, hook string, spent *abi.Spent, fn func(guest.Placer) (bool, error)) (err error) {
	c, err := h.begin(ctx, abi.Scheduling, name, hook)
	if err != nil {
		return err
	}
	rejected := false
	defer c.done(ctx, name, spent, &rejected, &err)
	rejected, err = fn(c.r.placer)
	return err
}
