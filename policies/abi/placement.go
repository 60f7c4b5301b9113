package abi

// Placement is one pod and the nodes that it may go to; placing it fills Verdicts, Scores and Reasons.
// It belongs to one call at a time.
type Placement struct {
	Pod   *Pod
	Nodes *NodeTable
	Rows  []uint32 // of the candidates, ascending; no row of a node that is gone

	Verdicts []uint32 // by candidate: 0 passes, n is refused for Reasons[n-1]
	Scores   []int32  // by candidate: 0 (worst) to 100 (best)
	Reasons  []string

	// PodObject and NodeObject give Kubernetes' protobuf, without its "k8s\0" envelope, for modules of other ABIs
	// that take the whole object. They are called only when such a module asks, and may be nil.
	PodObject  func() ([]byte, error)
	NodeObject func(row uint32) ([]byte, error)
}

// Reset makes Verdicts and Scores as long as Rows, and zero; it forgets the Reasons.
func (p *Placement) Reset() {
	p.Verdicts, p.Scores, p.Reasons = resize(p.Verdicts, len(p.Rows)), resize(p.Scores, len(p.Rows)), nil
	clear(p.Verdicts)
	clear(p.Scores)
}

func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}
