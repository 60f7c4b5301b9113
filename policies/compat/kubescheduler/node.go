package kubescheduler

import "github.com/pintle/pintle/policies/abi"

// nodeOf reads back what a table keeps of the node at a row.
func nodeOf(t *abi.NodeTable, row uint32) *abi.Node {
	r := t.Records()[row]
	n := &abi.Node{
		Name:          t.String(r.Name),
		Unschedulable: r.Flags&abi.FlagUnschedulable != 0,
		NotReady:      r.Flags&abi.FlagNotReady != 0,
		CreatedUnixMs: r.CreatedUnixMs,
		Allocatable: []abi.Quantity{
			{Name: "cpu", Milli: r.CPUAllocatable},
			{Name: "memory", Milli: r.MemoryAllocatable * 1000},
			{Name: "ephemeral-storage", Milli: r.EphemeralAllocatable * 1000},
			{Name: "pods", Milli: int64(r.PodsAllocatable) * 1000},
		},
	}
	if r.GPUAllocatable != 0 {
		n.Allocatable = append(n.Allocatable, abi.Quantity{Name: "nvidia.com/gpu", Milli: r.GPUAllocatable})
	}
	for _, q := range t.Quantities()[r.Quantities:][:r.QuantityCount] {
		n.Allocatable = append(n.Allocatable, abi.Quantity{Name: t.String(q.Name), Milli: q.Allocatable})
	}
	all := t.Pairs()
	for _, p := range all[r.Labels:][:r.LabelCount] {
		n.Labels = append(n.Labels, abi.Pair{Key: t.String(p.Key), Value: t.String(p.Value)})
	}
	for i := range r.TaintCount {
		p, effect := all[r.Taints+2*i], all[r.Taints+2*i+1]
		n.Taints = append(n.Taints, abi.Taint{Key: t.String(p.Key), Value: t.String(p.Value), Effect: t.String(effect.Key)})
	}
	return n
}
