package plugins

import (
	"math"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

// NodeResourcesBalancedAllocation prefers nodes whose resources would be used to like shares.
type NodeResourcesBalancedAllocation struct {
	// Resources are those that are compared; none: cpu and memory. Their weights don't count. An extended resource counts for
	// pods that ask for it.
	Resources []ResourceWeight
}

// Name implements framework.Plugin.
func (NodeResourcesBalancedAllocation) Name() string { return "NodeResourcesBalancedAllocation" }

// Prepare implements framework.Plugin.
func (b NodeResourcesBalancedAllocation) Prepare(pod *framework.Pod, s *framework.State) framework.Prepared {
	resources := counted(b.Resources, pod)
	asks := false
	for _, r := range resources {
		asks = asks || pod.Request.Of(r.Name) > 0
	}
	if !asks {
		return framework.Prepared{Local: true} // such a pod changes no node's balance
	}
	p := framework.Prepared{Local: true, Weight: 1}
	p.Score = func(n *framework.Node) int64 {
		var space [8]float64
		shares := space[:0]
		for _, r := range resources {
			if have, used := amount(n, pod, r.Name); have > 0 {
				shares = append(shares, min(1, float64(used)/float64(have)))
			}
		}
		return balance(shares)
	}
	if len(b.Resources) == 0 {
		p.ScoreRows = func(rows []int32, out []int64) {
			c := s.Columns()
			for i, row := range rows {
				cpu, memory := c.MilliCPU.Allocatable[row], c.Memory.Allocatable[row]
				if cpu <= 0 || memory <= 0 {
					out[i] = framework.MaxScore
					continue
				}
				x := min(1, float64(c.MilliCPU.Requested[row]+pod.Request.MilliCPU)/float64(cpu))
				y := min(1, float64(c.Memory.Requested[row]+pod.Request.Memory)/float64(memory))
				out[i] = int64((1 - math.Abs(x-y)/2) * framework.MaxScore)
			}
		}
	}
	return p
}

// balance is best where the shares' standard deviation is 0.
func balance(shares []float64) int64 {
	var deviation float64
	switch len(shares) {
	case 0, 1:
	case 2:
		deviation = math.Abs(shares[0]-shares[1]) / 2
	default:
		var mean, sum float64
		for _, x := range shares {
			mean += x / float64(len(shares))
		}
		for _, x := range shares {
			sum += (x - mean) * (x - mean)
		}
		deviation = math.Sqrt(sum / float64(len(shares)))
	}
	return int64((1 - deviation) * framework.MaxScore)
}
