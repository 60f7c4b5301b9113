package plugins

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

// NodeResourcesFit refuses nodes without room for the pod's requests, and prefers the least
// allocated ones (cpu and memory, equally).
type NodeResourcesFit struct{}

// Name implements framework.Plugin.
func (NodeResourcesFit) Name() string { return "NodeResourcesFit" }

// Prepare implements framework.Plugin.
func (NodeResourcesFit) Prepare(pod *framework.Pod, _ *framework.State) framework.Prepared {
	want := pod.Request
	var scalars []corev1.ResourceName
	for name := range want.Scalar {
		scalars = append(scalars, name)
	}
	slices.Sort(scalars)
	return framework.Prepared{
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
			for _, name := range scalars {
				if amount := want.Scalar[name]; amount > 0 && amount > have.Scalar[name]-used.Scalar[name] {
					reasons = append(reasons, "Insufficient "+string(name))
				}
			}
			return reasons
		},
		Score: func(n *framework.Node) int64 {
			return (leastAllocated(n.Scored.MilliCPU+pod.Scored.MilliCPU, n.Allocatable.MilliCPU) +
				leastAllocated(n.Scored.Memory+pod.Scored.Memory, n.Allocatable.Memory)) / 2
		},
		Weight: 1,
	}
}

func leastAllocated(requested, allocatable int64) int64 {
	if allocatable <= 0 || requested > allocatable {
		return 0
	}
	return (allocatable - requested) * framework.MaxScore / allocatable
}
