package scheduler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
	"github.com/pintle/pintle/orchestrator/scheduler/plugins"
)

// reference answers the same question as the plugins' filters, slowly and straight from the documentation:
// it counts everything anew for every node and uses none of the scheduler's code or libraries.
type reference struct {
	nodes      []*corev1.Node
	at         map[*corev1.Pod]*corev1.Node
	namespaces map[string]map[string]string
}

func (r *reference) allows(p *corev1.Pod, n *corev1.Node) bool {
	return r.named(p, n) && r.selected(p, n) && r.tolerated(p, n) && !(n.Spec.Unschedulable && !tolerate(p, corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule})) &&
		r.room(p, n) && r.ports(p, n) && r.near(p, n) && r.apart(p, n) && r.welcome(p, n) && r.spread(p, n)
}

func (r *reference) named(p *corev1.Pod, n *corev1.Node) bool {
	return p.Spec.NodeName == "" || p.Spec.NodeName == n.Name
}

func tolerate(p *corev1.Pod, taint corev1.Taint) bool {
	for _, t := range p.Spec.Tolerations {
		key := t.Key == taint.Key || t.Key == "" && t.Operator == corev1.TolerationOpExists
		value := t.Operator == corev1.TolerationOpExists || t.Value == taint.Value
		effect := t.Effect == "" || t.Effect == taint.Effect
		if key && value && effect {
			return true
		}
	}
	return false
}

func (r *reference) tolerated(p *corev1.Pod, n *corev1.Node) bool {
	for _, taint := range n.Spec.Taints {
		if taint.Effect != corev1.TaintEffectPreferNoSchedule && !tolerate(p, taint) {
			return false
		}
	}
	return true
}

func matchNode(term corev1.NodeSelectorTerm, n *corev1.Node) bool {
	if len(term.MatchExpressions)+len(term.MatchFields) == 0 {
		return false // an empty term matches nothing
	}
	for _, e := range term.MatchExpressions {
		value, has := n.Labels[e.Key]
		ok := false
		switch e.Operator {
		case corev1.NodeSelectorOpIn:
			ok = has && slices.Contains(e.Values, value)
		case corev1.NodeSelectorOpNotIn:
			ok = !has || !slices.Contains(e.Values, value)
		case corev1.NodeSelectorOpExists:
			ok = has
		case corev1.NodeSelectorOpDoesNotExist:
			ok = !has
		case corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt:
			a, err1 := strconv.ParseInt(value, 10, 64)
			b, err2 := strconv.ParseInt(e.Values[0], 10, 64)
			ok = has && err1 == nil && err2 == nil && (e.Operator == corev1.NodeSelectorOpGt && a > b || e.Operator == corev1.NodeSelectorOpLt && a < b)
		}
		if !ok {
			return false
		}
	}
	for _, e := range term.MatchFields {
		if (e.Operator == corev1.NodeSelectorOpIn) != slices.Contains(e.Values, n.Name) {
			return false
		}
	}
	return true
}

func (r *reference) selected(p *corev1.Pod, n *corev1.Node) bool {
	for key, value := range p.Spec.NodeSelector {
		if have, ok := n.Labels[key]; !ok || have != value {
			return false
		}
	}
	if a := p.Spec.Affinity; a != nil && a.NodeAffinity != nil && a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		terms := a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
		return slices.ContainsFunc(terms, func(t corev1.NodeSelectorTerm) bool { return matchNode(t, n) })
	}
	return true
}

// need is what a pod asks of a resource: its containers, or an init container where that is more. Sidecars
// run beside both.
func need(p *corev1.Pod, name corev1.ResourceName) int64 {
	of := func(c corev1.Container) int64 { q := c.Resources.Requests[name]; return q.MilliValue() }
	var running, started, most int64
	for _, c := range p.Spec.InitContainers {
		if c.RestartPolicy != nil {
			started += of(c)
			most = max(most, started)
		} else {
			most = max(most, started+of(c))
		}
	}
	running = started
	for _, c := range p.Spec.Containers {
		running += of(c)
	}
	overhead := p.Spec.Overhead[name]
	return max(running, most) + overhead.MilliValue()
}

