package policy

import (
	"context"
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/policies/abi"
)

// Reasons of the condition Ready, beside the host's.
const (
	reasonDeciding        = "Deciding"
	reasonModuleNotFound  = "ModuleNotFound"
	reasonModuleNotReady  = "ModuleNotReady"
	reasonSettingsRefused = "SettingsRefused"
)

// policy is one AdmissionPolicy or SchedulingPolicy on its way into the host, and what decides of it.
type policy struct {
	key    policyKey
	object api.Object // the newest
	// active is the version that decides, with the host's policy that it is; nil: none has ever been ready.
	active api.Object
	set    abi.Policy

	reason, message string // why the newest doesn't decide; "": it does
	coming          bool   // it may soon
	refused         string // the version, and the module's, that was refused last
	match           *matcher
	matched         api.Object // the version that match is of
}

func (p *policy) gvr() schema.GroupVersionResource {
	if p.key.kind == abi.Admission {
		return admissionGVR()
	}
	return schedulingGVR()
}

// deciding is the version that decides: where none has ever been ready, the newest, which can't be asked.
func (p *policy) deciding() api.Object {
	if p.active != nil {
		return p.active
	}
	return p.object
}

// hostPolicy is an object as the host runs it.
func hostPolicy(o api.Object) abi.Policy {
	switch p := o.(type) {
	case *api.AdmissionPolicy:
		out := abi.Policy{Name: p.Name, Kind: abi.Admission, Module: p.Spec.Module, Limits: limits(p.Spec.Limits), Capabilities: p.Spec.Capabilities}
		if p.Spec.Settings != nil {
			out.Settings = p.Spec.Settings.Raw
		}
		return out
	case *api.SchedulingPolicy:
		out := abi.Policy{Name: p.Name, Kind: abi.Scheduling, Module: p.Spec.Module, Limits: limits(p.Spec.Limits), Capabilities: p.Spec.Capabilities,
			Hooks: hooks(p.Spec.ExtensionPoints)}
		if p.Spec.Settings != nil {
			out.Settings = p.Spec.Settings.Raw
		}
		return out
	}
	return abi.Policy{}
}

// Hooks of the host.
const (
	hookPlace      = "Place"
	hookQueueSort  = "QueueSort"
	hookPermit     = "Permit"
	hookPostFilter = "PostFilter"
)

// hooks are the extension points as the host names them: Filter and Score are one call.
func hooks(points []api.ExtensionPoint) (out []string) {
	place := false
	for _, point := range points {
		switch point {
		case api.PointFilter, api.PointScore:
			if !place {
				out = append(out, hookPlace)
			}
			place = true
		default:
			out = append(out, string(point))
		}
	}
	return out
}

func limits(l *api.PolicyLimits) (out abi.Limits) {
	if l == nil {
		return out
	}
	if l.Fuel != nil {
		out.Fuel = uint64(*l.Fuel)
	}
	if l.Memory != nil {
		out.MemoryBytes = uint64(l.Memory.Value())
	}
	if l.Output != nil {
		out.OutputBytes = int(l.Output.Value())
	}
	if l.HostCalls != nil {
		out.HostCalls = int(*l.HostCalls)
	}
	if l.Timeout != nil {
		out.Timeout = l.Timeout.Duration
	}
	return out
}

// syncPolicies brings the newest versions into the host where it takes them, and forgets policies that are no more.
// It returns those, which the host still has.
func (s *syncer) syncPolicies(ctx context.Context, objects []api.Object) (gone []policyKey) {
	there := map[policyKey]bool{}
	for _, o := range objects {
		key := policyKey{abi.Scheduling, o.GetName()}
		if _, ok := o.(*api.AdmissionPolicy); ok {
			key.kind = abi.Admission
		}
		there[key] = true
		p := s.policies[key]
		if p == nil || p.object.GetUID() != o.GetUID() { // the same name is not the same policy
			p = &policy{key: key}
			s.policies[key] = p
		}
		p.object = o
		s.syncPolicy(ctx, p)
	}
	for key := range s.policies {
		if !there[key] {
			delete(s.policies, key)
			gone = append(gone, key)
		}
	}
	return gone
}

func (s *syncer) syncPolicy(ctx context.Context, p *policy) {
	want := hostPolicy(p.object)
	if p.active != nil && s.modules[p.set.Module] == nil { // it decides by nothing
		s.host.Remove(p.key.kind, p.key.name)
		p.active, p.set = nil, abi.Policy{}
	}
	m := s.modules[want.Module]
	switch {
	case m == nil:
		p.waits(reasonModuleNotFound, fmt.Sprintf("there is no PolicyModule %q", want.Module), false)
	case m.used == "":
		state, message := m.state()
		p.waits(reasonModuleNotReady, fmt.Sprintf("PolicyModule %q is %s", want.Module, state)+colon(message), m.coming())
	case p.active != nil && reflect.DeepEqual(want, p.set):
		p.decides(p.object, want)
	default:
		attempt := version(p.object) + " " + m.used
		if p.refused == attempt {
			p.coming = false
			return
		}
		if err := s.host.Set(ctx, want); err != nil {
			if ctx.Err() != nil {
				return
			}
			if p.active == nil {
				s.host.Remove(p.key.kind, p.key.name) // so that what it refuses holds up nobody else's module
			}
			p.refused = attempt
			p.waits(reasonSettingsRefused, err.Error(), false)
			s.log.Warn("a policy can't be used", "kind", string(p.key.kind), "policy", p.key.name, "error", err)
			return
		}
		p.decides(p.object, want)
	}
}

func colon(message string) string {
	if message == "" {
		return ""
	}
	return ": " + message
}

func (p *policy) waits(reason, message string, coming bool) {
	if p.active != nil {
		message += "; the previous version decides"
	}
	p.reason, p.message, p.coming = reason, message, coming
}

func (p *policy) decides(active api.Object, set abi.Policy) {
	p.active, p.set, p.reason, p.message, p.coming, p.refused = active, set, "", "", false, ""
}

func (p *policy) entry(failure api.PolicyFailure) entry {
	e := entry{name: p.key.name, fail: failure != api.PolicyIgnore, coming: p.coming}
	if p.active == nil {
		e.down = p.message
	}
	return e
}

func (p *policy) admissionEntry(o *api.AdmissionPolicy) *admissionEntry {
	out := &admissionEntry{entry: p.entry(o.Spec.FailurePolicy), mutate: o.Spec.Type == api.PolicyMutate, order: o.Spec.Order, mode: o.Spec.Mode}
	if p.matched != api.Object(o) {
		match, err := newMatcher(o.Spec.MatchConstraints)
		if err != nil { // validation refuses it
			match = &matcher{}
		}
		p.match, p.matched = match, o
	}
	out.match = p.match
	return out
}

func (s *syncer) schedulingEntry(p *policy, o *api.SchedulingPolicy) *schedulingEntry {
	out := &schedulingEntry{entry: p.entry(o.Spec.FailurePolicy), weight: max(o.Spec.Weight, 1), version: version(o)}
	if p.active != nil {
		out.hooks = s.host.Status(abi.Scheduling, p.key.name).Hooks
		if m := s.modules[p.set.Module]; m != nil {
			out.version += " " + m.used
		}
	}
	out.filter, out.score = len(o.Spec.ExtensionPoints) == 0, len(o.Spec.ExtensionPoints) == 0
	for _, point := range o.Spec.ExtensionPoints {
		out.filter = out.filter || point == api.PointFilter
		out.score = out.score || point == api.PointScore
	}
	return out
}
