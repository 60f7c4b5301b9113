package plugins

import (
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

// StrategyType says which nodes NodeResourcesFit prefers.
type StrategyType string

// The strategies, as kube-scheduler's configuration names them.
const (
	LeastAllocated           StrategyType = "LeastAllocated"
	MostAllocated            StrategyType = "MostAllocated"
	RequestedToCapacityRatio StrategyType = "RequestedToCapacityRatio"
)

// ResourceWeight is a resource that counts, and how much.
type ResourceWeight struct {
	Name   corev1.ResourceName
	Weight int64 // 0 means 1
}

// ShapePoint is what a utilization (0 to 100) is worth (0 to 10); between two points it is on their line.
type ShapePoint struct{ Utilization, Score int64 }

// ScoringStrategy rates a node by what would be requested of its resources with the pod on it. An extended resource that the
// pod doesn't ask for, or the node doesn't have, doesn't count.
type ScoringStrategy struct {
	Type      StrategyType     // "" means LeastAllocated
	Resources []ResourceWeight // none: cpu and memory, equally
	Shape     []ShapePoint     // of RequestedToCapacityRatio, by rising utilization; none: 0 at 0, 10 at 100
}

func (t ScoringStrategy) prepare(p *framework.Prepared, pod *framework.Pod, s *framework.State) {
	resources := counted(t.Resources, pod)
	rate := leastAllocated
	switch t.Type {
	case MostAllocated:
		rate = mostAllocated
	case RequestedToCapacityRatio:
		shape := t.Shape
		if len(shape) == 0 {
			shape = []ShapePoint{{0, 0}, {100, 10}}
		}
		rate = func(requested, allocatable int64) int64 {
			if requested > allocatable {
				return onShape(shape, 100)
			}
			return onShape(shape, requested*100/allocatable)
		}
		p.Score = func(n *framework.Node) int64 {
			var sum, weights int64
			for _, r := range resources {
				if have, used := scoredAmount(n, pod, r.Name); have > 0 {
					if score := rate(used, have); score > 0 { // worthless resources don't dilute, as in kube-scheduler
						sum, weights = sum+score*r.Weight, weights+r.Weight
					}
				}
			}
			if weights == 0 {
				return 0
			}
			return int64(math.Round(float64(sum) / float64(weights)))
		}
		return
	}
	p.Score = func(n *framework.Node) int64 {
		var sum, weights int64
		for _, r := range resources {
			if have, used := scoredAmount(n, pod, r.Name); have > 0 {
				sum, weights = sum+rate(used, have)*r.Weight, weights+r.Weight
			}
		}
		if weights == 0 {
			return 0
		}
		return sum / weights
	}
	if len(t.Resources) == 0 {
		most := t.Type == MostAllocated
		p.ScoreRows = func(rows []int32, out []int64) { scoreCPUAndMemory(s.Columns(), pod, most, rows, out) }
	}
}

// scoreCPUAndMemory is the usual case for many nodes.
func scoreCPUAndMemory(c *framework.Columns, pod *framework.Pod, most bool, rows []int32, out []int64) {
	cpus, memories, cpu, memory := c.MilliCPU.Allocatable, c.Memory.Allocatable, pod.Scored.MilliCPU, pod.Scored.Memory
	for i, row := range rows {
		var sum, weights int64
		if have := cpus[row]; have > 0 {
			weights = 1
			if most {
				sum = mostAllocated(c.ScoredMilliCPU[row]+cpu, have)
			} else {
				sum = leastAllocated(c.ScoredMilliCPU[row]+cpu, have)
			}
		}
		if have := memories[row]; have > 0 {
			weights++
			if most {
				sum += mostAllocated(c.ScoredMemory[row]+memory, have)
			} else {
				sum += leastAllocated(c.ScoredMemory[row]+memory, have)
			}
		}
		if weights == 2 {
			sum /= 2
		}
		out[i] = sum
	}
}

// counted are the resources that count for a pod: cpu and memory, or those that are named; extended ones if it asks for them.
func counted(resources []ResourceWeight, pod *framework.Pod) []ResourceWeight {
	if len(resources) == 0 {
		return []ResourceWeight{{corev1.ResourceCPU, 1}, {corev1.ResourceMemory, 1}}
	}
	resources = slices.Clone(resources)
	for i := range resources {
		resources[i].Weight = max(1, resources[i].Weight)
	}
	return slices.DeleteFunc(resources, func(r ResourceWeight) bool { return isScalar(r.Name) && pod.Request.Scalar[r.Name] == 0 })
}

func isScalar(name corev1.ResourceName) bool {
	return name != corev1.ResourceCPU && name != corev1.ResourceMemory && name != corev1.ResourceEphemeralStorage && name != corev1.ResourcePods
}

// scoredAmount is a resource of the node, and what would be requested of it with the pod there.
func scoredAmount(n *framework.Node, pod *framework.Pod, name corev1.ResourceName) (have, used int64) {
	switch name {
	case corev1.ResourceCPU:
		return n.Allocatable.MilliCPU, n.Scored.MilliCPU + pod.Scored.MilliCPU
	case corev1.ResourceMemory:
		return n.Allocatable.Memory, n.Scored.Memory + pod.Scored.Memory
	}
	return amount(n, pod, name)
}

// amount is scoredAmount without what is assumed of containers that ask for nothing.
func amount(n *framework.Node, pod *framework.Pod, name corev1.ResourceName) (have, used int64) {
	return n.Allocatable.Of(name), n.Requested.Of(name) + pod.Request.Of(name)
}

func leastAllocated(requested, allocatable int64) int64 {
	if requested > allocatable {
		return 0
	}
	return (allocatable - requested) * framework.MaxScore / allocatable
}

func mostAllocated(requested, allocatable int64) int64 {
	return min(requested, allocatable) * framework.MaxScore / allocatable
}

// onShape is what a utilization is worth, 0 to MaxScore.
func onShape(shape []ShapePoint, utilization int64) int64 {
	const scale = framework.MaxScore / 10
	for i, point := range shape {
		if utilization <= point.Utilization {
			if i == 0 {
				return point.Score * scale
			}
			from := shape[i-1]
			return (from.Score*scale + (point.Score-from.Score)*scale*(utilization-from.Utilization)/(point.Utilization-from.Utilization))
		}
	}
	return shape[len(shape)-1].Score * scale
}
