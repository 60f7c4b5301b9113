package gang

import (
	"cmp"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

// Unit is what is ended together: one pod, or all members of a gang that is only disrupted as a whole.
type Unit struct {
	Gang      string // "": a pod
	Pods      []*framework.Pod
	Priority  int32     // the most important pod's
	Protected bool      // ending it breaks a PodDisruptionBudget
	Started   time.Time // the first pod's
}

// Harm orders units, those whose end hurts least first: no broken budget, lower priority, fewer pods, started later.
func Harm(a, b *Unit) int {
	if a.Protected != b.Protected {
		if b.Protected {
			return -1
		}
		return 1
	}
	if c := cmp.Compare(a.Priority, b.Priority); c != 0 {
		return c
	}
	if c := cmp.Compare(len(a.Pods), len(b.Pods)); c != 0 {
		return c
	}
	if c := b.Started.Compare(a.Started); c != 0 {
		return c
	}
	return cmp.Compare(a.Pods[0].UID, b.Pods[0].UID)
}

// Preempt finds units whose end lets the gang have its nodes, with few and unimportant victims: nil where even the end of
// all of them would not. The cluster is as it was afterwards. The units are those that may be ended for this gang.
//
// The units that hurt least are taken until the gang fits; then, the most harmful first, every unit is given back
// whose room isn't needed after all.
func Preempt(c Cluster, g *Gang, units []*Unit) (*Placement, []*Unit) {
	units = slices.DeleteFunc(slices.Clone(units), func(u *Unit) bool {
		return !slices.ContainsFunc(u.Pods, func(p *framework.Pod) bool { return c.NodeOf(p.UID) != "" })
	})
	if len(units) == 0 {
		return nil, nil
	}
	slices.SortStableFunc(units, Harm)
	brief := *g
	brief.brief = true
	g = &brief
	t := &trial{c: c, g: g, units: units}
	for range units {
		t.at = append(t.at, nil)
	}
	defer t.restore()
	// The shortest prefix that is enough, by doubling and bisection: more room never hurts, but for rules between pods that a
	// gang may need others for. Where those interfere a longer prefix is found, no wrong one.
	low, enough := 1, min(len(units), max(1, g.Min-len(g.Placed)))
	for t.fits(enough) == nil {
		if enough == len(units) {
			return nil, nil
		}
		low, enough = enough+1, min(len(units), 2*enough)
	}
	for low < enough {
		middle := (low + enough) / 2
		if t.fits(middle) != nil {
			enough = middle
		} else {
			low = middle + 1
		}
	}
	p := t.fits(enough)
	if p == nil {
		return nil, nil
	}
	t.place(p)
	for i := enough - 1; i >= 0; i-- {
		t.spare(i, p)
	}
	var victims []*Unit
	for i := range enough {
		if t.at[i] != nil {
			victims = append(victims, units[i])
		}
	}
	undo(c, p)
	if len(victims) == 0 {
		return nil, nil // what kept the gang off isn't there any more: the next attempt sees it
	}
	return p, victims
}

// trial is the cluster with some units taken out.
type trial struct {
	c     Cluster
	g     *Gang
	units []*Unit
	at    []map[types.UID]string // where the pods of units that are out were; nil: the unit is in
}

func (t *trial) takeOut(i int) {
	if t.at[i] != nil {
		return
	}
	t.at[i] = map[types.UID]string{}
	for _, p := range t.units[i].Pods {
		if node := t.c.NodeOf(p.UID); node != "" {
			t.at[i][p.UID] = node
			t.c.Remove(p.UID)
		}
	}
}

func (t *trial) putBack(i int) {
	for _, p := range t.units[i].Pods {
		if node, ok := t.at[i][p.UID]; ok {
			t.c.Set(p, node)
		}
	}
	t.at[i] = nil
}

func (t *trial) restore() {
	for i := range t.units {
		t.putBack(i)
	}
}

// fits tries the gang with the first n units out, and the others in. Nothing of it stays recorded.
func (t *trial) fits(n int) *Placement {
	for i := range t.units {
		if i < n {
			t.takeOut(i)
		} else {
			t.putBack(i)
		}
	}
	p, err := Place(t.c, t.g)
	if err != nil {
		return nil
	}
	undo(t.c, p)
	return p
}

func (t *trial) place(p *Placement) {
	for _, a := range p.Placed {
		t.c.Set(a.Pod, a.Node)
	}
}

// spare gives a unit back if the members still fit where they are, and there is still quota for them.
func (t *trial) spare(i int, p *Placement) {
	at := t.at[i]
	t.putBack(i)
	if t.holds(p, at) {
		return
	}
	t.takeOut(i)
}

func (t *trial) holds(p *Placement, back map[types.UID]string) bool {
	nodes := map[string]bool{}
	for _, node := range back {
		nodes[node] = true
	}
	pods := make([]*framework.Pod, 0, len(p.Placed))
	for _, a := range p.Placed {
		t.c.Remove(a.Pod.UID)
		pods = append(pods, a.Pod)
	}
	ok := t.c.Admit(pods) == nil
	for _, a := range p.Placed {
		// Pods elsewhere matter only to rules between pods.
		if ok && (nodes[a.Node] || related(a.Pod)) {
			ok = t.c.Fits(a.Pod, a.Node)
		}
		t.c.Set(a.Pod, a.Node)
	}
	return ok
}

// related says whether it matters to a pod what runs elsewhere.
func related(p *framework.Pod) bool {
	return len(p.Spec.TopologySpreadConstraints) > 0 || p.Spec.Affinity != nil && (p.Spec.Affinity.PodAffinity != nil || p.Spec.Affinity.PodAntiAffinity != nil)
}
