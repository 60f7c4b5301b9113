package scheduler

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
	"github.com/pintle/pintle/orchestrator/scheduler/plugins"
)

// The examples of "Pod Topology Spread Constraints" in the Kubernetes documentation: where the incoming pod may go.
func TestTheDocumentedExamplesOfTopologySpread(t *testing.T) {
	by := func(key string, skew int32, change ...func(*corev1.TopologySpreadConstraint)) corev1.TopologySpreadConstraint {
		c := corev1.TopologySpreadConstraint{MaxSkew: skew, TopologyKey: key, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: app("bar")}
		for _, f := range change {
			f(&c)
		}
		return c
	}
	zones := func(c ...string) []string { return c }
	domains := func(n int32) func(*corev1.TopologySpreadConstraint) {
		return func(c *corev1.TopologySpreadConstraint) { c.MinDomains = &n }
	}
	notIn := func(zone string) *corev1.Affinity {
		return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{
				{Key: corev1.LabelTopologyZone, Operator: corev1.NodeSelectorOpNotIn, Values: []string{zone}}}}}}}}
	}
	for _, tc := range []struct {
		name        string
		zones       []string // of node1, node2, …
		pods        []int    // that match, on them
		constraints []corev1.TopologySpreadConstraint
		affinity    *corev1.Affinity
		want        string
	}{
		{"one constraint: only zone B keeps the skew", zones("A", "A", "B", "B"), []int{1, 1, 1, 0}, []corev1.TopologySpreadConstraint{by(corev1.LabelTopologyZone, 1)}, nil, "node3 node4"},
		{"with maxSkew 2 it may go anywhere", zones("A", "A", "B", "B"), []int{1, 1, 1, 0}, []corev1.TopologySpreadConstraint{by(corev1.LabelTopologyZone, 2)}, nil, "node1 node2 node3 node4"},
		{"two constraints: only node4", zones("A", "A", "B", "B"), []int{1, 1, 1, 0},
			[]corev1.TopologySpreadConstraint{by(corev1.LabelTopologyZone, 1), by(corev1.LabelHostname, 1)}, nil, "node4"},
		{"two constraints that conflict: pending", zones("A", "A", "B"), []int{2, 1, 2},
			[]corev1.TopologySpreadConstraint{by(corev1.LabelTopologyZone, 1), by(corev1.LabelHostname, 1)}, nil, ""},
		{"with node affinity zone C doesn't count: zone B", zones("A", "A", "B", "B", "C"), []int{1, 1, 1, 0, 0}, []corev1.TopologySpreadConstraint{by(corev1.LabelTopologyZone, 1)}, notIn("C"), "node3 node4"},
		{"three zones with 2, 2 and 1", zones("A", "B", "C"), []int{2, 2, 1}, []corev1.TopologySpreadConstraint{by(corev1.LabelTopologyZone, 1)}, nil, "node3"},
		{"fewer domains than minDomains: the minimum is 0", zones("A", "B", "C"), []int{2, 2, 2}, []corev1.TopologySpreadConstraint{by(corev1.LabelTopologyZone, 2, domains(5))}, nil, ""},
		{"as many domains as minDomains", zones("A", "B", "C"), []int{2, 2, 2}, []corev1.TopologySpreadConstraint{by(corev1.LabelTopologyZone, 2, domains(3))}, nil, "node1 node2 node3"},
		{"a node without the key is bypassed", zones("A", "", "B"), []int{1, 0, 1}, []corev1.TopologySpreadConstraint{by(corev1.LabelTopologyZone, 1)}, nil, "node1 node3"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := framework.NewState()
			for i, z := range tc.zones {
				n := node(fmt.Sprint("node", i+1), "9")
				if z != "" {
					n.Labels[corev1.LabelTopologyZone] = z
				}
				s.SetNode(n)
				for j := range tc.pods[i] {
					s.SetPod(framework.NewPod(pod(fmt.Sprint("p", i, j), "0", labelled("app", "bar"))), n.Name)
				}
			}
			p := framework.NewPod(pod("mypod", "0", labelled("app", "bar"), func(p *corev1.Pod) {
				p.Spec.TopologySpreadConstraints, p.Spec.Affinity = tc.constraints, tc.affinity
			}))
			var may []string
			for _, n := range s.Nodes() {
				if fits(plugins.Default(), p, s, n) {
					may = append(may, n.Name)
				}
			}
			if got := strings.Join(may, " "); got != tc.want {
				t.Errorf("it may go to %q, want %q", got, tc.want)
			}
			if got, err := decide(context.Background(), plugins.Default(), nil, p, s); err == nil != (len(may) > 0) || err == nil && !slices.Contains(may, got) {
				t.Errorf("it goes to %q, %v", got, err)
			}
		})
	}
}