func (r *reference) room(p *corev1.Pod, n *corev1.Node) bool {
	count := int64(1)
	for _, on := range r.at {
		if on == n {
			count++
		}
	}
	if pods := n.Status.Allocatable[corev1.ResourcePods]; count > pods.Value() {
		return false
	}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, "a.b/gpu"} {
		wanted := need(p, name)
		if wanted == 0 {
			continue
		}
		for other, on := range r.at {
			if on == n {
				wanted += need(other, name)
			}
		}
		if have := n.Status.Allocatable[name]; wanted > have.MilliValue() {
			return false
		}
	}
	return true
}

func (r *reference) ports(p *corev1.Pod, n *corev1.Node) bool {
	for other, on := range r.at {
		if on != n {
			continue
		}
		for _, a := range p.Spec.Containers[0].Ports {
			for _, b := range other.Spec.Containers[0].Ports {
				anywhere := a.HostIP == "" || b.HostIP == "" || a.HostIP == "0.0.0.0" || b.HostIP == "0.0.0.0"
				if a.HostPort != 0 && a.HostPort == b.HostPort && a.Protocol == b.Protocol && (anywhere || a.HostIP == b.HostIP) {
					return false
				}
			}
		}
	}
	return true
}

func matchLabels(s *metav1.LabelSelector, l map[string]string) bool {
	if s == nil {
		return false
	}
	for key, value := range s.MatchLabels {
		if have, ok := l[key]; !ok || have != value {
			return false
		}
	}
	for _, e := range s.MatchExpressions {
		value, has := l[e.Key]
		switch e.Operator {
		case metav1.LabelSelectorOpIn:
			if !has || !slices.Contains(e.Values, value) {
				return false
			}
		case metav1.LabelSelectorOpNotIn:
			if has && slices.Contains(e.Values, value) {
				return false
			}
		case metav1.LabelSelectorOpExists:
			if !has {
				return false
			}
		case metav1.LabelSelectorOpDoesNotExist:
			if has {
				return false
			}
		}
	}
	return true
}

// means says whether the term of owner means pod.
func (r *reference) means(owner *corev1.Pod, t corev1.PodAffinityTerm, pod *corev1.Pod) bool {
	in := slices.Contains(t.Namespaces, pod.Namespace) || t.NamespaceSelector != nil && matchLabels(t.NamespaceSelector, r.namespaces[pod.Namespace]) ||
		len(t.Namespaces) == 0 && t.NamespaceSelector == nil && pod.Namespace == owner.Namespace
	for _, key := range t.MatchLabelKeys {
		if value, ok := owner.Labels[key]; ok && (pod.Labels[key] != value) {
			return false
		}
	}
	for _, key := range t.MismatchLabelKeys {
		if value, ok := owner.Labels[key]; ok && pod.Labels[key] == value {
			return false
		}
	}
	return in && matchLabels(t.LabelSelector, pod.Labels)
}

func sameDomain(a, b *corev1.Node, key string) bool {
	x, ok1 := a.Labels[key]
	y, ok2 := b.Labels[key]
	return ok1 && ok2 && x == y
}

func affinityTerms(p *corev1.Pod) []corev1.PodAffinityTerm {
	if p.Spec.Affinity == nil || p.Spec.Affinity.PodAffinity == nil {
		return nil
	}
	return p.Spec.Affinity.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution
}

func antiTerms(p *corev1.Pod) []corev1.PodAffinityTerm {
	if p.Spec.Affinity == nil || p.Spec.Affinity.PodAntiAffinity == nil {
		return nil
	}
	return p.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution
}

func (r *reference) near(p *corev1.Pod, n *corev1.Node) bool {
	terms := affinityTerms(p)
	all := func(pod *corev1.Pod) bool {
		return !slices.ContainsFunc(terms, func(t corev1.PodAffinityTerm) bool { return !r.means(p, t, pod) })
	}
	anywhere, here := false, true
	for _, t := range terms {
		if _, ok := n.Labels[t.TopologyKey]; !ok {
			return false
		}
		found := false
		for other, on := range r.at {
			if !all(other) {
				continue
			}
			if _, ok := on.Labels[t.TopologyKey]; ok {
				anywhere = true
			}
			found = found || sameDomain(on, n, t.TopologyKey)
		}
		here = here && found
	}
	// The first of a group that wants to be near itself has nobody to be near to.
	return here || !anywhere && all(p)
}

func (r *reference) apart(p *corev1.Pod, n *corev1.Node) bool {
	for _, t := range antiTerms(p) {
		for other, on := range r.at {
			if r.means(p, t, other) && sameDomain(on, n, t.TopologyKey) {
				return false
			}
		}
	}
	return true
}

