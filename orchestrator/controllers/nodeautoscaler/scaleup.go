package nodeautoscaler

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/api/volumes"
)

const (
	// maxPending is how many pods one look is about: the others are next.
	maxPending = 2000
	// maxTold is of how many pods that no group helps the reasons are worked out.
	maxTold = 100
)

// growth is nodes to ask for, and whom they help.
type growth struct {
	group string
	from  int // the group's size before
	max   int
	nodes int
	pods  []*corev1.Pod
}

// growPlan is what pending pods come to.
type growPlan struct {
	grow     []growth
	helpless map[types.UID]string // why no group helps them
	pods     map[types.UID]*corev1.Pod
}

// decideGrowth chooses what to ask for.
func decideGrowth(ctx context.Context, w *world, fresh func() Simulator) growPlan {
	plan := growPlan{helpless: map[types.UID]string{}, pods: map[types.UID]*corev1.Pod{}}
	sizes := map[string]int{}
	for _, g := range w.groups {
		sizes[g.Name] = g.Size
		if g.Size < g.Min && !w.resting[g.Name] {
			plan.grow = append(plan.grow, growth{group: g.Name, from: g.Size, max: g.Max, nodes: g.Min - g.Size})
			sizes[g.Name] = g.Min
		}
	}
	pending := w.pending()
	if len(pending) > maxPending {
		pending = pending[:maxPending]
	}
	if len(pending) == 0 {
		return plan
	}
	sim := w.simulation(fresh)
	for _, g := range plan.grow {
		for range g.nodes {
			sim.addNode(w.group(g.group))
		}
	}
	var rest []*unit
	for _, u := range w.units(pending) {
		if !sim.place(ctx, u, nil) {
			rest = append(rest, u)
		}
	}
	for len(rest) > 0 && ctx.Err() == nil {
		var best *trial
		for _, g := range w.groups {
			room := g.Max - sizes[g.Name]
			if room <= 0 || w.resting[g.Name] {
				continue
			}
			t := sim.try(ctx, g, room, rest)
			sim.undo(t)
			if t.helps > 0 && (best == nil || t.better(best)) {
				best = t
			}
		}
		if best == nil {
			break
		}
		t := sim.try(ctx, best.group, best.group.Max-sizes[best.group.Name], rest)
		if t.helps == 0 {
			break
		}
		rest = slices.DeleteFunc(rest, func(u *unit) bool { return slices.Contains(t.helped, u) })
		if len(t.nodes) == 0 { // what was asked for before has room
			continue
		}
		grown := growth{group: t.group.Name, from: sizes[t.group.Name], max: t.group.Max, nodes: len(t.nodes)}
		for _, u := range t.helped {
			grown.pods = append(grown.pods, u.pods...)
		}
		plan.grow = append(plan.grow, grown)
		sizes[t.group.Name] += len(t.nodes)
	}
	told := 0
	for _, u := range rest {
		for _, p := range u.pods {
			if told++; told > maxTold {
				return plan
			}
			plan.helpless[p.UID], plan.pods[p.UID] = w.whyNot(ctx, p, sizes, fresh), p
		}
	}
	return plan
}

func (w *world) group(name string) Group {
	return w.groups[slices.IndexFunc(w.groups, func(g Group) bool { return g.Name == name })]
}

// place puts enough of a unit's pods somewhere, or leaves everything as it was. grow, if not nil, adds a node, if it may,
// and takes the last back.
func (s *simulation) place(ctx context.Context, u *unit, t *trial) bool {
	var placed []*corev1.Pod
	had := 0
	if t != nil {
		had = len(t.nodes)
	}
	for _, p := range u.pods {
		node, _ := s.Place(ctx, p)
		if node == "" && t != nil && len(t.nodes) < t.room && !t.futile[string(s.shape(p))] {
			t.nodes = append(t.nodes, s.addNode(t.group))
			if node, _ = s.Place(ctx, p); node == "" {
				s.RemoveNode(t.nodes[len(t.nodes)-1])
				t.nodes = t.nodes[:len(t.nodes)-1]
				t.futile[string(s.shape(p))] = true
			}
		}
		if node != "" {
			placed = append(placed, p)
		}
	}
	if len(placed) >= u.need {
		if t != nil {
			t.placed = append(t.placed, placed...)
		}
		return true
	}
	for _, p := range placed {
		s.RemovePod(p)
	}
	if t != nil {
		for _, n := range t.nodes[had:] {
			s.RemoveNode(n)
		}
		t.nodes = t.nodes[:had]
	}
	return false
}

