package devices

import (
	"math"
	"math/rand/v2"

	"github.com/pintle/pintle/gpu/topology"
)

// View is a node as policies see it.
type View struct {
	topology.NodeFree
	// Alike is how many pods on the node ask for the same of GPUs as the one that is placed.
	Alike int

	memo *memo // nil: none
}

// memo is a node's value before a pod comes, which is the same for pods of all classes.
type memo struct {
	prices      *topology.Prices // nil: not known
	cpu, memory int64
	value       float64
}

func (m *memo) before(v *View, p *topology.Prices) float64 {
	if m == nil {
		return p.Value(&v.NodeFree)
	}
	if m.prices != p || m.cpu != v.CPUMilli || m.memory != v.Memory {
		*m = memo{p, v.CPUMilli, v.Memory, p.Value(&v.NodeFree)}
	}
	return m.value
}

// Policy says which node, and which of its GPUs for a part of one, is best for a pod of the class that fits there.
type Policy interface {
	// Rate is smaller where it is better. gpu is the position in the View's GPUMilli to take a part from; -1 where the class
	// asks for none or for whole ones. It changes nothing that it is given.
	Rate(v *View, c *topology.PodClass) (rating float64, gpu int)
}

// positions calls do with what is free of each GPU once the pod is placed in every way that differs. gpu is the first GPU
// that it has a part of. The slice is reused.
func positions(v *View, c *topology.PodClass, do func(after *topology.NodeFree, gpu int)) {
	var room [topology.MaxGPUs]int
	after := v.NodeFree
	after.CPUMilli -= c.CPUMilli
	after.Memory -= c.Memory
	after.GPUMilli = append(room[:0], v.GPUMilli...)
	switch {
	case c.GPUs == 0:
		do(&after, -1)
	case c.GPUs == 1 && c.GPUMilli < topology.Whole:
		for i, free := range v.GPUMilli {
			if free < c.GPUMilli || repeats(v.GPUMilli, i) {
				continue
			}
			after.GPUMilli[i] = free - c.GPUMilli
			do(&after, i)
			after.GPUMilli[i] = free
		}
	default:
		takeWhole(after.GPUMilli, c)
		do(&after, -1)
	}
}

// takeWhole takes what the class asks for of the first GPUs that have it.
func takeWhole(free []int, c *topology.PodClass) {
	need := c.GPUs
	for i := range free {
		if need > 0 && free[i] >= c.GPUMilli {
			free[i] -= c.GPUMilli
			need--
		}
	}
}

// repeats says whether an earlier GPU has as much free.
func repeats(free []int, i int) bool {
	for _, f := range free[:i] {
		if f == free[i] {
			return true
		}
	}
	return false
}

func least(v *View, c *topology.PodClass, rate func(after *topology.NodeFree) float64) (float64, int) {
	best, at := math.Inf(1), -1
	positions(v, c, func(after *topology.NodeFree, gpu int) {
		if r := rate(after); r < best {
			best, at = r, gpu
		}
	})
	return best, at
}

func idle(gpus []int) (total int) {
	for _, free := range gpus {
		total += free
	}
	return total
}

// What a CPU and a GPU that stay free weigh where two ways are nearly as good: the fuller node is better.
const (
	perCPU = 4.7e-5
	perGPU = 1.25e-3
)

func leftover(n *topology.NodeFree) float64 {
	return perCPU*float64(n.CPUMilli) + perGPU*float64(idle(n.GPUMilli))
}

// Pricing places a pod where the least is lost of what a node is worth to those that come after, by the prices of what is
// left. Without prices it takes the best fit.
type Pricing struct{ Prices *topology.Prices }