func (r *reference) welcome(p *corev1.Pod, n *corev1.Node) bool {
	for other, on := range r.at {
		for _, t := range antiTerms(other) {
			if r.means(other, t, p) && sameDomain(on, n, t.TopologyKey) {
				return false
			}
		}
	}
	return true
}

func (r *reference) spread(p *corev1.Pod, n *corev1.Node) bool {
	var hard []corev1.TopologySpreadConstraint
	for _, c := range p.Spec.TopologySpreadConstraints {
		if c.WhenUnsatisfiable == corev1.DoNotSchedule {
			hard = append(hard, c)
		}
	}
	for _, c := range hard {
		if _, ok := n.Labels[c.TopologyKey]; !ok {
			return false
		}
		matches := func(pod *corev1.Pod) bool {
			for _, key := range c.MatchLabelKeys {
				if value, ok := p.Labels[key]; ok && pod.Labels[key] != value {
					return false
				}
			}
			return matchLabels(c.LabelSelector, pod.Labels)
		}
		counts := map[string]int{}
		for _, node := range r.nodes {
			counted := true
			for _, other := range hard {
				_, ok := node.Labels[other.TopologyKey]
				counted = counted && ok
			}
			if *c.NodeAffinityPolicy == corev1.NodeInclusionPolicyHonor && !r.selected(p, node) || *c.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor && !r.tolerated(p, node) {
				counted = false
			}
			if !counted {
				continue
			}
			domain := node.Labels[c.TopologyKey]
			counts[domain] += 0
			for pod, on := range r.at {
				if on == node && pod.Namespace == p.Namespace && pod.DeletionTimestamp == nil && matches(pod) {
					counts[domain]++
				}
			}
		}
		least, first := 0, true
		for _, count := range counts {
			if first || count < least {
				least, first = count, false
			}
		}
		if c.MinDomains != nil && len(counts) < int(*c.MinDomains) {
			least = 0
		}
		self := 0
		if matches(p) {
			self = 1
		}
		if counts[n.Labels[c.TopologyKey]]+self-least > int(c.MaxSkew) {
			return false
		}
	}
	return true
}

// dice makes small random clusters, in which everything collides often.
type dice struct{ *rand.Rand }

func (d dice) one(n int) bool             { return d.IntN(n) == 0 }
func (d dice) of(values ...string) string { return values[d.IntN(len(values))] }

func (d dice) labels() map[string]string {
	out := map[string]string{}
	for _, key := range []string{"app", "tier"} {
		if !d.one(3) {
			out[key] = d.of("x", "y")
		}
	}
	return out
}

func (d dice) selector() *metav1.LabelSelector {
	if d.one(8) {
		return nil
	}
	s := &metav1.LabelSelector{}
	if d.one(2) {
		s.MatchLabels = map[string]string{"app": d.of("x", "y")}
	}
	if d.one(2) {
		e := metav1.LabelSelectorRequirement{Key: d.of("app", "tier"), Operator: metav1.LabelSelectorOperator(d.of("In", "NotIn", "Exists", "DoesNotExist"))}
		if e.Operator == metav1.LabelSelectorOpIn || e.Operator == metav1.LabelSelectorOpNotIn {
			e.Values = []string{d.of("x", "y")}
		}
		s.MatchExpressions = append(s.MatchExpressions, e)
	}
	return s
}

func (d dice) term() corev1.PodAffinityTerm {
	t := corev1.PodAffinityTerm{TopologyKey: d.of(corev1.LabelHostname, corev1.LabelTopologyZone, "rack"), LabelSelector: d.selector()}
	if d.one(4) {
		t.Namespaces = []string{d.of("default", "other")}
	}
	if d.one(4) {
		t.NamespaceSelector = d.selector()
	}
	if t.LabelSelector != nil && d.one(4) {
		t.MatchLabelKeys = []string{"tier"}
	} else if t.LabelSelector != nil && d.one(4) {
		t.MismatchLabelKeys = []string{"tier"}
	}
	return t
}

func (d dice) terms(n int) (out []corev1.PodAffinityTerm) {
	for range d.IntN(n + 1) {
		out = append(out, d.term())
	}
	return out
}

