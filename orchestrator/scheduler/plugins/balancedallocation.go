package plugins

import (
	"math"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

// NodeResourcesBalancedAllocation prefers nodes whose cpu and memory would be used to like shares.
type NodeResourcesBalancedAllocation struct{}

// Name implements framework.Plugin.
func (NodeResourcesBalancedAllocation) Name() string { return "NodeResourcesBalancedAllocation" }

// Prepare implements framework.Plugin.
func (NodeResourcesBalancedAllocation) Prepare(pod *framework.Pod, _ *framework.State) framework.Prepared {
	if pod.Request.MilliCPU == 0 && pod.Request.Memory == 0 {
		return framework.Prepared{} // such a pod changes no node's balance
	}
	return framework.Prepared{
		Score: func(n *framework.Node) int64 {
			cpu := share(n.Requested.MilliCPU+pod.Request.MilliCPU, n.Allocatable.MilliCPU)
			memory := share(n.Requested.Memory+pod.Request.Memory, n.Allocatable.Memory)
			// The standard deviation of two shares is half their distance.
			return int64((1 - math.Abs(cpu-memory)/2) * framework.MaxScore)
		},
		Weight: 1,
	}
}

func share(requested, allocatable int64) float64 {
	if allocatable <= 0 {
		return 1
	}
	return min(1, float64(requested)/float64(allocatable))
}
