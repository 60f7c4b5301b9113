package scheduler

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

// A pod that fits nowhere wakes only on a change that can help it.
func TestAPodWakesOnlyOnWhatCanHelpIt(t *testing.T) {
	on := func(node string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = node } }
	tainted := func(n *corev1.Node) {
		n.Spec.Taints = []corev1.Taint{{Key: "gpu", Effect: corev1.TaintEffectNoSchedule}}
	}
	near := func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{
			{TopologyKey: corev1.LabelHostname, LabelSelector: app("db")}}}}
	}
	apart := func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{
			{TopologyKey: corev1.LabelHostname, LabelSelector: app("web")}}}}
	}
	heartbeat := func(n *corev1.Node) {
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Now()}}
	}
	for _, tc := range []struct {
		name     string
		nodes    []*corev1.Node
		pods     []*corev1.Pod
		waits    *corev1.Pod
		refused  string
		resource string
		event    watch.EventType
		object   any
		wakes    bool
	}{
		{"a heartbeat", []*corev1.Node{node("a", "1")}, nil, pod("p", "2"), "NodeResourcesFit", "nodes", watch.Modified, node("a", "1", heartbeat), false},
		{"a node that is large enough", nil, nil, pod("p", "2"), "NodeResourcesFit", "nodes", watch.Added, node("b", "2"), true},
		{"a node that is too small", nil, nil, pod("p", "2"), "NodeResourcesFit", "nodes", watch.Added, node("b", "1"), false},
		{"a node that grows", []*corev1.Node{node("a", "1")}, nil, pod("p", "2"), "NodeResourcesFit", "nodes", watch.Modified, node("a", "2"), true},
		{"a node that is tainted", nil, nil, pod("p", "2"), "NodeResourcesFit", "nodes", watch.Added, node("b", "2", tainted), false},
		{"a taint that goes", []*corev1.Node{node("a", "2", tainted)}, nil, pod("p", "2"), "TaintToleration", "nodes", watch.Modified, node("a", "2"), true},
		{"a pod that leaves enough", []*corev1.Node{node("a", "2")}, []*corev1.Pod{pod("q", "2", on("a"))}, pod("p", "2"), "NodeResourcesFit", "pods", watch.Deleted, pod("q", "2", on("a")), true},
		{"a pod that leaves too little", []*corev1.Node{node("a", "2")}, []*corev1.Pod{pod("q", "1", on("a")), pod("r", "1", on("a"))}, pod("p", "2"), "NodeResourcesFit", "pods", watch.Deleted, pod("q", "1", on("a")), false},
		{"a pod that leaves too little, but the other may be preempted", []*corev1.Node{node("a", "2")}, []*corev1.Pod{pod("q", "1", on("a")), pod("r", "1", on("a"), ranked(-5))}, pod("p", "2"), "NodeResourcesFit", "pods", watch.Deleted, pod("q", "1", on("a")), true},
		{"a pod that leaves a node of no use", []*corev1.Node{node("a", "2", tainted)}, []*corev1.Pod{pod("q", "2", on("a"))}, pod("p", "2"), "NodeResourcesFit", "pods", watch.Deleted, pod("q", "2", on("a")), false},
		{"company comes", []*corev1.Node{node("a", "2")}, nil, pod("p", "1", near), "InterPodAffinity", "pods", watch.Added, pod("q", "1", on("a"), labelled("app", "db")), true},
		{"a stranger comes", []*corev1.Node{node("a", "2")}, nil, pod("p", "1", near), "InterPodAffinity", "pods", watch.Added, pod("q", "1", on("a")), false},
		{"who was in the way leaves", []*corev1.Node{node("a", "2")}, []*corev1.Pod{pod("q", "1", on("a"), labelled("app", "web"))}, pod("p", "1", apart), "InterPodAffinity", "pods", watch.Deleted, pod("q", "1", on("a"), labelled("app", "web")), true},
		{"a pod that comes gives no room", []*corev1.Node{node("a", "2")}, nil, pod("p", "2"), "NodeResourcesFit", "pods", watch.Added, pod("q", "1", on("a")), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := New(Config{Client: newFakeClient()})
			if err != nil {
				t.Fatal(err)
			}
			l := newLoop(s.cfg)
			happens := func(resource string, event watch.EventType, object any) {
				gvr := podsResource
				if resource == "nodes" {
					gvr = nodesResource
				}
				c := change{gvr: gvr, event: watch.Event{Type: event}}
				switch object := object.(type) {
				case *corev1.Node:
					c.event.Object = object
				case *corev1.Pod:
					c.event.Object = object
				}
				l.apply(t.Context(), c)
			}
			for _, n := range tc.nodes {
				happens("nodes", watch.Added, n)
			}
			for _, p := range tc.pods {
				happens("pods", watch.Added, p)
			}
			l.queue.set(framework.NewPod(tc.waits), 0)
			p := l.queue.pop()
			l.queue.park(p, l.cfg.Clock.Now(), map[string]bool{tc.refused: true})
			happens(tc.resource, tc.event, tc.object)
			if p.woken != tc.wakes {
				t.Errorf("woken: %v, want %v", p.woken, tc.wakes)
			}
		})
	}
}
