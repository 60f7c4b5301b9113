package framework

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

const rack = "example.com/rack"

func labelledNode(name string, l map[string]string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: l}}
}

func labelledPod(name string, l map[string]string, terms ...corev1.PodAffinityTerm) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), Labels: l}}
	if len(terms) > 0 {
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: terms}}
	}
	return p
}

// Whatever comes and goes, what is counted by label values is what counting anew gives.
func TestCountsFollowPodsAndNodes(t *testing.T) {
	selectors := []*metav1.LabelSelector{
		{MatchLabels: map[string]string{"app": "a"}},
		{MatchLabels: map[string]string{"app": "b", "tier": "x"}},
		{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: metav1.LabelSelectorOpIn, Values: []string{"a", "c"}}}},
		{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"a"}}}},
		{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "tier", Operator: metav1.LabelSelectorOpExists}}},
		{},
	}
	for seed := range uint64(8) {
		d := rand.New(rand.NewPCG(seed, 1))
		of := func(values ...string) string { return values[d.IntN(len(values))] }
		s := NewState()
		include := func(n *Node) bool { return n.Node.Labels["kind"] != "odd" }
		nodeLabels := func(step int) map[string]string {
			l := map[string]string{corev1.LabelHostname: fmt.Sprint("host-", step), "kind": of("odd", "even")}
			if d.IntN(4) > 0 {
				l[rack] = fmt.Sprint("rack-", step/20, d.IntN(3)) // racks come and go, too
			}
			return l
		}
		pods := map[string]*Pod{}
		for step := range 600 {
			switch d.IntN(8) {
			case 0:
				s.SetNode(labelledNode(fmt.Sprint("n", d.IntN(12)), nodeLabels(step)))
			case 1:
				s.RemoveNode(fmt.Sprint("n", d.IntN(12)))
			case 2, 3:
				name := fmt.Sprint("p", d.IntN(40))
				s.RemovePod(types.UID(name))
				delete(pods, name)
			default:
				name := fmt.Sprint("p", d.IntN(40))
				l := map[string]string{"app": of("a", "b", "c")}
				if d.IntN(2) == 0 {
					l["tier"] = of("x", "y")
				}
				var terms []corev1.PodAffinityTerm
				if d.IntN(3) == 0 {
					terms = append(terms, corev1.PodAffinityTerm{TopologyKey: of(rack, corev1.LabelHostname), LabelSelector: selectors[d.IntN(len(selectors))]})
				}
				p := NewPod(labelledPod(name, l, terms...))
				if d.IntN(4) == 0 {
					p.OwnerReferences = []metav1.OwnerReference{{UID: types.UID(of("o1", "o2")), Controller: new(bool)}}
					*p.OwnerReferences[0].Controller = true
					p = NewPod(p.Pod)
				}
				s.SetPod(p, fmt.Sprint("n", d.IntN(12)))
				pods[name] = p
			}
			if step%5 != 0 {
				continue
			}
			for i, selector := range selectors {
				parsed, err := metav1.LabelSelectorAsSelector(selector)
				if err != nil {
					t.Fatal(err)
				}
				match := func(sample *corev1.Pod, _ labels.Set) bool { return parsed.Matches(labels.Set(sample.Labels)) }
				for _, key := range []string{rack, corev1.LabelHostname} {
					checkCensus(t, s, s.Census(fmt.Sprint("all", i, key), key, PairsOf(parsed), nil, match), pods, key, nil, match)
					checkCensus(t, s, s.Census(fmt.Sprint("some", i, key), key, PairsOf(parsed), include, match), pods, key, include, match)
				}
			}
			owned := func(sample *corev1.Pod, _ labels.Set) bool {
				o := metav1.GetControllerOfNoCopy(sample)
				return o != nil && o.UID == "o1"
			}
			checkCensus(t, s, s.Census("owner", rack, []string{OwnerPair("o1")}, nil, owned), pods, rack, nil, owned)
			for _, p := range pods {
				checkRefusing(t, s, p, pods)
			}
			if t.Failed() {
				t.Fatalf("seed %d, step %d", seed, step)
			}
		}
		for name := range pods {
			s.RemovePod(types.UID(name))
		}
		x := &s.index
		if len(x.groups)+len(x.having)+len(x.anti.all)+len(x.anti.byPair.pairs)+len(x.anti.byPair.loose) > 0 {
			t.Errorf("without pods: %d kinds, %d pairs, %d terms", len(x.groups), len(x.having), len(x.anti.all))
		}
	}
}