// What "Pod Priority and Preemption" in the Kubernetes documentation says that preemption doesn't do.
func TestTheDocumentedLimitsOfPreemption(t *testing.T) {
	affinity := func(anti bool, key, to string) func(*corev1.Pod) {
		terms := []corev1.PodAffinityTerm{{TopologyKey: key, LabelSelector: app(to)}}
		return func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{}
			if anti {
				p.Spec.Affinity.PodAntiAffinity = &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: terms}
			} else {
				p.Spec.Affinity.PodAffinity = &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: terms}
			}
		}
	}
	on := func(node string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = node } }
	for _, tc := range []struct {
		name  string
		there []*corev1.Pod
		pod   *corev1.Pod
	}{
		{"inter-pod affinity to a pod of lower priority: without it the pod fits less than before",
			[]*corev1.Pod{pod("low", "4", on("n"), labelled("app", "db"))}, pod("p", "4", ranked(9), affinity(false, corev1.LabelHostname, "db"))},
		{"a pod of another node isn't preempted for anti-affinity by zone",
			[]*corev1.Pod{pod("q", "1", on("m"), labelled("app", "web")), pod("full", "3", on("m"), ranked(9))}, pod("p", "4", ranked(9), affinity(true, corev1.LabelTopologyZone, "web"))},
	} {
		d := NewDecider()
		d.SetNode(node("m", "4", zone("z")))
		d.SetNode(node("n", "4", zone("z")))
		for _, p := range tc.there {
			d.SetPod(p)
		}
		p := framework.NewPod(tc.pod)
		if to, err := d.Decide(t.Context(), p); err == nil {
			t.Errorf("%s: it fits on %s", tc.name, to.Node)
		}
		if chosen, why, err := d.Preempt(t.Context(), p, nil); err != nil || chosen != nil || why == "" {
			t.Errorf("%s: %+v, %q, %v", tc.name, chosen, why, err)
		}
	}
}

// The example of "Resource Bin Packing" in the Kubernetes documentation, in hundredths as kube-scheduler reckons: 60 and 69.
func TestTheDocumentedExampleOfBinPacking(t *testing.T) {
	amounts := func(cpu, memory, foo string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory), "intel.com/foo": resource.MustParse(foo), corev1.ResourcePods: resource.MustParse("10")}
	}
	asks := func(name string, list corev1.ResourceList) *corev1.Pod {
		delete(list, corev1.ResourcePods)
		return pod(name, "0", func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = list })
	}
	strategy := plugins.ScoringStrategy{Type: plugins.RequestedToCapacityRatio, Shape: []plugins.ShapePoint{{Utilization: 0, Score: 0}, {Utilization: 100, Score: 10}},
		Resources: []plugins.ResourceWeight{{Name: "intel.com/foo", Weight: 5}, {Name: corev1.ResourceMemory, Weight: 1}, {Name: corev1.ResourceCPU, Weight: 3}}}
	s := framework.NewState()
	s.SetNode(node("node1", "8", func(n *corev1.Node) { n.Status.Allocatable = amounts("8", "1Gi", "4") }))
	s.SetNode(node("node2", "8", func(n *corev1.Node) { n.Status.Allocatable = amounts("8", "1Gi", "8") }))
	s.SetPod(framework.NewPod(asks("on1", amounts("1", "256Mi", "1"))), "node1")
	s.SetPod(framework.NewPod(asks("on2", amounts("6", "512Mi", "2"))), "node2")
	p := framework.NewPod(asks("p", amounts("2", "256Mi", "2")))
	for _, tc := range []struct {
		strategy     plugins.ScoringStrategy
		node1, node2 int64
	}{
		{strategy, 60, 69},
		{plugins.ScoringStrategy{Type: plugins.RequestedToCapacityRatio}, 44, 88},
		{plugins.ScoringStrategy{Type: plugins.MostAllocated}, 43, 87},
		{plugins.ScoringStrategy{}, 56, 12},
		{plugins.ScoringStrategy{Type: plugins.LeastAllocated, Resources: []plugins.ResourceWeight{{Name: "intel.com/foo"}}}, 25, 50},
		{plugins.ScoringStrategy{Type: plugins.MostAllocated, Resources: []plugins.ResourceWeight{{Name: "example.com/not-asked-for"}, {Name: corev1.ResourceCPU, Weight: 2}}}, 37, 100},
	} {
		prepared := plugins.NodeResourcesFit{Strategy: tc.strategy}.Prepare(p, s)
		one, two := prepared.Score(s.Node("node1")), prepared.Score(s.Node("node2"))
		if one != tc.node1 || two != tc.node2 {
			t.Errorf("%+v: %d and %d, want %d and %d", tc.strategy, one, two, tc.node1, tc.node2)
		}
		if prepared.ScoreRows != nil {
			out := make([]int64, 2)
			prepared.ScoreRows([]int32{int32(s.Node("node1").Row), int32(s.Node("node2").Row)}, out)
			if out[0] != one || out[1] != two {
				t.Errorf("%+v: by rows %v", tc.strategy, out)
			}
		}
	}
}

// Pods of a controller that say nothing of spread are kept apart by host, and by zone, as kube-scheduler does by default.
func TestPodsOfAControllerAreSpreadByDefault(t *testing.T) {
	always := true
	of := func(uid string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { controlled(p, uid, &always) }
	}
	d := NewDecider()
	for i := range 4 {
		d.SetNode(node(fmt.Sprint("n", i), "64", zone(fmt.Sprint("z", i%2))))
	}
	count := map[string]int{}
	for i := range 8 {
		p := framework.NewPod(pod(fmt.Sprint("p", i), "0", of("rs")))
		to, err := d.Decide(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		d.Assume(p, to)
		count[to.Node]++
	}
	for name, n := range count {
		if n != 2 {
			t.Errorf("%s has %d of 8 pods", name, n)
		}
	}
}
