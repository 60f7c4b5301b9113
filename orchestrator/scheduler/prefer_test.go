package scheduler

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
	"github.com/pintle/pintle/orchestrator/scheduler/plugins"
)

// Among nodes that all would do, what is preferred decides. Node a is the one that wins a tie, so every case
// wants b.
func TestPreferencesDecideAmongNodesThatFit(t *testing.T) {
	labelledNode := func(key, value string) func(*corev1.Node) {
		return func(n *corev1.Node) { n.Labels[key] = value }
	}
	term := func(name string, operator corev1.NodeSelectorOperator, values ...string) corev1.NodeSelectorTerm {
		return corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: name, Operator: operator, Values: values}}}
	}
	nodes := func(terms ...corev1.PreferredSchedulingTerm) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: terms}}
		}
	}
	near := func(anti bool, weight int32) func(*corev1.Pod) {
		terms := []corev1.WeightedPodAffinityTerm{{Weight: weight, PodAffinityTerm: corev1.PodAffinityTerm{TopologyKey: corev1.LabelHostname, LabelSelector: app("web")}}}
		return func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{}
			if anti {
				p.Spec.Affinity.PodAntiAffinity = &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: terms}
			} else {
				p.Spec.Affinity.PodAffinity = &corev1.PodAffinity{PreferredDuringSchedulingIgnoredDuringExecution: terms}
			}
		}
	}
	mustBeNear := func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{
			{TopologyKey: corev1.LabelHostname, LabelSelector: app("web")}}}}
	}
	soft := func(p *corev1.Pod) {
		p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: corev1.LabelTopologyZone,
			WhenUnsatisfiable: corev1.ScheduleAnyway, LabelSelector: app("web")}}
	}
	rather := func(n *corev1.Node) {
		n.Spec.Taints = []corev1.Taint{{Key: "busy", Effect: corev1.TaintEffectPreferNoSchedule}}
	}
	memory := func(amount string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests[corev1.ResourceMemory] = resource.MustParse(amount)
		}
	}
	web := labelled("app", "web")
	for _, tc := range []struct {
		name  string
		a, b  []func(*corev1.Node)
		on    map[string]*corev1.Pod // one running pod a node
		pod   *corev1.Pod
		small bool // the nodes are of 2 cpus
	}{
		{name: "a preferred label", b: []func(*corev1.Node){labelledNode("disk", "ssd")}, pod: pod("p", "1", nodes(corev1.PreferredSchedulingTerm{Weight: 1, Preference: term("disk", corev1.NodeSelectorOpIn, "ssd")}))},
		{name: "the heavier of two preferred labels", a: []func(*corev1.Node){labelledNode("disk", "hdd")}, b: []func(*corev1.Node){labelledNode("disk", "ssd")},
			pod: pod("p", "1", nodes(corev1.PreferredSchedulingTerm{Weight: 10, Preference: term("disk", corev1.NodeSelectorOpIn, "hdd")}, corev1.PreferredSchedulingTerm{Weight: 90, Preference: term("disk", corev1.NodeSelectorOpIn, "ssd")}))},
		{name: "a label that is not there", a: []func(*corev1.Node){labelledNode("disk", "hdd")}, pod: pod("p", "1", nodes(corev1.PreferredSchedulingTerm{Weight: 1, Preference: term("disk", corev1.NodeSelectorOpDoesNotExist)}))},
		{name: "no taint that would rather not", a: []func(*corev1.Node){rather}, pod: pod("p", "1")},
		{name: "near a pod", on: map[string]*corev1.Pod{"b": pod("q", "0", web)}, pod: pod("p", "1", near(false, 50))},
		{name: "away from a pod", on: map[string]*corev1.Pod{"a": pod("q", "0", web)}, pod: pod("p", "1", near(true, 50))},
		{name: "where a pod wants this one", on: map[string]*corev1.Pod{"b": pod("q", "0", near(false, 50))}, pod: pod("p", "1", web)},
		{name: "where a pod must have had this one", on: map[string]*corev1.Pod{"b": pod("q", "0", mustBeNear)}, pod: pod("p", "1", web)},
		{name: "not where a pod would rather not have this one", on: map[string]*corev1.Pod{"a": pod("q", "0", near(true, 50))}, pod: pod("p", "1", web)},
		{name: "the emptier zone", a: []func(*corev1.Node){zone("z1")}, b: []func(*corev1.Node){zone("z2")}, on: map[string]*corev1.Pod{"a": pod("q", "0", web)}, pod: pod("p", "1", soft, web)},
		{name: "a node of any zone", b: []func(*corev1.Node){zone("z1")}, pod: pod("p", "1", soft, web)},
		{name: "the emptier node", on: map[string]*corev1.Pod{"a": pod("q", "1")}, pod: pod("p", "1")},
		{name: "the node with fewer pods that ask for nothing", on: map[string]*corev1.Pod{"a": pod("q", "0")}, pod: pod("p", "0")},
		{name: "the better balance", on: map[string]*corev1.Pod{"a": pod("q", "1", memory("0")), "b": pod("r", "0", memory("4Gi"))}, pod: pod("p", "1", memory("0")), small: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := framework.NewState()
			size := "8"
			if tc.small {
				size = "2"
			}
			s.SetNode(node("a", size, tc.a...))
			s.SetNode(node("b", size, tc.b...))
			for name, p := range tc.on {
				p.UID = "on-" + p.UID
				p.DeletionTimestamp = (*metav1.Time)(nil)
				s.SetPod(framework.NewPod(p), name)
			}
			got, err := decide(context.Background(), plugins.Default(), nil, framework.NewPod(tc.pod), s)
			if err != nil || got != "b" {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}