func (d dice) node(i int) *corev1.Node {
	n := node(fmt.Sprint("n", i), fmt.Sprint(1+d.IntN(4)))
	if !d.one(4) {
		n.Labels[corev1.LabelTopologyZone] = d.of("z1", "z2")
	}
	if d.one(2) {
		n.Labels["rack"] = d.of("1", "2", "3", "many")
	}
	n.Status.Allocatable["a.b/gpu"] = *resource.NewQuantity(int64(d.IntN(3)), resource.DecimalSI)
	n.Status.Allocatable[corev1.ResourcePods] = *resource.NewQuantity(int64(3+d.IntN(6)), resource.DecimalSI)
	for range d.IntN(3) {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: d.of("k", "l"), Value: d.of("", "v"), Effect: corev1.TaintEffect(d.of("NoSchedule", "PreferNoSchedule", "NoExecute"))})
	}
	n.Spec.Unschedulable = d.one(10)
	return n
}

func (d dice) pod(i int) *corev1.Pod {
	p := pod(fmt.Sprint("p", i), fmt.Sprint(d.IntN(3)*300, "m"))
	p.Namespace, p.Labels = d.of("default", "default", "other"), d.labels()
	c := &p.Spec.Containers[0]
	if d.one(5) {
		c.Resources.Requests["a.b/gpu"] = resource.MustParse("1")
	}
	if d.one(6) {
		always := corev1.ContainerRestartPolicyAlways
		p.Spec.InitContainers = []corev1.Container{{Name: "s", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m")}}},
			{Name: "i", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(d.of("1", "2"))}}}}
		if d.one(2) {
			p.Spec.InitContainers[0].RestartPolicy = &always
		}
	}
	if d.one(8) {
		p.Spec.Overhead = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("250m")}
	}
	if d.one(4) {
		c.Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 80, HostIP: d.of("", "0.0.0.0", "10.0.0.1", "10.0.0.2"), Protocol: corev1.Protocol(d.of("TCP", "UDP"))}}
	}
	for range d.IntN(3) {
		t := corev1.Toleration{Key: d.of("k", "l", ""), Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffect(d.of("", "NoSchedule", "NoExecute"))}
		if t.Key != "" && d.one(2) {
			t.Operator, t.Value = corev1.TolerationOperator(d.of("", "Equal")), d.of("", "v")
		}
		p.Spec.Tolerations = append(p.Spec.Tolerations, t)
	}
	if d.one(8) {
		p.Spec.NodeSelector = map[string]string{corev1.LabelTopologyZone: d.of("z1", "z2")}
	}
	a := &corev1.Affinity{PodAffinity: &corev1.PodAffinity{}, PodAntiAffinity: &corev1.PodAntiAffinity{}}
	if d.one(3) {
		a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution = d.terms(2)
	}
	if d.one(3) {
		a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution = d.terms(2)
	}
	if d.one(3) {
		a.NodeAffinity = &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{}}
		for range 1 + d.IntN(2) {
			e := corev1.NodeSelectorRequirement{Key: d.of("rack", corev1.LabelTopologyZone), Operator: corev1.NodeSelectorOperator(d.of("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"))}
			switch e.Operator {
			case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
				e.Values = []string{d.of("1", "z1"), d.of("2", "z2")}
			case corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt:
				e.Values = []string{d.of("1", "2")}
			}
			term := corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{e}}
			if d.one(4) {
				term.MatchFields = []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOperator(d.of("In", "NotIn")), Values: []string{d.of("n0", "n1")}}}
			}
			if d.one(8) {
				term = corev1.NodeSelectorTerm{}
			}
			terms := &a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
			*terms = append(*terms, term)
		}
	}
	p.Spec.Affinity = a
	for range d.IntN(3) {
		affinity, taints := corev1.NodeInclusionPolicy(d.of("Honor", "Ignore")), corev1.NodeInclusionPolicy(d.of("Honor", "Ignore"))
		c := corev1.TopologySpreadConstraint{MaxSkew: int32(1 + d.IntN(2)), TopologyKey: d.of(corev1.LabelHostname, corev1.LabelTopologyZone, "rack"),
			WhenUnsatisfiable: corev1.UnsatisfiableConstraintAction(d.of("DoNotSchedule", "DoNotSchedule", "ScheduleAnyway")), LabelSelector: d.selector(), NodeAffinityPolicy: &affinity, NodeTaintsPolicy: &taints}
		if c.WhenUnsatisfiable == corev1.DoNotSchedule && d.one(4) {
			domains := int32(1 + d.IntN(4))
			c.MinDomains = &domains
		}
		if c.LabelSelector != nil && d.one(4) {
			c.MatchLabelKeys = []string{"tier"}
		}
		p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, c)
	}
	if d.one(12) {
		now := metav1.Now()
		p.DeletionTimestamp = &now
	}
	return p
}