// byValue counts nodes that count, and pods on them that match, by the value of their label.
func byValue(s *State, pods map[string]*Pod, key string, include func(*Node) bool, match func(*corev1.Pod) bool) (nodes, matching map[string]int64, total int64) {
	nodes, matching = map[string]int64{}, map[string]int64{}
	for _, n := range s.Nodes() {
		value, ok := n.Node.Labels[key]
		if !ok || include != nil && !include(n) {
			continue
		}
		nodes[value]++
		for _, p := range pods {
			if s.NodeOf(p.UID) == n.Name && match(p.Pod) {
				matching[value]++
				total++
			}
		}
	}
	return nodes, matching, total
}

func checkCensus(t *testing.T, s *State, c *Census, pods map[string]*Pod, key string, include func(*Node) bool, match func(*corev1.Pod, labels.Set) bool) {
	t.Helper()
	nodes, matching, total := byValue(s, pods, key, include, func(p *corev1.Pod) bool { return match(p, nil) })
	if c.Total != total {
		t.Errorf("%s: %d in all, want %d", key, c.Total, total)
	}
	for _, n := range s.Nodes() {
		value, ok := n.Node.Labels[key]
		v := c.Column.Values[n.Row]
		if ok != (v >= 0) {
			t.Fatalf("%s of %s: number %d", key, n.Name, v)
		}
		if !ok {
			continue
		}
		if got := c.Count(n.Row); got != matching[value] {
			t.Errorf("%s=%s: %d pods, want %d", key, value, got, matching[value])
		}
		if include != nil && c.Nodes[v] != nodes[value] {
			t.Errorf("%s=%s: %d nodes, want %d", key, value, c.Nodes[v], nodes[value])
		}
	}
	have := int64(0)
	for _, n := range c.Counts {
		have += n
	}
	if have != total {
		t.Errorf("%s: counts of values that nobody has: %v", key, c.Counts)
	}
}

// checkRefusing holds the anti-affinity of others that means a pod against looking at each.
func checkRefusing(t *testing.T, s *State, p *Pod, pods map[string]*Pod) {
	t.Helper()
	refuses := func(all map[string]bool) string {
		var out []string
		for name := range all {
			out = append(out, name)
		}
		slices.Sort(out)
		return strings.Join(out, " ")
	}
	want, got := map[string]bool{}, map[string]bool{}
	for _, other := range pods {
		at := s.Node(s.NodeOf(other.UID))
		if at == nil || at.Node == nil {
			continue
		}
		for i := range other.Affinity.RequiredAnti {
			term := &other.Affinity.RequiredAnti[i]
			value, ok := at.Node.Labels[term.TopologyKey]
			if !ok || !term.Matches(p.Pod, nil) {
				continue
			}
			for _, n := range s.Nodes() {
				if n.Node.Labels[term.TopologyKey] == value {
					want[n.Name] = true
				}
			}
		}
	}
	for _, c := range s.Refusing(p) {
		for _, n := range s.Nodes() {
			if v := c.Column.Values[n.Row]; v >= 0 && int(v) < len(c.Counts) && c.Counts[v] > 0 {
				got[n.Name] = true
			}
		}
	}
	if refuses(got) != refuses(want) {
		t.Errorf("%s is refused by %q, want %q", p.Name, refuses(got), refuses(want))
	}
}

// Names that come and go, of nodes, topology keys or resources, don't stay.
func TestWhatIsGoneLeavesNoNumbers(t *testing.T) {
	s := NewState()
	c := s.Census("hosts", corev1.LabelHostname, nil, nil, func(*corev1.Pod, labels.Set) bool { return true })
	for i := range 2000 {
		name := fmt.Sprint("spot-", i)
		s.SetNode(labelledNode(name, map[string]string{corev1.LabelHostname: name}))
		pod := labelledPod("p", map[string]string{"job": name})
		pod.Spec.Containers = []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceName("example.com/" + name): resource.MustParse("1")}}}}
		s.SetPod(NewPod(pod), name)
		s.Scalar(corev1.ResourceName("example.com/" + name))
		s.LabelColumn("example.com/" + name)
		if i >= 10 {
			s.RemoveNode(fmt.Sprint("spot-", i-10))
		}
	}
	if got := len(c.Counts); got > 12 {
		t.Errorf("%d host names are numbered for 10 nodes", got)
	}
	if got := len(s.labels); got > maxColumns {
		t.Errorf("%d label columns", got)
	}
	if got := len(s.columns.scalars); got > maxScalars {
		t.Errorf("%d columns of resources", got)
	}
	s.RemovePod("p")
	for _, n := range s.Nodes() {
		if len(n.Requested.Scalar) > 0 {
			t.Errorf("%s: %v", n.Name, n.Requested.Scalar)
		}
	}
	if s.LabelColumn(corev1.LabelHostname) != c.Column {
		t.Error("a column that is counted by was dropped")
	}
}
