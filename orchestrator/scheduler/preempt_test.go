package scheduler

import (
	"context"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
	"github.com/pintle/pintle/orchestrator/scheduler/plugins"
)

func ranked(priority int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Priority = &priority }
}

func since(seconds int64) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		at := metav1.Unix(seconds, 0)
		p.Status.StartTime = &at
	}
}

func budgetFor(name string, allowed int32) budget {
	return newBudget(&policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "default"},
		Spec:   policyv1.PodDisruptionBudgetSpec{Selector: app(name)},
		Status: policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: allowed}})
}

func TestPreemptionChoosesTheLeastHarm(t *testing.T) {
	hostPort := func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostPort: 80, ContainerPort: 80}}
	}
	tainted := func(n *corev1.Node) {
		n.Spec.Taints = []corev1.Taint{{Key: "gpu", Effect: corev1.TaintEffectNoSchedule}}
	}
	never := corev1.PreemptNever
	type placed struct {
		pod  *corev1.Pod
		node string
	}
	for _, tc := range []struct {
		name    string
		nodes   []*corev1.Node
		there   []placed
		budgets []budget
		pod     *corev1.Pod
		want    string // node: victims, or the message
	}{
		{"one that is less important goes", []*corev1.Node{node("a", "2")}, []placed{{pod("low", "2"), "a"}}, nil, pod("p", "1", ranked(1)), "a: low"},
		{"one as important stays", []*corev1.Node{node("a", "2")}, []placed{{pod("same", "2", ranked(1)), "a"}}, nil, pod("p", "1", ranked(1)),
			"preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."},
		{"no more go than must", []*corev1.Node{node("a", "4")}, []placed{{pod("x", "1", since(2)), "a"}, {pod("y", "3", since(1)), "a"}}, nil, pod("p", "1", ranked(1)), "a: x"},
		{"the less important of two", []*corev1.Node{node("a", "2")}, []placed{{pod("x", "1", ranked(2)), "a"}, {pod("y", "1", ranked(1)), "a"}}, nil, pod("p", "1", ranked(9)), "a: y"},
		{"the later of two", []*corev1.Node{node("a", "2")}, []placed{{pod("x", "1", since(1)), "a"}, {pod("y", "1", since(2)), "a"}}, nil, pod("p", "1", ranked(9)), "a: y"},
		{"even all of them don't make room", []*corev1.Node{node("a", "2")}, []placed{{pod("x", "1"), "a"}, {pod("y", "1", ranked(5)), "a"}}, nil, pod("p", "2", ranked(5)),
			"preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."},
		{"the node whose victims matter less", []*corev1.Node{node("a", "1"), node("b", "1")}, []placed{{pod("x", "1", ranked(3)), "a"}, {pod("y", "1", ranked(2)), "b"}}, nil, pod("p", "1", ranked(9)), "b: y"},
		{"the node with fewer victims", []*corev1.Node{node("a", "2"), node("b", "2")}, []placed{{pod("x", "1"), "a"}, {pod("y", "1"), "a"}, {pod("z", "2"), "b"}}, nil, pod("p", "2", ranked(9)), "b: z"},
		{"the node where the victim started later", []*corev1.Node{node("a", "1"), node("b", "1")}, []placed{{pod("x", "1", since(1)), "a"}, {pod("y", "1", since(2)), "b"}}, nil, pod("p", "1", ranked(9)), "b: y"},
		{"a budget is kept where another pod will do", []*corev1.Node{node("a", "2")},
			[]placed{{pod("x", "1", labelled("app", "kept"), since(9)), "a"}, {pod("y", "1", since(1)), "a"}}, []budget{budgetFor("kept", 0)}, pod("p", "1", ranked(9)), "a: y"},
		{"a budget is kept where another node will do", []*corev1.Node{node("a", "1"), node("b", "1")},
			[]placed{{pod("x", "1", labelled("app", "kept")), "a"}, {pod("y", "1", ranked(5)), "b"}}, []budget{budgetFor("kept", 0)}, pod("p", "1", ranked(9)), "b: y"},
		{"a budget is broken where nothing else helps", []*corev1.Node{node("a", "1")},
			[]placed{{pod("x", "1", labelled("app", "kept")), "a"}}, []budget{budgetFor("kept", 0)}, pod("p", "1", ranked(9)), "a: x"},
		{"a budget with room is no obstacle", []*corev1.Node{node("a", "1"), node("b", "1")},
			[]placed{{pod("x", "1", labelled("app", "kept")), "a"}, {pod("y", "1", ranked(5)), "b"}}, []budget{budgetFor("kept", 1)}, pod("p", "1", ranked(9)), "a: x"},
		{"nobody's end removes a taint", []*corev1.Node{node("a", "1", tainted)}, []placed{{pod("x", "1"), "a"}}, nil, pod("p", "1", ranked(9)),
			"preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."},
		{"a port is freed", []*corev1.Node{node("a", "9")}, []placed{{pod("x", "1", hostPort), "a"}, {pod("y", "1"), "a"}}, nil, pod("p", "1", ranked(9), hostPort), "a: x"},
		{"one that keeps others away goes", []*corev1.Node{node("a", "9")}, []placed{{pod("x", "1", func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{
				{TopologyKey: corev1.LabelHostname, LabelSelector: app("web")}}}}
		}), "a"}}, nil, pod("p", "1", ranked(9), labelled("app", "web")), "a: x"},
		{"a pod that preempts nobody", []*corev1.Node{node("a", "1")}, []placed{{pod("x", "1"), "a"}}, nil, pod("p", "1", ranked(9), func(p *corev1.Pod) { p.Spec.PreemptionPolicy = &never }),
			"preemption: not eligible due to preemptionPolicy=Never."},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := framework.NewState()
			for _, n := range tc.nodes {
				s.SetNode(n)
			}
			for _, p := range tc.there {
				s.SetPod(framework.NewPod(p.pod), p.node)
			}
			p := framework.NewPod(tc.pod)
			got := mayPreempt(p, nil)
			if got == "" {
				chosen, why, err := preempt(context.Background(), plugins.Default(), nil, p, s, tc.budgets)
				if err != nil {
					t.Fatal(err)
				}
				if got = why; chosen != nil {
					var names []string
					for _, v := range chosen.victims {
						names = append(names, v.Name)
					}
					got = chosen.node.Name + ": " + strings.Join(names, " ")
				}
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			for _, p := range tc.there { // trying leaves no trace
				if s.NodeOf(p.pod.UID) != p.node {
					t.Errorf("%s is on %q", p.pod.Name, s.NodeOf(p.pod.UID))
				}
			}
		})
	}
}