// decideSlowly is the decision, asking every plugin about every node.
func decideSlowly(ps []framework.Plugin, pod *framework.Pod, s *framework.State) (string, error) {
	prepared := make([]framework.Prepared, len(ps))
	fit := &FitError{Nodes: len(s.Nodes()), Reasons: map[string]int{}, Plugins: map[string]bool{}}
	for i, plugin := range ps {
		prepared[i] = plugin.Prepare(pod, s)
	}
	var feasible []*framework.Node
nodes:
	for _, n := range s.Nodes() {
		for i := range prepared {
			if prepared[i].Filter == nil {
				continue
			}
			if reasons := prepared[i].Filter(n); len(reasons) > 0 {
				for _, reason := range reasons {
					fit.Reasons[reason]++
				}
				fit.Plugins[ps[i].Name()] = true
				continue nodes
			}
		}
		feasible = append(feasible, n)
	}
	if len(feasible) == 0 {
		return "", fit
	}
	totals, scores := make([]int64, len(feasible)), make([]int64, len(feasible))
	for i := range prepared {
		if prepared[i].Score == nil {
			continue
		}
		for j, n := range feasible {
			scores[j] = prepared[i].Score(n)
		}
		switch prepared[i].Scale {
		case framework.ToMost, framework.ToMostRev:
			framework.NormalizeTo(scores, prepared[i].Scale == framework.ToMostRev)
		case framework.ToRange, framework.ToRangeRev:
			framework.NormalizeRange(scores, prepared[i].Scale == framework.ToRangeRev)
		default:
			if prepared[i].Normalize != nil {
				prepared[i].Normalize(scores)
			}
		}
		for j := range totals {
			totals[j] += scores[j] * prepared[i].Weight
		}
	}
	best := 0
	for i := range feasible {
		if totals[i] > totals[best] || totals[i] == totals[best] && len(feasible[i].Pods) < len(feasible[best].Pods) {
			best = i
		}
	}
	return feasible[best].Name, nil
}

// decide is the engine's decision: the first one of a shape without policies, which must agree with the second's and the slow one.
func decide(ctx context.Context, ps []framework.Plugin, policies *policyView, pod *framework.Pod, s *framework.State) (string, error) {
	e, q := newEngine(), question{profile: &Profile{Plugins: ps}, policies: policies, pod: pod, s: s}
	node, err := e.decide(ctx, &q)
	if policies != nil {
		return node, err
	}
	for range 2 {
		again, err2 := e.decide(ctx, &q)
		slow, err3 := decideSlowly(ps, pod, s)
		if again != node || slow != node || (err == nil) != (err2 == nil) || (err == nil) != (err3 == nil) {
			return "", fmt.Errorf("the first says %s, %w, the second %s, %w, the slow one %s, %w", node, err, again, err2, slow, err3)
		}
	}
	return node, err
}

