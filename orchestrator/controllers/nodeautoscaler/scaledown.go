package nodeautoscaler

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pintle/pintle/orchestrator/api"
)

const (
	annotationSafe     = "cluster-autoscaler.kubernetes.io/safe-to-evict"
	annotationDisabled = "cluster-autoscaler.kubernetes.io/scale-down-disabled"
	// annotationReturning is on a node that is being returned, with the time (RFC 3339) since when.
	annotationReturning = "pintle.dev/returning-since"
)

// candidate is a node that might be given back.
type candidate struct {
	node  *corev1.Node
	move  []*corev1.Pod // that would have to go elsewhere
	usage float64
}

// decideUnneeded returns the nodes that nobody needs, empty ones first, as if they were all given back at once.
func decideUnneeded(ctx context.Context, w *world, fresh func() Simulator) []candidate {
	spare := map[string]int{}
	for _, g := range w.groups {
		spare[g.Name] = g.Size - g.Min
	}
	var all []candidate
	for _, n := range w.nodes {
		g := n.Labels[GroupLabel]
		if _, known := spare[g]; !known || n.Spec.Unschedulable || n.DeletionTimestamp != nil || !nodeReady(n) || n.Annotations[annotationDisabled] == "true" || w.keepsVolume(n) {
			if n.Annotations[annotationReturning] != "" {
				spare[g]--
			}
			continue
		}
		if move, blocked := w.movable(n); !blocked {
			if usage := w.utilization(n); len(move) == 0 || usage < w.options.Utilization {
				all = append(all, candidate{n, move, usage})
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	slices.SortStableFunc(all, func(a, b candidate) int {
		switch {
		case (len(a.move) == 0) != (len(b.move) == 0):
			if len(a.move) == 0 {
				return -1
			}
			return 1
		case a.usage < b.usage:
			return -1
		case a.usage > b.usage:
			return 1
		}
		return 0
	})
	sim := w.simulation(fresh)
	needed := map[string]bool{} // to hold somebody else's pods
	for _, p := range w.pending() {
		if node, _ := sim.Place(ctx, p); node != "" {
			needed[node] = true
		}
	}
	var out []candidate
	for _, c := range all {
		g := c.node.Labels[GroupLabel]
		if needed[c.node.Name] || spare[g] <= 0 {
			continue
		}
		if !sim.clear(ctx, c, w.onNode[c.node.Name], needed) {
			continue
		}
		spare[g]--
		out = append(out, c)
	}
	return out
}

// clear takes the node out and puts its pods elsewhere, or leaves everything as it was.
func (s *simulation) clear(ctx context.Context, c candidate, pods []*corev1.Pod, needed map[string]bool) bool {
	for _, p := range pods {
		s.RemovePod(p)
	}
	s.RemoveNode(c.node.Name)
	var placed []*corev1.Pod
	var on []string
	for _, p := range c.move {
		free := p.DeepCopy()
		free.Spec.NodeName = ""
		node, _ := s.Place(ctx, free)
		if node == "" {
			for _, back := range placed {
				s.RemovePod(back)
			}
			s.SetNode(c.node)
			for _, p := range pods {
				s.SetPod(p)
			}
			return false
		}
		placed, on = append(placed, free), append(on, node)
	}
	for _, n := range on {
		needed[n] = true
	}
	return true
}

// movable are the pods that a node has and would have to be elsewhere; blocked if one can't be.
func (w *world) movable(n *corev1.Node) (move []*corev1.Pod, blocked bool) {
	for _, p := range w.onNode[n.Name] {
		switch {
		case daemon(p), p.DeletionTimestamp != nil, w.expendable(p):
		case p.Annotations[annotationSafe] == "false":
			return nil, true
		case p.Annotations[annotationSafe] != "true" && metav1.GetControllerOfNoCopy(p) == nil, w.guarded(p):
			return nil, true
		default:
			move = append(move, p)
		}
	}
	return move, false
}

// guarded says that a budget allows no disruption of the pod now.
func (w *world) guarded(p *corev1.Pod) bool {
	for _, b := range w.budgets {
		if b.Namespace != p.Namespace || b.Status.DisruptionsAllowed > 0 {
			continue
		}
		if sel, err := metav1.LabelSelectorAsSelector(b.Spec.Selector); err != nil || sel.Matches(labels.Set(p.Labels)) {
			return true
		}
	}
	return false
}

// keepsVolume says that a claim's volume is on the node and nowhere else: what it holds would go with the node.
func (w *world) keepsVolume(n *corev1.Node) bool {
	host, ok := n.Labels[corev1.LabelHostname]
	return ok && w.pinned[host]
}

// hostsOf are the hosts to which a volume is bound; nil: to none in particular.
func hostsOf(v *corev1.PersistentVolume) (hosts []string) {
	if v.Spec.NodeAffinity == nil || v.Spec.NodeAffinity.Required == nil {
		return nil
	}
	for _, term := range v.Spec.NodeAffinity.Required.NodeSelectorTerms {
		for _, e := range term.MatchExpressions {
			if e.Key == corev1.LabelHostname && e.Operator == corev1.NodeSelectorOpIn {
				hosts = append(hosts, e.Values...)
			}
		}
	}
	return hosts
}

// utilization is the largest share of the node's CPU or memory that its pods request, or, where it has GPUs, of those.
func (w *world) utilization(n *corev1.Node) (most float64) {
	resources := []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory}
	for name, q := range n.Status.Allocatable {
		if name == "nvidia.com/gpu" && !q.IsZero() {
			resources = []corev1.ResourceName{name}
			break
		}
	}
	for _, name := range resources {
		all := n.Status.Allocatable[name]
		free, used := all.AsApproximateFloat64(), 0.0
		for _, p := range w.onNode[n.Name] {
			requests := api.PodRequests(p)
			asked := requests[name]
			if daemon(p) {
				free -= asked.AsApproximateFloat64()
			} else {
				used += asked.AsApproximateFloat64()
			}
		}
		if free > 0 {
			most = max(most, used/free)
		}
	}
	return most
}
