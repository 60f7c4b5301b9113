package consolidation

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/gpu/topology"
	"github.com/pintle/pintle/orchestrator/scheduler"
	"github.com/pintle/pintle/orchestrator/scheduler/framework"
	"github.com/pintle/pintle/orchestrator/scheduler/plugins"
)

// What is planned comes about: the scheduler puts the pod that is made anew beside others, and the one that waits on the GPU that is free.
func TestTheSchedulerDoesWhatIsPlanned(t *testing.T) {
	ctx := context.Background()
	d := scheduler.NewDecider(scheduler.Profile{Plugins: append([]framework.Plugin{plugins.NewGPU(plugins.GPUOptions{})}, plugins.Default()...)})
	// The GPUs' drivers limit memory: a part that nothing keeps to its part is refused otherwise.
	limits := func(n *corev1.Node) {
		told, err := topology.ParseNodeGPUs(n.Annotations[topology.NodeAnnotation])
		if err != nil {
			t.Fatal(err)
		}
		for i := range told.GPUs {
			told.GPUs[i].MemoryLimits = true
		}
		n.Annotations[topology.NodeAnnotation] = told.Format()
		n.Status.Allocatable["pods"] = n.Status.Allocatable["cpu"]
	}
	nodes := []*corev1.Node{node("a", 2, limits), node("b", 2, limits), node("c", 2, limits)}
	for _, n := range nodes {
		d.SetNode(n)
	}
	pods := []*corev1.Pod{part("a0", "a", 0, 300), part("a1", "a", 1, 600), part("b0", "b", 0, 500), part("b1", "b", 1, 400), part("c0", "c", 0, 700), part("c1", "c", 1, 800)}
	for _, p := range pods {
		d.SetPod(p)
	}
	w := waiting("w", 2)
	if to, err := d.Decide(ctx, framework.NewPod(w)); err == nil {
		t.Fatalf("it needs no move: %+v", to)
	}
	p := decide(input{nodes: nodes, pods: append(pods, w), resting: func(types.UID) bool { return false }, now: start(), most: 5})
	if len(p.moves) == 0 {
		t.Fatal(p.why)
	}
	for _, m := range p.moves {
		d.RemovePod(m.pod.UID)
		again := m.pod.DeepCopy()
		again.UID, again.Spec.NodeName = "again-"+m.pod.UID, ""
		delete(again.Annotations, topology.PodAnnotation)
		pod := framework.NewPod(again)
		to, err := d.Decide(ctx, pod)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: from %s to %s %s", m.pod.Name, m.from, to.Node, to.Annotations[topology.PodAnnotation])
		d.Assume(pod, to)
	}
	if to, err := d.Decide(ctx, framework.NewPod(w)); err != nil || to.Node != p.node {
		t.Errorf("%+v, %v: planned on %s", to, err, p.node)
	}
}