// The engine decides as asking every plugin about every node does, whatever has changed before, and for a pod that fits nowhere
// counts the same reasons.
func TestTheEngineAgreesWithTheSlowDecision(t *testing.T) {
	placed, refused := 0, 0
	for seed := range uint64(60) {
		d := dice{rand.New(rand.NewPCG(seed, 11))}
		decider := NewDecider()
		s := decider.State()
		for _, name := range []string{"default", "other"} {
			s.SetNamespace(name, d.labels())
		}
		// Pods come in shapes, of which most are seen again.
		var shapes []*corev1.Pod
		for i := range 8 {
			p := d.pod(i)
			p.DeletionTimestamp = nil
			if d.one(2) { // and some are plain
				p.Spec.Affinity, p.Spec.TopologySpreadConstraints, p.Spec.NodeSelector = nil, nil, nil
			}
			if d.one(3) {
				always := true
				p.OwnerReferences = []metav1.OwnerReference{{UID: types.UID(fmt.Sprint("rs", i)), Controller: &always}}
			}
			p.Spec.Containers[0].Image = d.of("", "a", "b:1")
			shapes = append(shapes, p)
		}
		var there []types.UID
		for step := range 150 {
			switch d.IntN(12) {
			case 0, 1:
				n := d.node(d.IntN(9))
				if d.one(2) {
					n.Status.Images = []corev1.ContainerImage{{Names: []string{"a:latest"}, SizeBytes: int64(d.IntN(2000)) << 20}}
				}
				s.SetNode(n)
			case 2:
				if d.one(3) {
					s.RemoveNode(fmt.Sprint("n", d.IntN(9)))
				}
			case 3:
				if len(there) > 0 {
					s.RemovePod(there[d.IntN(len(there))])
				}
			case 4:
				if d.one(4) {
					s.SetNamespace("other", d.labels())
				}
			}
			p := *shapes[d.IntN(len(shapes))]
			p.Name, p.UID = fmt.Sprint("p", step), types.UID(fmt.Sprint("p", step))
			if d.one(4) {
				p.Labels = d.labels()
			}
			pod := framework.NewPod(&p)
			if step%7 == 0 {
				r := &reference{at: map[*corev1.Pod]*corev1.Node{}, namespaces: map[string]map[string]string{}}
				for _, name := range []string{"default", "other"} {
					r.namespaces[name] = s.NamespaceLabels(name)
				}
				for _, n := range s.Nodes() {
					r.nodes = append(r.nodes, n.Node)
					for _, other := range n.Pods {
						r.at[other.Pod] = n.Node
					}
				}
				for _, n := range s.Nodes() {
					if got, want := fits(plugins.Default(), pod, s, n), r.allows(&p, n.Node); got != want {
						t.Fatalf("seed %d, step %d: on %s the plugins say %v, the reference %v", seed, step, n.Name, got, want)
					}
				}
			}
			got, err := decider.Decide(context.Background(), pod)
			want, slowErr := decideSlowly(plugins.Default(), pod, s)
			if got.Node != want {
				t.Fatalf("seed %d, step %d: %s, %v; slowly %s, %v", seed, step, got.Node, err, want, slowErr)
			}
			if err != nil {
				refused++
				fit, slow := (*FitError)(nil), (*FitError)(nil)
				if !errors.As(err, &fit) || !errors.As(slowErr, &slow) || !maps.Equal(fit.Reasons, slow.Reasons) || !maps.Equal(fit.Plugins, slow.Plugins) {
					t.Fatalf("seed %d, step %d: %v; slowly %v", seed, step, err, slowErr)
				}
				continue
			}
			placed++
			decider.Assume(pod, got)
			there = append(there, pod.UID)
		}
	}
	if placed < 500 || refused < 500 {
		t.Errorf("%d placed and %d refused: the clusters are no test", placed, refused)
	}
}

// On random small clusters, the plugins let a pod onto exactly the nodes that the documentation does.
func TestTheFiltersAgreeWithASlowReference(t *testing.T) {
	allowed, refused := 0, 0
	for seed := range uint64(1500) {
		d := dice{rand.New(rand.NewPCG(seed, 7))}
		r := &reference{at: map[*corev1.Pod]*corev1.Node{}, namespaces: map[string]map[string]string{"default": d.labels(), "other": d.labels()}}
		s := framework.NewState()
		for name, l := range r.namespaces {
			s.SetNamespace(name, l)
		}
		for i := range 1 + d.IntN(5) {
			n := d.node(i)
			r.nodes = append(r.nodes, n)
			s.SetNode(n)
		}
		for i := range d.IntN(12) {
			p, n := d.pod(i), r.nodes[d.IntN(len(r.nodes))]
			r.at[p] = n
			s.SetPod(framework.NewPod(p), n.Name)
		}
		p := d.pod(99)
		for _, n := range r.nodes {
			want := r.allows(p, n)
			got := fits(plugins.Default(), framework.NewPod(p), s, s.Node(n.Name))
			if got != want {
				t.Fatalf("seed %d: on %s the plugins say %v, the reference %v (named %v, selected %v, tolerated %v, room %v, ports %v, near %v, apart %v, welcome %v, spread %v)", seed, n.Name, got, want,
					r.named(p, n), r.selected(p, n), r.tolerated(p, n), r.room(p, n), r.ports(p, n), r.near(p, n), r.apart(p, n), r.welcome(p, n), r.spread(p, n))
			}
			if want {
				allowed++
			} else {
				refused++
			}
		}
	}
	if allowed < 300 || refused < 300 {
		t.Errorf("%d allowed and %d refused: the clusters are no test", allowed, refused)
	}
}

