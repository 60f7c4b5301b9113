package plugins

import (
	"math"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

// PodTopologySpread keeps the pods that a constraint selects spread over the domains of its topology
// key: DoNotSchedule refuses, ScheduleAnyway prefers.
type PodTopologySpread struct {
	// Defaults are the constraints of pods that have none of their own and belong to a controller: its pods are spread. They have no
	// label selector. Nil means kube-scheduler's: ScheduleAnyway over hosts with maxSkew 3 and over zones with 5; an
	// empty list, none.
	Defaults []corev1.TopologySpreadConstraint
}

// Name implements framework.Plugin.
func (PodTopologySpread) Name() string { return "PodTopologySpread" }

func systemDefaults() []corev1.TopologySpreadConstraint {
	return []corev1.TopologySpreadConstraint{
		{MaxSkew: 3, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway},
		{MaxSkew: 5, TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.ScheduleAnyway},
	}
}

// spread is one constraint with the number of matching pods in each domain.
type spread struct {
	constraint *corev1.TopologySpreadConstraint
	census     *framework.Census
	domains    int
	least      int64   // the global minimum
	most       int64   // the global maximum
	self       int64   // 1 when the pod itself is selected
	weight     float64 // of one pod more: scarce domains count less
}

// Prepare implements framework.Plugin.
func (t PodTopologySpread) Prepare(pod *framework.Pod, s *framework.State) framework.Prepared {
	constraints, owner := pod.Spec.TopologySpreadConstraints, (*metav1.OwnerReference)(nil)
	if len(constraints) == 0 {
		if owner = metav1.GetControllerOfNoCopy(pod.Pod); owner == nil {
			return framework.Prepared{}
		}
		if constraints = t.Defaults; constraints == nil {
			constraints = systemDefaults()
		}
	}
	var hard, soft []spread
	keys := map[corev1.UnsatisfiableConstraintAction][]string{}
	if owner == nil { // a default constraint counts nodes whether or not they have the other ones' keys
		for i := range constraints {
			c := &constraints[i]
			keys[c.WhenUnsatisfiable] = append(keys[c.WhenUnsatisfiable], c.TopologyKey)
		}
	}
	for i := range constraints {
		c := &constraints[i]
		counted := newSpread(pod, s, c, keys[c.WhenUnsatisfiable], owner)
		if c.WhenUnsatisfiable != corev1.ScheduleAnyway {
			hard = append(hard, counted)
		} else if owner == nil || counted.domains > 0 {
			soft = append(soft, counted)
		}
	}
	var p framework.Prepared
	if len(hard) > 0 {
		p.Filter = func(n *framework.Node) []string {
			for i := range hard {
				if reason := hard[i].refuses(n.Row); reason != "" {
					return []string{reason}
				}
			}
			return nil
		}
		p.FilterRows = func(ok []bool) {
			for i := range hard {
				hard[i].refuseRows(ok)
			}
		}
	}
	if len(soft) > 0 {
		score := func(row int) int64 {
			sum := 0.0
			for i := range soft {
				sum += soft[i].crowd(row)
			}
			return int64(math.Round(sum))
		}
		p.Score = func(n *framework.Node) int64 { return score(n.Row) }
		p.ScoreRows = func(rows []int32, out []int64) {
			for i, row := range rows {
				out[i] = score(int(row))
			}
		}
		p.Scale, p.Weight = framework.ToRangeRev, 2
	}
	return p
}

// newSpread finds the counts. Nodes that lack any of keys, those of all constraints of the kind, don't count. With owner
// the constraint is about its pods.
func newSpread(pod *framework.Pod, s *framework.State, c *corev1.TopologySpreadConstraint, keys []string, owner *metav1.OwnerReference) spread {
	out := spread{constraint: c}
	var key strings.Builder
	part := func(p string) {
		key.WriteString(strconv.Itoa(len(p)))
		key.WriteByte(':')
		key.WriteString(p)
	}
	part("spread")
	part(c.TopologyKey)
	part(pod.Namespace)
	namespace := pod.Namespace
	var match func(*corev1.Pod, labels.Set) bool
	var pairs []string
	if owner != nil {
		uid := owner.UID
		part(string(uid))
		pairs = []string{framework.OwnerPair(uid)}
		match = func(sample *corev1.Pod, _ labels.Set) bool {
			o := metav1.GetControllerOfNoCopy(sample)
			return o != nil && o.UID == uid && sample.DeletionTimestamp == nil
		}
		out.self = 1
	} else {
		selector := framework.Selector(pod.Pod, c.LabelSelector, c.MatchLabelKeys, nil)
		pairs = framework.PairsOf(selector)
		part("labels")
		part(framework.SelectorKey(selector))
		match = func(sample *corev1.Pod, _ labels.Set) bool {
			return sample.Namespace == namespace && sample.DeletionTimestamp == nil && selector.Matches(labels.Set(sample.Labels))
		}
		if selector.Matches(labels.Set(pod.Labels)) {
			out.self = 1
		}
	}
	for _, k := range keys {
		part(k)
	}
	honourAffinity := c.NodeAffinityPolicy == nil || *c.NodeAffinityPolicy == corev1.NodeInclusionPolicyHonor
	honourTaints := c.NodeTaintsPolicy != nil && *c.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor
	matches := func(*framework.Node) bool { return true }
	if affinity := affinityKey(pod); honourAffinity && affinity != "" {
		part("affinity" + affinity)
		matches = matchesNode(pod)
	}
	tolerated := func(*framework.Node) bool { return true }
	if honourTaints {
		part("taints" + framework.TolerationsKey(pod.Spec.Tolerations))
		taints := TaintToleration{}.Prepare(pod, s).Filter
		tolerated = func(n *framework.Node) bool { return len(taints(n)) == 0 }
	}
	out.census = s.Census(key.String(), c.TopologyKey, pairs, func(n *framework.Node) bool {
		return hasAll(n.Node.Labels, keys) && matches(n) && tolerated(n)
	}, match)
	for v, nodes := range out.census.Nodes {
		if nodes == 0 {
			continue
		}
		count := out.census.Counts[v]
		if out.domains == 0 || count < out.least {
			out.least = count
		}
		out.most = max(out.most, count)
		out.domains++
	}
	out.weight = math.Log(float64(out.domains + 2))
	// With fewer domains than minDomains the minimum is taken as 0: more domains should come.
	if c.MinDomains != nil && int32(out.domains) < *c.MinDomains {
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

// count is how many matching pods the domain of a value has; a domain without a node that counts has none.
func (s *spread) count(v int32) int64 {
	if int(v) < len(s.census.Counts) {
		return s.census.Counts[v]
	}
	return 0
}

func (s *spread) refuses(row int) string {
	v := s.census.Column.Values[row]
	if v < 0 {
		return "node(s) didn't match pod topology spread constraints (missing required label)"
	}
	if s.count(v)+s.self-s.least > int64(s.constraint.MaxSkew) {
		return "node(s) didn't match pod topology spread constraints"
	}
	return ""
}

func (s *spread) refuseRows(ok []bool) {
	limit := int64(s.constraint.MaxSkew) - s.self + s.least
	for row, v := range s.census.Column.Values[:len(ok)] {
		ok[row] = ok[row] && v >= 0 && s.count(v) <= limit
	}
}

// crowd is how full the node's domain is; a node without the key counts as the fullest.
func (s *spread) crowd(row int) float64 {
	count := s.most + 1
	if v := s.census.Column.Values[row]; v >= 0 {
		count = s.count(v)
	}
	return float64(count)*s.weight + float64(s.constraint.MaxSkew-1)
}