func TestANodeThatIsBeingClearedIsWaitedFor(t *testing.T) {
	s := framework.NewState()
	s.SetNode(node("a", "1"))
	now := metav1.Now()
	s.SetPod(framework.NewPod(pod("ending", "1", func(p *corev1.Pod) { p.DeletionTimestamp = &now })), "a")
	if why := mayPreempt(framework.NewPod(pod("p", "1", ranked(1))), s.Node("a")); why != "preemption: not eligible due to a terminating pod on the nominated node." {
		t.Error(why)
	}
}

func TestAnImportantPodTakesTheRoomOfAnotherAndLosesItToNobody(t *testing.T) {
	client := newFakeClient()
	client.put("nodes", node("a", "1"), watch.Added)
	low := pod("low", "1")
	low.Spec.NodeName = "a"
	client.put("pods", low, watch.Added)
	client.put("pods", pod("high", "1", ranked(9)), watch.Added)
	start(t, client)
	if got := <-client.deleted; got != "low" {
		t.Fatal(got)
	}
	ending, err := client.Get(context.Background(), podsResource, "default", "low")
	if err != nil {
		t.Fatal(err)
	}
	if c := ending.(*corev1.Pod).Status.Conditions; len(c) != 1 || c[0].Type != corev1.DisruptionTarget || c[0].Reason != corev1.PodReasonPreemptionByScheduler {
		t.Errorf("the victim's conditions: %+v", c)
	}
	high, err := client.Get(context.Background(), podsResource, "default", "high")
	if err != nil || high.(*corev1.Pod).Status.NominatedNodeName != "a" {
		t.Fatalf("%+v, %v", high, err)
	}
	// Somebody less important comes just before the room is free.
	client.put("pods", pod("middle", "1", ranked(5), func(p *corev1.Pod) { p.CreationTimestamp = metav1.Unix(1, 0) }), watch.Added)
	client.put("pods", ending, watch.Deleted)
	if got := <-client.bound; got != "high→a" {
		t.Fatal(got)
	}
	var reasons []string
	for range 2 {
		reasons = append(reasons, (<-client.events).Reason)
	}
	if !slices.Contains(reasons, "Preempted") {
		t.Errorf("events: %v", reasons)
	}
}

// Who is nominated to a node loses it to the more important one that has it cleared, and is told so.
func TestANominationGoesToTheMoreImportant(t *testing.T) {
	client := newFakeClient()
	client.put("nodes", node("a", "1"), watch.Added)
	low := pod("low", "1")
	low.Spec.NodeName = "a"
	client.put("pods", low, watch.Added)
	middle := pod("middle", "1", ranked(5))
	middle.Status.NominatedNodeName = "a"
	never := corev1.PreemptNever // else it would preempt once more
	middle.Spec.PreemptionPolicy = &never
	client.put("pods", middle, watch.Added)
	client.put("pods", pod("high", "1", ranked(9)), watch.Added)
	start(t, client)
	if got := <-client.deleted; got != "low" {
		t.Fatal(got)
	}
	for name, want := range map[string]string{"high": "a", "middle": ""} {
		p, err := client.Get(context.Background(), podsResource, "default", name)
		if err != nil || p.(*corev1.Pod).Status.NominatedNodeName != want {
			t.Errorf("%s: %+v, %v", name, p.(*corev1.Pod).Status, err)
		}
	}
}