// Where only amounts are in a pod's way, preemption reckons with them instead of trying; it must choose the same victims.
func TestPreemptionByAmountsAgreesWithTrying(t *testing.T) {
	chosen := 0
	for seed := range uint64(300) {
		d := dice{rand.New(rand.NewPCG(seed, 13))}
		s := framework.NewState()
		n := node("n", fmt.Sprint(2+d.IntN(4)))
		n.Status.Allocatable["a.b/gpu"] = *resource.NewQuantity(int64(d.IntN(4)), resource.DecimalSI)
		s.SetNode(n)
		var budgets []budget
		if d.one(2) {
			budgets = append(budgets, budget{namespace: "default", selector: framework.Selector(nil, app("x"), nil, nil), allowed: int32(d.IntN(2))})
		}
		plain := func(name string) *corev1.Pod {
			p := pod(name, fmt.Sprint(100*(1+d.IntN(15)), "m"), ranked(int32(d.IntN(4))))
			p.Labels = d.labels()
			if d.one(3) {
				p.Spec.Containers[0].Resources.Requests["a.b/gpu"] = resource.MustParse("1")
			}
			return p
		}
		for i := range 1 + d.IntN(6) {
			s.SetPod(framework.NewPod(plain(fmt.Sprint("p", i))), "n")
		}
		p := framework.NewPod(plain("preemptor"))
		at := s.Node("n")
		filter := plugins.NodeResourcesFit{}.Prepare(p, s).Filter
		got, want := clearAmounts(filter, p, at, budgets), clear1(plugins.Default(), p, s, at, budgets)
		if (got == nil) != (want == nil) || got != nil && (got.violating != want.violating || !slices.EqualFunc(got.victims, want.victims, func(a, b *framework.Pod) bool { return a.UID == b.UID })) {
			t.Fatalf("seed %d: %+v, by trying %+v", seed, got, want)
		}
		if got != nil {
			chosen++
		}
	}
	if chosen < 50 {
		t.Errorf("%d with victims: no test", chosen)
	}
}

// The same nodes and pods give the same decisions, in whatever order the nodes came and whatever was there before, and no
// resource of a node is ever given twice.
func TestDecisionsAreDeterministicAndNeverOvercommit(t *testing.T) {
	placed := 0
	for seed := range uint64(40) {
		d := dice{rand.New(rand.NewPCG(seed, 17))}
		one, two := NewDecider(), NewDecider()
		var nodes []*corev1.Node
		for i := range 3 + d.IntN(6) {
			nodes = append(nodes, d.node(i))
			one.SetNode(nodes[i])
		}
		for i := range 4 {
			two.SetNode(d.node(20 + i))
		}
		for _, i := range d.Perm(len(nodes)) {
			two.SetNode(nodes[i])
			two.RemoveNode(fmt.Sprint("n", 20+i))
		}
		for i := range 4 {
			two.RemoveNode(fmt.Sprint("n", 20+i))
		}
		for i := range 60 {
			p := d.pod(i)
			p.DeletionTimestamp = nil
			if d.one(2) {
				p.Spec.Affinity, p.Spec.TopologySpreadConstraints, p.Spec.NodeSelector = nil, nil, nil
			}
			a, errA := one.Decide(t.Context(), framework.NewPod(p))
			b, errB := two.Decide(t.Context(), framework.NewPod(p))
			if a.Node != b.Node || (errA == nil) != (errB == nil) || errA != nil && errA.Error() != errB.Error() {
				t.Fatalf("seed %d, pod %d: %s, %v and %s, %v", seed, i, a.Node, errA, b.Node, errB)
			}
			if errA != nil {
				continue
			}
			placed++
			one.Assume(framework.NewPod(p), a)
			two.Assume(framework.NewPod(p), b)
			n := one.State().Node(a.Node)
			for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourcePods, "a.b/gpu"} {
				sum := int64(0)
				for _, other := range n.Pods {
					if name == corev1.ResourcePods {
						sum += 1000
					} else {
						sum += need(other.Pod, name)
					}
				}
				if have := n.Node.Status.Allocatable[name]; sum > have.MilliValue() {
					t.Fatalf("seed %d: pods on %s have %d thousandths of %s, of %d", seed, n.Name, sum, name, have.MilliValue())
				}
			}
		}
	}
	if placed < 300 {
		t.Errorf("%d placed: no test", placed)
	}
}
