package scheduler

import (
	"maps"
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
	"github.com/pintle/pintle/policies/abi"
)

// nodeRecords keeps the table of nodes that policies read. Only nodes that have changed since the last time are
// written, and of those only what pods request where the node itself is the same.
type nodeRecords struct {
	table *abi.NodeTable
	known map[string]*nodeRecord

	nodes   []*framework.Node // the state's own list, as it was the last time
	records []*nodeRecord     // of those
	marks   []int32           // candidates's, between calls: by row
}

type nodeRecord struct {
	node    *corev1.Node
	version uint64 // of the framework's node
	row     uint32
}

func newNodeRecords() nodeRecords {
	return nodeRecords{table: abi.NewNodeTable(), known: map[string]*nodeRecord{}}
}

// update brings the table up to what the state is.
func (r *nodeRecords) update(s *framework.State) {
	if nodes := s.Nodes(); len(nodes) != len(r.nodes) || len(nodes) > 0 && &nodes[0] != &r.nodes[0] {
		r.list(nodes)
	}
	for i, n := range r.nodes {
		switch k := r.records[i]; {
		case k.node != n.Node:
			k.row = r.table.Set(policyNode(n))
			k.node, k.version = n.Node, n.Version
		case k.version != n.Version:
			r.table.SetRequested(n.Name, quantities(n.Requested), podCount(n))
			k.version = n.Version
		}
	}
}

// list finds the records of a new list of nodes, and drops those of nodes that are gone.
func (r *nodeRecords) list(nodes []*framework.Node) {
	known := make(map[string]*nodeRecord, len(nodes))
	r.nodes, r.records = nodes, make([]*nodeRecord, len(nodes))
	for i, n := range nodes {
		k := r.known[n.Name]
		if k == nil {
			k = &nodeRecord{}
		}
		r.records[i], known[n.Name] = k, k
	}
	for name := range r.known {
		if known[name] == nil {
			r.table.Delete(name)
		}
	}
	r.known = known
}

// candidates are the rows of some of the nodes, which stand in the order of the state's list, ascending; and which of
// them each is.
func (r *nodeRecords) candidates(nodes []*framework.Node, rows []uint32, which []int) ([]uint32, []int) {
	at := 0
	for i, n := range nodes {
		for r.nodes[at] != n {
			at++
		}
		row := int(r.records[at].row)
		for len(r.marks) <= row {
			r.marks = append(r.marks, 0)
		}
		r.marks[row] = int32(i) + 1
	}
	rows, which = rows[:0], which[:0]
	for row, mark := range r.marks {
		if mark > 0 {
			rows, which = append(rows, uint32(row)), append(which, int(mark)-1)
			r.marks[row] = 0
		}
	}
	return rows, which
}

func policyNode(n *framework.Node) *abi.Node {
	out := &abi.Node{
		Name: n.Name, Unschedulable: n.Node.Spec.Unschedulable, NotReady: true,
		Allocatable: quantities(n.Allocatable), Requested: quantities(n.Requested), Pods: podCount(n),
		Labels: abi.Pairs(n.Node.Labels), CreatedUnixMs: n.Node.CreationTimestamp.UnixMilli(),
	}
	for _, c := range n.Node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			out.NotReady = c.Status != corev1.ConditionTrue
		}
	}
	for _, t := range n.Node.Spec.Taints {
		out.Taints = append(out.Taints, abi.Taint{Key: t.Key, Value: t.Value, Effect: string(t.Effect)})
	}
	return out
}

func podCount(n *framework.Node) uint32 { return uint32(len(n.Pods)) }

// quantities are a resource in thousandths, in the order of names.
func quantities(r framework.Resource) (out []abi.Quantity) {
	add := func(name corev1.ResourceName, amount int64) {
		if amount != 0 {
			out = append(out, abi.Quantity{Name: string(name), Milli: amount})
		}
	}
	add(corev1.ResourceCPU, r.MilliCPU)
	add(corev1.ResourceMemory, thousandfold(r.Memory))
	add(corev1.ResourceEphemeralStorage, thousandfold(r.EphemeralStorage))
	add(corev1.ResourcePods, thousandfold(r.Pods))
	for _, name := range slices.Sorted(maps.Keys(r.Scalar)) {
		add(name, thousandfold(r.Scalar[name]))
	}
	return out
}

func thousandfold(n int64) int64 {
	if n > math.MaxInt64/1000 {
		return math.MaxInt64
	}
	return n * 1000
}