// A node that can't be cleared any more is promised to nobody.
func TestANominationThatIsHopelessIsTakenBack(t *testing.T) {
	s, err := New(Config{Client: newFakeClient()})
	if err != nil {
		t.Fatal(err)
	}
	l := newLoop(s.cfg)
	l.state.SetNode(node("a", "1"))
	l.state.SetPod(framework.NewPod(pod("equal", "1", ranked(9))), "a")
	l.setPod(context.Background(), pod("high", "1", ranked(9), func(p *corev1.Pod) { p.Status.NominatedNodeName = "a" }))
	if !l.schedule(context.Background(), l.queue.pop()) {
		t.Fatal("ended")
	}
	select {
	case p := <-l.preemptions:
		if p.pod.Name != "high" || p.node != "" || len(p.victims) > 0 || len(l.nominated) > 0 {
			t.Errorf("%+v, nominated %v", p, l.nominated)
		}
	default:
		t.Error("the nomination stays")
	}
}

func TestOnlyWhatMayHelpWakesAParkedPod(t *testing.T) {
	byRoom := map[string]bool{"NodeAffinity": true, "NodeResourcesFit": true}
	byPods := map[string]bool{"InterPodAffinity": true}
	for _, tc := range []struct {
		name    string
		helps   func(map[string]bool) bool
		refused map[string]bool
		want    bool
	}{
		{"a pod comes, room is the reason", waitsForPods, byRoom, false},
		{"a pod comes, pods are the reason", waitsForPods, byPods, true},
	} {
		if got := tc.helps(tc.refused); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
	same := node("a", "1")
	beat := node("a", "1")
	beat.ResourceVersion = "2"
	beat.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, LastHeartbeatTime: metav1.Now()}}
	if nodeMayHelp(same, beat) {
		t.Error("a heartbeat wakes")
	}
	for name, changed := range map[string]*corev1.Node{"room": node("a", "2"), "labels": node("a", "1", zone("z")),
		"taints": node("a", "1", func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "k"}} })} {
		if !nodeMayHelp(same, changed) {
			t.Errorf("%s don't wake", name)
		}
	}
	if !nodeMayHelp(nil, same) || !nodeMayHelp(node("a", "1", func(n *corev1.Node) { n.Spec.Unschedulable = true }), same) {
		t.Error("a node that comes or is uncordoned doesn't wake")
	}
	q := newQueue()
	for name, refused := range map[string]map[string]bool{"nodes": {"NodeAffinity": true, "TaintToleration": true}, "pods": byPods} {
		q.set(framework.NewPod(pod(name, "1")), 0)
		p := q.pop()
		q.park(p, metav1.Unix(0, 0).Time, refused)
	}
	q.wake(waitsForPods)
	if q.pods[types.UID("nodes")].woken || !q.pods[types.UID("pods")].woken {
		t.Error("the wrong pod is woken")
	}
}

// A pod that is nominated takes room from the less important, but is no company for them yet.
func TestNominatedPodsTakeRoomAndAreNoCompany(t *testing.T) {
	client := newFakeClient()
	s, err := New(Config{Client: client})
	if err != nil {
		t.Fatal(err)
	}
	l := newLoop(s.cfg)
	l.state.SetNode(node("a", "4"))
	expected := framework.NewPod(pod("expected", "3", ranked(9), labelled("app", "db")))
	l.nominated[expected.UID] = nomination{pod: expected, node: "a"}
	near := func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{
			{TopologyKey: corev1.LabelHostname, LabelSelector: app("db")}}}}
	}
	for _, tc := range []struct {
		pod  *corev1.Pod
		want string
	}{
		{pod("small", "1"), "a"},
		{pod("large", "2"), "0/1 nodes are available: 1 Insufficient cpu. Nearest: short of 1 cpu on a."},
		{pod("more-important", "2", ranked(10)), "a"},
		{pod("near", "1", near), "0/1 nodes are available: 1 node(s) suit only beside pods that are nominated to them."},
	} {
		got, err := l.place(context.Background(), framework.NewPod(tc.pod))
		if err != nil {
			got.Node = err.Error()
		}
		if got := got.Node; got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.pod.Name, got, tc.want)
		}
	}
	if l.state.NodeOf(expected.UID) != "" {
		t.Error("the nominated pod stayed in the state")
	}
}
