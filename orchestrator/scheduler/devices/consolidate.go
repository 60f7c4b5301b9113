package devices

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/gpu/topology"
)

// Host is a node as consolidation sees it: what is free, and who has parts of its GPUs.
type Host struct {
	Name    string
	Free    topology.NodeFree
	Tenants []Tenant
}

// Tenant is a pod with a part of one GPU.
type Tenant struct {
	UID      types.UID
	GPU      int // position in the Host's GPUMilli
	Milli    int
	CPUMilli int64
	Memory   int64
	Movable  bool // it may be ended here and started elsewhere
	// Suits says whether it may run on a node; nil: on every one.
	Suits func(node string) bool
}

// Move takes a pod from one GPU to another. Those of a plan are to be done in order.
type Move struct {
	UID      types.UID
	From, To string
	GPU      int // position on the node To
}

// Consolidate plans at most so many moves that free whole GPUs: of a GPU whose tenants may all move, and find room on GPUs
// of the same model that are in use already, all move. GPUs that need the least moved come first. It is pure, and a plan
// leaves nobody on the way: each move fits when those before it are done. hosts are left as they are.
func Consolidate(hosts []Host, most int) []Move {
	p := newPlan(hosts)
	var moves []Move
	for _, s := range p.sources() {
		if len(s.tenants) > most-len(moves) || p.touched[s.seat] {
			continue
		}
		moves = append(moves, p.empty(s)...)
	}
	return moves
}

// seat is one GPU.
type seat struct{ host, gpu int }

type source struct {
	seat
	taken   int
	tenants []Tenant // the greatest first
}

type plan struct {
	hosts   []Host
	byFree  [topology.Whole][]seat // GPUs in use, by what is free
	touched map[seat]bool          // it has been emptied, or has got a tenant
}

func newPlan(hosts []Host) *plan {
	p := &plan{touched: map[seat]bool{}}
	for i, h := range hosts {
		h.Free.GPUMilli = slices.Clone(h.Free.GPUMilli)
		p.hosts = append(p.hosts, h)
		for g, free := range h.Free.GPUMilli {
			if free > 0 && free < topology.Whole {
				p.byFree[free] = append(p.byFree[free], seat{i, g})
			}
		}
	}
	return p
}

// sources are the GPUs that could be emptied, those first that need the least moved.
func (p *plan) sources() []source {
	var out []source
	for i, h := range p.hosts {
		for g, free := range h.Free.GPUMilli {
			s := source{seat: seat{i, g}}
			movable := true
			for _, t := range h.Tenants {
				if t.GPU == g {
					s.tenants, s.taken, movable = append(s.tenants, t), s.taken+t.Milli, movable && t.Movable
				}
			}
			if len(s.tenants) > 0 && movable && s.taken == topology.Whole-free {
				slices.SortStableFunc(s.tenants, func(a, b Tenant) int { return b.Milli - a.Milli })
				out = append(out, s)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b source) int {
		return cmp.Or(a.taken-b.taken, len(a.tenants)-len(b.tenants))
	})
	return out
}

// empty moves all tenants of a GPU, or none.
func (p *plan) empty(s source) []Move {
	var moves []Move
	var to []seat
	for _, t := range s.tenants {
		at, ok := p.room(s, t)
		if !ok {
			for k := range to {
				p.put(to[k], s.host, s.tenants[k], -1)
			}
			return nil
		}
		p.put(at, s.host, t, 1)
		to = append(to, at)
		moves = append(moves, Move{UID: t.UID, From: p.hosts[s.host].Name, To: p.hosts[at.host].Name, GPU: at.gpu})
	}
	for _, at := range to {
		p.touched[at] = true
	}
	p.touched[s.seat] = true
	from := &p.hosts[s.host].Free
	p.drop(s.seat, from.GPUMilli[s.gpu])
	from.GPUMilli[s.gpu] = topology.Whole
	return moves
}

// room is the GPU in use where the least is left beside the tenant.
func (p *plan) room(s source, t Tenant) (seat, bool) {
	from := &p.hosts[s.host].Free
	for free := max(t.Milli, 1); free < topology.Whole; free++ {
		for _, at := range p.byFree[free] {
			to := &p.hosts[at.host].Free
			if at != s.seat && to.Model == from.Model && (at.host == s.host || t.CPUMilli <= to.CPUMilli && t.Memory <= to.Memory) &&
				(t.Suits == nil || t.Suits(p.hosts[at.host].Name)) {
				return at, true
			}
		}
	}
	return seat{}, false
}

// put adds the tenant (sign 1), or takes it back (-1). Its CPU and memory leave the node that it comes from only in the
// end: a plan doesn't count on what it frees.
func (p *plan) put(at seat, from int, t Tenant, sign int) {
	h := &p.hosts[at.host].Free
	p.drop(at, h.GPUMilli[at.gpu])
	h.GPUMilli[at.gpu] -= sign * t.Milli
	if free := h.GPUMilli[at.gpu]; free > 0 && free < topology.Whole {
		p.byFree[free] = append(p.byFree[free], at)
	}
	if at.host != from {
		h.CPUMilli -= int64(sign) * t.CPUMilli
		h.Memory -= int64(sign) * t.Memory
	}
}

func (p *plan) drop(at seat, free int) {
	if free > 0 && free < topology.Whole {
		p.byFree[free] = slices.DeleteFunc(p.byFree[free], func(s seat) bool { return s == at })
	}
}
