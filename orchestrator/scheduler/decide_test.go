package scheduler

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fmt"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
	"github.com/pintle/pintle/orchestrator/scheduler/plugins"
)

func node(name string, cpu string, change ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), Labels: map[string]string{corev1.LabelHostname: name}},
		Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourcePods: resource.MustParse("110"),
		}},
	}
	for _, c := range change {
		c(n)
	}
	return n
}

func pod(name, cpu string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)},
		Spec: corev1.PodSpec{
			SchedulerName: corev1.DefaultSchedulerName,
			Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}}}},
		},
	}
	for _, c := range change {
		c(p)
	}
	return p
}

func labelled(key, value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { metav1.SetMetaDataLabel(&p.ObjectMeta, key, value) }
}

func zone(name string) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Labels[corev1.LabelTopologyZone] = name }
}

func app(value string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": value}}
}

func TestDecide(t *testing.T) {
	anti := func(key string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
				RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: key, LabelSelector: app("web")}}}}
		}
	}
	near := func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: corev1.LabelTopologyZone, LabelSelector: app("db")}}}}
	}
	spread := func(p *corev1.Pod) {
		p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: app("web")}}
	}
	hostPort := func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostPort: 80, ContainerPort: 80}}
	}
	tainted := func(n *corev1.Node) {
		n.Spec.Taints = []corev1.Taint{{Key: "gpu", Value: "yes", Effect: corev1.TaintEffectNoSchedule}}
	}
	type placed struct {
		pod  *corev1.Pod
		node string
	}
	for _, tc := range []struct {
		name  string
		nodes []*corev1.Node
		there []placed
		pod   *corev1.Pod
		want  string // the node, or the message
	}{
		{"no nodes", nil, nil, pod("p", "1"), "no nodes available to schedule pods"},
		{"fits", []*corev1.Node{node("a", "2")}, nil, pod("p", "2"), "a"},
		{"too large", []*corev1.Node{node("a", "2"), node("b", "1")}, nil, pod("p", "3"),
			"0/2 nodes are available: 2 Insufficient cpu. Nearest: short of 1 cpu on a."},
		{"what is there counts", []*corev1.Node{node("a", "2")}, []placed{{pod("q", "1500m"), "a"}}, pod("p", "1"),
			"0/1 nodes are available: 1 Insufficient cpu. Nearest: short of 500m cpu on a."},
		{"least allocated wins", []*corev1.Node{node("a", "4"), node("b", "4")}, []placed{{pod("q", "1"), "a"}}, pod("p", "1"), "b"},
		{"most frequent reason first", []*corev1.Node{node("a", "1", func(n *corev1.Node) { n.Spec.Unschedulable = true }), node("b", "1"), node("c", "1")}, nil, pod("p", "2"),
			"0/3 nodes are available: 2 Insufficient cpu, 1 node(s) were unschedulable. Nearest: short of 1 cpu on b."},
		{"taint", []*corev1.Node{node("a", "1", tainted)}, nil, pod("p", "1"),
			"0/1 nodes are available: 1 node(s) had untolerated taint {gpu: yes}."},
		{"toleration", []*corev1.Node{node("a", "1", tainted)}, nil, pod("p", "1", func(p *corev1.Pod) {
			p.Spec.Tolerations = []corev1.Toleration{{Key: "gpu", Operator: corev1.TolerationOpExists}}
		}), "a"},
		{"node selector", []*corev1.Node{node("a", "1"), node("b", "1")}, nil, pod("p", "1", func(p *corev1.Pod) {
			p.Spec.NodeSelector = map[string]string{corev1.LabelHostname: "b"}
		}), "b"},
		{"node selector matches none", []*corev1.Node{node("a", "1")}, nil, pod("p", "1", func(p *corev1.Pod) {
			p.Spec.NodeSelector = map[string]string{"disk": "ssd"}
		}), "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."},
		{"host port", []*corev1.Node{node("a", "2"), node("b", "1")}, []placed{{pod("q", "0", hostPort), "a"}}, pod("p", "1", hostPort), "b"},
		{"anti-affinity by host", []*corev1.Node{node("a", "9"), node("b", "1")}, []placed{{pod("q", "0", labelled("app", "web")), "a"}},
			pod("p", "1", anti(corev1.LabelHostname)), "b"},
		{"anti-affinity of those there", []*corev1.Node{node("a", "9"), node("b", "1")}, []placed{{pod("q", "0", anti(corev1.LabelHostname)), "a"}},
			pod("p", "1", labelled("app", "web")), "b"},
		{"affinity by zone", []*corev1.Node{node("a", "9", zone("z1")), node("b", "9", zone("z2")), node("c", "1", zone("z2"))},
			[]placed{{pod("q", "9", labelled("app", "db")), "b"}}, pod("p", "1", near), "c"},
		{"affinity to itself may be first", []*corev1.Node{node("a", "9", zone("z1"))}, nil, pod("p", "1", near, labelled("app", "db")), "a"},
		{"affinity to nobody", []*corev1.Node{node("a", "9", zone("z1"))}, nil, pod("p", "1", near),
			"0/1 nodes are available: 1 node(s) didn't match pod affinity rules."},
		{"spread", []*corev1.Node{node("a", "9", zone("z1")), node("b", "1", zone("z2"))},
			[]placed{{pod("q", "0", labelled("app", "web")), "a"}}, pod("p", "1", spread, labelled("app", "web")), "b"},
		{"spread without key", []*corev1.Node{node("a", "9")}, nil, pod("p", "1", spread, labelled("app", "web")),
			"0/1 nodes are available: 1 node(s) didn't match pod topology spread constraints (missing required label)."},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := framework.NewState()
			for _, n := range tc.nodes {
				s.SetNode(n)
			}
			for _, p := range tc.there {
				s.SetPod(framework.NewPod(p.pod), p.node)
			}
			got, err := decide(context.Background(), plugins.Default(), nil, framework.NewPod(tc.pod), s)
			if err != nil {
				got = err.Error()
			}
			if got != tc.want {
				t.Fatalf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// The State after any sequence of changes equals one built from what is left.
func TestNoNodeIsEverOvercommitted(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	s := framework.NewState()
	for i := range 5 {
		s.SetNode(node(fmt.Sprint("n", i), "4"))
	}
	var there []*framework.Pod
	for i := range 2000 {
		if len(there) > 0 && random.IntN(3) == 0 {
			k := random.IntN(len(there))
			s.RemovePod(there[k].UID)
			there = append(there[:k], there[k+1:]...)
			continue
		}
		p := framework.NewPod(pod(fmt.Sprint("p", i), fmt.Sprintf("%dm", 1+random.IntN(2000))))
		name, err := decide(context.Background(), plugins.Default(), nil, p, s)
		if fit := (*FitError)(nil); errors.As(err, &fit) {
			for _, n := range s.Nodes() {
				if n.Requested.MilliCPU+p.Request.MilliCPU <= n.Allocatable.MilliCPU {
					t.Fatalf("pod of %dm was refused though %s has room", p.Request.MilliCPU, n.Name)
				}
			}
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		s.SetPod(p, name)
		there = append(there, p)
		for _, n := range s.Nodes() {
			var sum int64
			for _, p := range n.Pods {
				sum += p.Request.MilliCPU
			}
			if sum != n.Requested.MilliCPU || sum > n.Allocatable.MilliCPU {
				t.Fatalf("%s: pods ask for %d, recorded %d of %d", n.Name, sum, n.Requested.MilliCPU, n.Allocatable.MilliCPU)
			}
		}
	}
}

func controlled(p *corev1.Pod, uid string, controller *bool) {
	p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: uid, UID: types.UID(uid), Controller: controller}}
}
