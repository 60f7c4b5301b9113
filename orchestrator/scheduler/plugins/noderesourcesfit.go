package plugins

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

// NodeResourcesFit refuses nodes without room for the pod's requests, and prefers nodes as its Strategy says.
type NodeResourcesFit struct {
	// Strategy rates nodes; the zero value is LeastAllocated over cpu and memory, equally.
	Strategy ScoringStrategy
	// IgnoredResources are extended resources that Filter doesn't look at.
	IgnoredResources []corev1.ResourceName
	// Ignore says so of further ones, which another plugin looks after. Nil: none.
	Ignore func(corev1.ResourceName) bool
}

func (f *NodeResourcesFit) ignores(name corev1.ResourceName) bool {
	return slices.Contains(f.IgnoredResources, name) || f.Ignore != nil && f.Ignore(name)
}

// Name implements framework.Plugin.
func (NodeResourcesFit) Name() string { return "NodeResourcesFit" }

// wanted is one extended resource that a pod asks for.
type wanted struct {
	name   corev1.ResourceName
	amount int64
	reason string
}

// Prepare implements framework.Plugin.
func (f NodeResourcesFit) Prepare(pod *framework.Pod, s *framework.State) framework.Prepared {
	want := &pod.Request
	var scalars []wanted
	for name, amount := range want.Scalar {
		if amount > 0 && !f.ignores(name) {
			scalars = append(scalars, wanted{name, amount, "Insufficient " + string(name)})
		}
	}
	slices.SortFunc(scalars, func(a, b wanted) int {
		if a.name < b.name {
			return -1
		}
		return 1
	})
	p := framework.Prepared{Local: true, Weight: 1,
		Filter: func(n *framework.Node) (reasons []string) {
			have, used := &n.Allocatable, &n.Requested
			if used.Pods+1 > have.Pods {
				reasons = append(reasons, "Too many pods")
			}
			if want.MilliCPU > 0 && want.MilliCPU > have.MilliCPU-used.MilliCPU {
				reasons = append(reasons, "Insufficient cpu")
			}
			if want.Memory > 0 && want.Memory > have.Memory-used.Memory {
				reasons = append(reasons, "Insufficient memory")
			}
			if want.EphemeralStorage > 0 && want.EphemeralStorage > have.EphemeralStorage-used.EphemeralStorage {
				reasons = append(reasons, "Insufficient ephemeral-storage")
			}
			for i := range scalars {
				if scalar := &scalars[i]; scalar.amount > have.Scalar[scalar.name]-used.Scalar[scalar.name] {
					reasons = append(reasons, scalar.reason)
				}
			}
			return reasons
		},
		FilterRows: func(ok []bool) {
			c := s.Columns()
			room(ok, &c.Pods, 1)
			room(ok, &c.MilliCPU, want.MilliCPU)
			room(ok, &c.Memory, want.Memory)
			room(ok, &c.EphemeralStorage, want.EphemeralStorage)
			for i := range scalars {
				room(ok, s.Scalar(scalars[i].name), scalars[i].amount)
			}
		}}
	f.Strategy.prepare(&p, pod, s)
	return p
}

// room clears ok where want is more than what is free.
func room(ok []bool, a *framework.Amounts, want int64) {
	if want <= 0 {
		return
	}
	have, used := a.Allocatable[:len(ok)], a.Requested[:len(ok)]
	for row := range ok {
		ok[row] = ok[row] && want <= have[row]-used[row]
	}
}

// Missing says by how much a resource that the pod asks for is short on the node; "" and 0 where none is. Of several it is the
// scarcest kind: extended resources before the others.
func (f NodeResourcesFit) Missing(pod *framework.Pod, n *framework.Node) (name corev1.ResourceName, amount int64) {
	have, used, want := &n.Allocatable, &n.Requested, &pod.Request
	short := func(resource corev1.ResourceName, want, free int64) {
		if amount == 0 && want > 0 && want > free {
			name, amount = resource, want-max(0, free)
		}
	}
	names := make([]corev1.ResourceName, 0, len(want.Scalar))
	for name := range want.Scalar {
		if !f.ignores(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		short(name, want.Scalar[name], have.Scalar[name]-used.Scalar[name])
	}
	short(corev1.ResourceCPU, want.MilliCPU, have.MilliCPU-used.MilliCPU)
	short(corev1.ResourceMemory, want.Memory, have.Memory-used.Memory)
	short(corev1.ResourceEphemeralStorage, want.EphemeralStorage, have.EphemeralStorage-used.EphemeralStorage)
	short(corev1.ResourcePods, 1, have.Pods-used.Pods)
	return name, amount
}

// Helps implements framework.Hinter.
func (f NodeResourcesFit) Helps(pod *framework.Pod, n *framework.Node) bool {
	priority := int32(0)
	if pod.Spec.Priority != nil {
		priority = *pod.Spec.Priority
	}
	pods, below := n.Below(priority)
	have, used, want := &n.Allocatable, &n.Requested, &pod.Request
	if int(used.Pods)-pods+1 > int(have.Pods) || want.MilliCPU > 0 && want.MilliCPU > have.MilliCPU-used.MilliCPU+below.MilliCPU ||
		want.Memory > 0 && want.Memory > have.Memory-used.Memory+below.Memory ||
		want.EphemeralStorage > 0 && want.EphemeralStorage > have.EphemeralStorage-used.EphemeralStorage+below.EphemeralStorage {
		return false
	}
	for name, amount := range want.Scalar {
		if amount > have.Scalar[name]-used.Scalar[name]+below.Scalar[name] && !f.ignores(name) {
			return false
		}
	}
	return true
}
