package scheduler

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/scheduler/framework"
	whole "github.com/pintle/pintle/orchestrator/scheduler/gang"
)

// GroupExplanation is what is decided of a pod's PodGroup, whose members get nodes together.
type GroupExplanation struct {
	Name     string `json:"name"`
	Members  int    `json:"members"`            // pods there are
	OnNodes  int    `json:"onNodes"`            // of them
	Min      int    `json:"min"`                // that must have nodes at once
	Topology string `json:"topology,omitempty"` // all within one value of this node label
	// Waits says why the members that have no node get none now; "": nothing is in their way.
	Waits string `json:"waits,omitempty"`
	// Placement is where those that have no node would go now, by pod; Domain the value of Topology.
	Placement map[string]string `json:"placement,omitempty"`
	Domain    string            `json:"domain,omitempty"`
}

// QueueExplanation is what the pod's Queue says.
type QueueExplanation struct {
	Name string `json:"name"`
	// Waits says why there is no quota for the pod, or for its group, now; "": there is.
	Waits string `json:"waits,omitempty"`
	Never bool   `json:"never,omitempty"` // not even if the queue were empty
}

// explainTogether adds what is said of the pod's group and queue. placed says that it has a node.
func (l *loop) explainTogether(ctx context.Context, pod *framework.Pod, placed bool, out *Explanation) {
	want := l.wantOf(pod)
	if name := api.PodGroupOf(pod.Pod); name != "" {
		out.Group = &GroupExplanation{Name: name, Waits: "there is no PodGroup of that name"}
		if g := l.gangs.of(pod.Pod); g != nil && g.object != nil {
			pending := l.pendingOf(g, pod, placed)
			l.explainGroup(ctx, g, pending, out.Group)
			if !g.plain() {
				want = l.newTrial(ctx, g.name(), pod.Namespace, g.priority(), g.since).want(pending)
				placed = len(pending) == 0
			}
		}
	}
	if want.Queue == "" {
		return
	}
	out.Queue = &QueueExplanation{Name: want.Queue}
	if placed {
		return
	}
	if d := l.quotas.book.Admit(want, l.cfg.Clock.Now()); d != nil {
		out.Queue.Waits, out.Queue.Never = d.Message, d.Never
	}
}

// pendingOf are the members that have no node.
func (l *loop) pendingOf(g *group, pod *framework.Pod, placed bool) (out []*framework.Pod) {
	for uid := range g.waiting {
		if p := l.queue.pods[uid]; p != nil && l.assumed[uid] == nil && uid != pod.UID {
			out = append(out, p.pod)
		}
	}
	if !placed {
		out = append(out, pod)
	}
	slices.SortFunc(out, func(a, b *framework.Pod) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// explainGroup tries to place the pending members, and takes them back.
func (l *loop) explainGroup(ctx context.Context, g *group, pending []*framework.Pod, out *GroupExplanation) {
	out.Waits, out.Members, out.OnNodes, out.Min, out.Topology = "", len(g.members), len(l.alive(g)), g.min(), g.topology()
	if len(pending) == 0 || g.plain() {
		return
	}
	spec := l.gangOf(g, pending)
	t := l.newTrial(ctx, g.name(), namespaceOf(g.key), g.priority(), g.since)
	restore := l.expectBeside(pending, g.priority())
	defer restore()
	placement, err := t.guarded(func() (*whole.Placement, error) { return whole.Place(t, spec) })
	if err != nil {
		out.Waits = err.Error()
		return
	}
	out.Domain, out.Placement = placement.Domain.Value, map[string]string{}
	for _, a := range placement.Placed {
		out.Placement[a.Pod.Name] = a.Node
	}
	if n := len(placement.Left); n > 0 {
		out.Waits = fmt.Sprintf("%d members beyond the %d that it needs find no node", n, spec.Min)
	}
	t.undo()
}