// Rate implements Policy.
func (p Pricing) Rate(v *View, c *topology.PodClass) (float64, int) {
	if p.Prices == nil {
		return BestFit{}.Rate(v, c)
	}
	// As least does it, without what a function that is handed over costs: a new mix asks this of every node.
	var room [topology.MaxGPUs]int
	after := v.NodeFree
	after.CPUMilli -= c.CPUMilli
	after.Memory -= c.Memory
	after.GPUMilli = append(room[:0], v.GPUMilli...)
	best, at := math.Inf(1), -1
	if c.GPUs == 1 && c.GPUMilli < topology.Whole {
		for i, free := range v.GPUMilli {
			if free < c.GPUMilli || repeats(v.GPUMilli, i) {
				continue
			}
			after.GPUMilli[i] = free - c.GPUMilli
			if r := p.Prices.Value(&after); r < best {
				best, at = r, i
			}
			after.GPUMilli[i] = free
		}
	} else {
		takeWhole(after.GPUMilli, c)
		best = p.Prices.Value(&after)
	}
	left := perCPU*float64(after.CPUMilli) + perGPU*float64(idle(v.GPUMilli)-c.GPUs*c.GPUMilli)
	return best - v.memo.before(v, p.Prices) + left, at
}

// BestFit places a pod where the least is left.
type BestFit struct{}

// The largest nodes that are common, so that shares of CPU and of GPU compare.
const (
	largeCPU = 96_000
	largeGPU = 8 * topology.Whole
)

// Rate implements Policy.
func (BestFit) Rate(v *View, c *topology.PodClass) (float64, int) {
	return least(v, c, func(after *topology.NodeFree) float64 {
		tight := 0.0 // of equal nodes and sums, the GPU that is left with less: squares prefer uneven ones
		for _, free := range after.GPUMilli {
			tight -= float64(free * free)
		}
		return float64(after.CPUMilli)/largeCPU + float64(idle(after.GPUMilli))/largeGPU + 1e-15*tight
	})
}

// FGD is Fragmentation Gradient Descent (Weng et al., USENIX ATC 2023): a pod goes where the fragmentation of the mix that the
// prices were made of grows least, in coarse steps; of equals, to the best fit.
type FGD struct{ Prices *topology.Prices }

// Rate implements Policy.
func (p FGD) Rate(v *View, c *topology.PodClass) (float64, int) {
	before := p.Prices.Fragmentation(&v.NodeFree)
	return least(v, c, func(after *topology.NodeFree) float64 {
		const coarse = 40 // thousandths of a GPU: about the paper's integer scores near zero
		return coarse*math.Round((p.Prices.Fragmentation(after)-before)/coarse) + leftover(after)/100
	})
}

// DotProduct places a pod where the product of what is free with what it asks for is least.
type DotProduct struct{}

// Rate implements Policy.
func (DotProduct) Rate(v *View, c *topology.PodClass) (float64, int) {
	_, gpu := BestFit{}.Rate(v, c)
	return float64(v.CPUMilli)/largeCPU*float64(c.CPUMilli)/largeCPU +
		float64(idle(v.GPUMilli))/largeGPU*float64(c.GPUs*c.GPUMilli)/largeGPU, gpu
}

// Packing places a pod on GPUs that are in use, else on idle ones of nodes in use, else on idle nodes.
type Packing struct{}

// Rate implements Policy.
func (Packing) Rate(v *View, c *topology.PodClass) (float64, int) {
	_, gpu := BestFit{}.Rate(v, c)
	free := idle(v.GPUMilli)
	tier := 1.0
	switch {
	case free == len(v.GPUMilli)*topology.Whole:
		tier = 2
	case gpu >= 0 && v.GPUMilli[gpu] < topology.Whole:
		tier = 0
	}
	return tier*10*topology.Whole*topology.MaxGPUs + float64(free), gpu
}

// Clustering places a pod on nodes that have most pods that ask for the same of GPUs.
type Clustering struct{}

// Rate implements Policy.
func (Clustering) Rate(v *View, c *topology.PodClass) (float64, int) {
	_, gpu := BestFit{}.Rate(v, c)
	return -float64(v.Alike) + float64(idle(v.GPUMilli))/(10*topology.Whole*topology.MaxGPUs), gpu
}

// Random places a pod anywhere. It is for one goroutine.
type Random struct{ Rand *rand.Rand }

// Rate implements Policy.
func (p Random) Rate(v *View, c *topology.PodClass) (float64, int) {
	gpu, seen := -1, 0
	if c.GPUs == 1 && c.GPUMilli < topology.Whole {
		for i, free := range v.GPUMilli {
			if free >= c.GPUMilli {
				if seen++; p.Rand.IntN(seen) == 0 {
					gpu = i
				}
			}
		}
	}
	return p.Rand.Float64(), gpu
}