// shape is what pods of one controller have in common: where one finds no place on a new node, none does. A pod of
// no controller is its own.
func (s *simulation) shape(p *corev1.Pod) types.UID {
	if len(volumes.Uses(p)) > 0 { // which may be somewhere already
		return p.UID
	}
	for _, ref := range p.OwnerReferences {
		if ref.Controller != nil && *ref.Controller {
			return ref.UID
		}
	}
	return p.UID
}

// trial is what some nodes of a group would help.
type trial struct {
	group  Group
	room   int // nodes that it may get
	nodes  []string
	helped []*unit
	helps  int // pods
	placed []*corev1.Pod
	futile map[string]bool
}

func (s *simulation) try(ctx context.Context, g Group, room int, units []*unit) *trial {
	t := &trial{group: g, room: room, futile: map[string]bool{}}
	for _, u := range units {
		before := len(t.placed)
		if s.place(ctx, u, t) {
			t.helped = append(t.helped, u)
			t.helps += len(t.placed) - before
		}
	}
	return t
}

func (s *simulation) undo(t *trial) {
	for _, p := range t.placed {
		s.RemovePod(p)
	}
	for _, n := range t.nodes {
		s.RemoveNode(n)
	}
}

// waste is the share of the new nodes' CPU and memory that nobody of those helped asks for.
func (t *trial) waste() float64 {
	var asked [2]float64
	for _, p := range t.placed {
		r := api.PodRequests(p)
		asked[0] += r.Cpu().AsApproximateFloat64()
		asked[1] += r.Memory().AsApproximateFloat64()
	}
	has := t.group.Template.Status.Allocatable
	left, counted := 0.0, 0.0
	for i, a := range []float64{has.Cpu().AsApproximateFloat64(), has.Memory().AsApproximateFloat64()} {
		if all := a * float64(len(t.nodes)); all > 0 {
			left, counted = left+1-asked[i]/all, counted+1
		}
	}
	if counted == 0 {
		return 0
	}
	return left / counted
}

func (t *trial) better(than *trial) bool {
	if t.helps != than.helps {
		return t.helps > than.helps
	}
	if a, b := t.waste(), than.waste(); a-b > 0.01 || b-a > 0.01 {
		return a < b
	}
	return len(t.nodes) < len(than.nodes)
}

// whyNot counts what the groups say, as Cluster Autoscaler's events do.
func (w *world) whyNot(ctx context.Context, p *corev1.Pod, sizes map[string]int, fresh func() Simulator) string {
	counts := map[string]int{}
	for _, g := range w.groups {
		switch {
		case w.resting[g.Name]:
			counts["in backoff after failed scale-up"]++
			continue
		case sizes[g.Name] >= g.Max:
			counts["max node group size reached"]++
			continue
		}
		alone := &simulation{w: w, Simulator: fresh()}
		for _, n := range w.namespaces {
			alone.SetNamespace(n.Name, n.Labels)
		}
		w.storage(alone, p)
		alone.addNode(g)
		node, reasons := alone.Place(ctx, p)
		if node != "" { // its gang is not helped
			reasons = []string{"node(s) had no room for the whole pod group"}
		}
		for _, r := range reasons {
			counts[r]++
		}
	}
	if len(w.groups) == 0 {
		return "there are no node groups"
	}
	var parts []string
	for _, r := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[r], r))
	}
	return strings.Join(parts, ", ")
}
