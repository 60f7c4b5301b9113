package scheduler

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

func TestADecisionIsExplainedPluginByPlugin(t *testing.T) {
	client := newFakeClient()
	tainted := func(n *corev1.Node) {
		n.Spec.Taints = []corev1.Taint{{Key: "gpu", Value: "yes", Effect: corev1.TaintEffectNoSchedule}}
	}
	for _, n := range []*corev1.Node{node("a", "4"), node("b", "1", tainted), node("c", "8")} {
		client.put("nodes", n, watch.Added)
	}
	client.put("pods", pod("p", "2"), watch.Added)
	cfg := Config{Client: client}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	<-client.bound
	ex, err := s.Explain(ctx, "default", "p") // it is on c by now, and is looked at as if it weren't
	if err != nil {
		t.Fatal(err)
	}
	if ex.Node != "c" || len(ex.Nodes) != 3 {
		t.Fatalf("%+v", ex)
	}
	b := ex.Nodes[1]
	if len(b.Refusals) != 2 || b.Refusals[0].Plugin != "TaintToleration" || b.Refusals[1].Plugin != "NodeResourcesFit" || b.Refusals[1].Reasons[0] != "Insufficient cpu" {
		t.Errorf("%+v", b)
	}
	if a, c := ex.Nodes[0], ex.Nodes[2]; c.Total <= a.Total || len(c.Scores) < 2 || c.Scores[0].Weight == 0 {
		t.Errorf("%+v, %+v", a, c)
	}
	if _, err := json.Marshal(ex); err != nil {
		t.Error(err)
	}
	if _, err := s.Explain(ctx, "default", "nobody"); err == nil {
		t.Error("a pod that isn't there is explained")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := s.Explain(ctx, "default", "p"); err == nil {
		t.Error("a scheduler that has ended explains")
	}
}

func TestTheNearestMissIsNamed(t *testing.T) {
	gpus := func(n string) func(*corev1.Node) {
		return func(o *corev1.Node) { o.Status.Allocatable["example.com/gpu"] = resource.MustParse(n) }
	}
	wants := func(n string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests["example.com/gpu"] = resource.MustParse(n)
		}
	}
	cordoned := func(n *corev1.Node) { n.Spec.Unschedulable = true }
	d := NewDecider()
	for _, n := range []*corev1.Node{node("node-1", "8", gpus("2")), node("node-7", "8", gpus("7")), node("node-8", "8", gpus("8"), cordoned), node("node-9", "1", gpus("7"))} {
		d.SetNode(n)
	}
	_, err := d.Decide(t.Context(), framework.NewPod(pod("p", "2", wants("8"))))
	if err == nil || !strings.Contains(err.Error(), "Nearest: short of 1 example.com/gpu on node-7.") {
		t.Error(err)
	}
	_, err = d.Decide(t.Context(), framework.NewPod(pod("p", "2", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "ssd"} })))
	if err == nil || strings.Contains(err.Error(), "Nearest") {
		t.Errorf("no node misses by an amount: %v", err)
	}
}
