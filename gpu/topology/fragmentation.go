package topology

// NodeFree is what of a node is free, as far as fragmentation counts.
type NodeFree struct {
	CPUMilli int64
	Memory   int64 // bytes; of the node, not of its GPUs
	Model    string
	GPUMilli []int // of each GPU, 0 to Whole
}

// PodClass is a kind of pod that the workload has, and how often.
type PodClass struct {
	Frequency float64 // of all classes that are counted; they sum to 1
	CPUMilli  int64
	Memory    int64
	GPUMilli  int      // of each GPU: a part of one, or Whole of each
	GPUs      int      // 1 with a part; 0: no GPU
	Models    []string // that it takes; none: any
}

// Runs says whether a pod of the class fits on the node.
func (c *PodClass) Runs(n *NodeFree) bool {
	if c.CPUMilli > n.CPUMilli || c.Memory > n.Memory {
		return false
	}
	if c.GPUs == 0 {
		return true
	}
	if len(c.Models) > 0 {
		ok := false
		for _, m := range c.Models {
			ok = ok || m == n.Model
		}
		if !ok {
			return false
		}
	}
	fit := 0
	for _, free := range n.GPUMilli {
		if free >= c.GPUMilli {
			fit++
		}
	}
	return fit >= c.GPUs
}

// Fragmentation is how much of the node's idle GPU, in thousandths, a pod drawn from the classes can't use,
// on average: FGD's measure (Weng et al., «Beware of Fragmentation», USENIX ATC 2023). For a class that
// doesn't fit, or that asks for no GPU, it is all that is idle; for one that fits, the GPUs with less free
// than it asks of one.
func Fragmentation(n *NodeFree, classes []PodClass) float64 {
	idle := 0
	for _, free := range n.GPUMilli {
		idle += free
	}
	if idle == 0 {
		return 0
	}
	total := 0.0
	for i := range classes {
		c := &classes[i]
		if c.GPUs == 0 || !c.Runs(n) {
			total += c.Frequency * float64(idle)
			continue
		}
		lost := 0
		for _, free := range n.GPUMilli {
			if free < c.GPUMilli {
				lost += free
			}
		}
		total += c.Frequency * float64(lost)
	}
	return total
}

// FragmentationAfter is the measure once the share was taken from the GPUs at these positions. The node
// stays as it is.
func FragmentationAfter(n *NodeFree, classes []PodClass, c *PodClass, gpus []int) float64 {
	after := *n
	after.CPUMilli -= c.CPUMilli
	after.Memory -= c.Memory
	after.GPUMilli = append([]int(nil), n.GPUMilli...)
	for _, i := range gpus {
		after.GPUMilli[i] -= c.GPUMilli
	}
	return Fragmentation(&after, classes)
}
