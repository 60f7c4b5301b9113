package policy

import (
	"context"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/policies/abi"
)

// How often counters are written, and how long after a change the rest is.
const (
	countersEvery = 5 * time.Second
	reportPause   = 50 * time.Millisecond
)

type reportKey struct {
	gvr  schema.GroupVersionResource
	name string
}

// report is what the syncer knows of one object.
type report struct {
	object          api.Object // the version that this is about
	state           api.PolicyModuleState
	info            abi.Module
	ready           bool
	reason, message string
}

func (m *module) report() report {
	state, message := m.state()
	r := report{object: m.object, state: state, info: m.info, message: message, ready: state == api.ModuleReady, reason: string(state)}
	return r
}

func (p *policy) report() report {
	r := report{object: p.object, ready: p.reason == "", reason: p.reason, message: p.message}
	if r.ready {
		r.reason = reasonDeciding
	}
	return r
}

// Report writes the statuses of modules and policies until ctx ends; the member that leads does so. What changes with
// a module or a policy is written at once, counters every 5 s while they move.
func (e *Engine) Report(ctx context.Context, client Client) error {
	count := true
	var counters <-chan time.Time
	for ctx.Err() == nil {
		replaced := e.table.Load().replaced
		e.reportAll(ctx, client, count)
		if count {
			counters, count = e.cfg.Clock.After(countersEvery), false
		}
		select {
		case <-replaced:
			// Several changes come together: of a module, and of the policies that wait for it.
			select {
			case <-time.After(reportPause):
			case <-ctx.Done():
			}
		case <-counters:
			count = true
		case <-ctx.Done():
		}
	}
	return nil
}

func (e *Engine) reportAll(ctx context.Context, client Client, count bool) {
	e.mu.Lock()
	all := make(map[reportKey]report, len(e.reports))
	for key, r := range e.reports {
		all[key] = r
	}
	e.mu.Unlock()
	for key, r := range all {
		if err := e.reportOne(ctx, client, key, r, count); err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			e.log.Warn("a policy's status was not written", "resource", key.gvr.Resource, "name", key.name, "error", err)
		}
	}
}

func (e *Engine) reportOne(ctx context.Context, client Client, key reportKey, r report, count bool) error {
	stored, err := client.Get(ctx, key.gvr, "", key.name)
	if err != nil {
		return err
	}
	if stored.GetUID() != r.object.GetUID() || stored.GetGeneration() != r.object.GetGeneration() {
		return nil // it has changed; the next report is about that
	}
	obj := stored.DeepCopyObject().(api.Object)
	now := metav1.NewTime(e.cfg.Clock.Now())
	switch o := obj.(type) {
	case *api.PolicyModule:
		moduleStatus(&o.Status, r, o.Generation, now)
	case *api.AdmissionPolicy:
		e.policyStatus(&o.Status, e.host.Status(abi.Admission, key.name), r, o.Generation, now, count)
	case *api.SchedulingPolicy:
		e.policyStatus(&o.Status, e.host.Status(abi.Scheduling, key.name), r, o.Generation, now, count)
	}
	if equality.Semantic.DeepEqual(obj, stored) {
		return nil
	}
	_, err = client.Update(ctx, key.gvr, "status", obj)
	return err
}

func moduleStatus(s *api.PolicyModuleStatus, r report, generation int64, now metav1.Time) {
	s.ObservedGeneration, s.State, s.Message = generation, r.state, r.message
	s.Digest, s.ABI, s.Size, s.Toolchain = r.info.Digest, r.info.ABI, int64(r.info.Size), r.info.Toolchain
	setReady(&s.Conditions, r, generation, now)
}

func (e *Engine) policyStatus(s *api.PolicyStatus, host abi.Status, r report, generation int64, now metav1.Time, count bool) {
	if r.ready && host.Reason == "CircuitOpen" {
		r.ready, r.reason, r.message = false, host.Reason, host.Message
	}
	s.ObservedGeneration, s.Digest = generation, host.Digest
	setReady(&s.Conditions, r, generation, now)
	if !count || s.Calls == int64(host.Calls) && s.Errors == int64(host.Errors) {
		return
	}
	s.Calls, s.Rejections, s.Errors, s.FuelUsed = int64(host.Calls), int64(host.Rejections), int64(host.Errors), int64(host.Fuel)
	s.P50, s.P99 = duration(host.P50), duration(host.P99)
}

func duration(d time.Duration) *metav1.Duration {
	if d == 0 {
		return nil
	}
	return &metav1.Duration{Duration: d}
}

func setReady(conditions *[]metav1.Condition, r report, generation int64, now metav1.Time) {
	status := metav1.ConditionFalse
	if r.ready {
		status = metav1.ConditionTrue
	}
	const longest = 4096
	if len(r.message) > longest {
		r.message = strings.ToValidUTF8(r.message[:longest], "") + "…"
	}
	meta.SetStatusCondition(conditions, metav1.Condition{Type: api.PolicyReady, Status: status, Reason: r.reason, Message: r.message,
		ObservedGeneration: generation, LastTransitionTime: now})
}
