package scheduler

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pintle/pintle/orchestrator/api"
)

// Who asks why a pod waits is told of its group and its queue, too.
func TestGroupsAndQueuesAreExplained(t *testing.T) {
	q := newQuiet(node("a", "2"), node("b", "2"))
	q.put("podgroups", group1("large", 5), watch.Added)
	q.put("podgroups", group1("early", 3), watch.Added)
	q.put("podgroups", group1("fits", 2), watch.Added)
	for group, names := range map[string][]string{"large": {"l0", "l1", "l2", "l3", "l4"}, "early": {"e0", "e1"}, "nowhere": {"n0"}} {
		for _, name := range names {
			q.put("pods", member(group, name), watch.Added)
		}
	}
	q.put("namespaces", &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}}, watch.Added)
	q.put("queues", &api.Queue{ObjectMeta: metav1.ObjectMeta{Name: "team"}, Spec: api.QueueSpec{NominalQuota: corev1.ResourceList{"cpu": resource.MustParse("1")}}}, watch.Added)
	big := pod("big", "2")
	big.Namespace = "team"
	q.put("pods", big, watch.Added)

	s, err := New(Config{Client: q})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	<-s.Ready()
	for _, tc := range []struct {
		namespace, pod string
		want           GroupExplanation
		waits          string // of the group
		queue          string
	}{
		{"default", "l0", GroupExplanation{Name: "large", Members: 5, Min: 5}, "gang large: 4/5 members can be placed: 0/2 nodes are available: 2 Insufficient cpu.", ""},
		{"default", "e0", GroupExplanation{Name: "early", Members: 2, Min: 3}, "gang early: 2 of 3 pods have come", ""},
		{"default", "n0", GroupExplanation{Name: "nowhere"}, "there is no PodGroup of that name", ""},
		{"team", "big", GroupExplanation{}, "", "2 cpu wanted, it can have 1 at most"},
	} {
		ex, err := s.Explain(ctx, tc.namespace, tc.pod)
		if err != nil {
			t.Fatal(err)
		}
		if g := ex.Group; tc.want.Name == "" {
			if g != nil {
				t.Errorf("%s: %+v", tc.pod, g)
			}
		} else if g == nil || g.Name != tc.want.Name || g.Members != tc.want.Members || g.Min != tc.want.Min || g.OnNodes != 0 || !strings.Contains(g.Waits, tc.waits) || len(g.Placement) > 0 {
			t.Errorf("%s: %+v", tc.pod, g)
		}
		switch {
		case tc.queue == "":
			if ex.Queue != nil {
				t.Errorf("%s: %+v", tc.pod, ex.Queue)
			}
		case ex.Queue == nil || ex.Queue.Name != "team" || !ex.Queue.Never || !strings.Contains(ex.Queue.Waits, tc.queue):
			t.Errorf("%s: %+v", tc.pod, ex.Queue)
		}
		if len(ex.Nodes) != 2 {
			t.Errorf("%s: %d nodes", tc.pod, len(ex.Nodes))
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A group that would get its nodes now is shown with them, and nothing of it stays behind.
func TestAGroupIsExplainedWithItsNodes(t *testing.T) {
	l := quietLoop(t)
	ctx := context.Background()
	l.state.SetNode(node("a", "2"))
	l.gangs.group("default/g").object = group1("g", 2)
	for _, name := range []string{"m0", "m1"} {
		p := member("g", name)
		l.applyTogether(p)
		l.setPod(ctx, p)
	}
	r := explainRequest{pod: l.queue.pods["m0"].pod.Pod, answer: make(chan *Explanation, 1)}
	l.explain(ctx, r)
	ex := <-r.answer
	if g := ex.Group; g == nil || g.Waits != "" || g.Members != 2 || g.Placement["m0"] != "a" || g.Placement["m1"] != "a" {
		t.Errorf("%+v", g)
	}
	if l.state.NodeOf("m0")+l.state.NodeOf("m1") != "" {
		t.Error("explaining left pods on nodes")
	}
}
