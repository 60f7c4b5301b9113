package plugins

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

// PodTopologySpread keeps the pods that a constraint selects spread over the domains of its topology
// key: DoNotSchedule refuses, ScheduleAnyway prefers.
type PodTopologySpread struct{}

// Name implements framework.Plugin.
func (PodTopologySpread) Name() string { return "PodTopologySpread" }

// spread is one constraint with the number of matching pods in each domain.
type spread struct {
	constraint *corev1.TopologySpreadConstraint
	counts     map[string]int64
	least      int64 // the global minimum
	self       int64 // 1 when the pod itself is selected
}

// Prepare implements framework.Plugin.
func (PodTopologySpread) Prepare(pod *framework.Pod, s *framework.State) framework.Prepared {
	var hard, soft []spread
	keys := map[corev1.UnsatisfiableConstraintAction][]string{}
	for _, c := range pod.Spec.TopologySpreadConstraints {
		keys[c.WhenUnsatisfiable] = append(keys[c.WhenUnsatisfiable], c.TopologyKey)
	}
	for i := range pod.Spec.TopologySpreadConstraints {
		constraint := &pod.Spec.TopologySpreadConstraints[i]
		if constraint.WhenUnsatisfiable == corev1.ScheduleAnyway {
			soft = append(soft, newSpread(pod, s, constraint, keys[constraint.WhenUnsatisfiable]))
		} else {
			hard = append(hard, newSpread(pod, s, constraint, keys[constraint.WhenUnsatisfiable]))
		}
	}
	var p framework.Prepared
	if len(hard) > 0 {
		p.Filter = func(n *framework.Node) []string {
			for i := range hard {
				if reason := hard[i].refuses(n); reason != "" {
					return []string{reason}
				}
			}
			return nil
		}
	}
	if len(soft) > 0 {
		p.Score = func(n *framework.Node) (sum int64) {
			for i := range soft {
				sum += soft[i].crowd(n)
			}
			return sum
		}
		p.Normalize = func(scores []int64) { framework.NormalizeRange(scores, true) }
		p.Weight = 2
	}
	return p
}

// newSpread counts. Nodes that lack any of keys, those of all constraints of the kind, don't count.
func newSpread(pod *framework.Pod, s *framework.State, c *corev1.TopologySpreadConstraint, keys []string) spread {
	selector := framework.Selector(pod.Pod, c.LabelSelector, c.MatchLabelKeys, nil)
	out := spread{constraint: c, counts: map[string]int64{}}
	if selector.Matches(labels.Set(pod.Labels)) {
		out.self = 1
	}
	honourAffinity := c.NodeAffinityPolicy == nil || *c.NodeAffinityPolicy == corev1.NodeInclusionPolicyHonor
	honourTaints := c.NodeTaintsPolicy != nil && *c.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor
	matches := matchesNode(pod)
	taints := TaintToleration{}.Prepare(pod, s).Filter
	for _, n := range s.Nodes() {
		value := n.Node.Labels[c.TopologyKey]
		if !hasAll(n.Node.Labels, keys) || (honourAffinity && !matches(n)) || (honourTaints && len(taints(n)) > 0) {
			continue
		}
		count := out.counts[value]
		for _, other := range n.Pods {
			if other.Namespace == pod.Namespace && other.DeletionTimestamp == nil && selector.Matches(labels.Set(other.Labels)) {
				count++
			}
		}
		out.counts[value] = count
	}
	first := true
	for _, count := range out.counts {
		if first || count < out.least {
			out.least, first = count, false
		}
	}
	// With fewer domains than minDomains the minimum is taken as 0: more domains should come.
	if c.MinDomains != nil && int32(len(out.counts)) < *c.MinDomains {
		out.least = 0
	}
	return out
}

func hasAll(l map[string]string, keys []string) bool {
	for _, key := range keys {
		if _, ok := l[key]; !ok {
			return false
		}
	}
	return true
}

func (s *spread) refuses(n *framework.Node) string {
	value, ok := n.Node.Labels[s.constraint.TopologyKey]
	if !ok {
		return "node(s) didn't match pod topology spread constraints (missing required label)"
	}
	if s.counts[value]+s.self-s.least > int64(s.constraint.MaxSkew) {
		return "node(s) didn't match pod topology spread constraints"
	}
	return ""
}

// crowd is how full the node's domain is; a node without the key counts as the fullest.
func (s *spread) crowd(n *framework.Node) int64 {
	value, ok := n.Node.Labels[s.constraint.TopologyKey]
	if ok {
		return s.counts[value]
	}
	var most int64
	for _, count := range s.counts {
		most = max(most, count)
	}
	return most + 1
}
