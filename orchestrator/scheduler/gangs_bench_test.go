package scheduler

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
	whole "github.com/pintle/pintle/orchestrator/scheduler/gang"
)

// gpuCluster has 5,000 nodes of 8 GPUs in racks of 40; every eighth is taken.
func gpuCluster(b *testing.B) *loop {
	s, err := New(Config{Client: newQuiet()})
	if err != nil {
		b.Fatal(err)
	}
	l := newLoop(s.cfg)
	for i := range 5000 {
		l.state.SetNode(node(fmt.Sprintf("n%04d", i), "64", func(n *corev1.Node) {
			n.Labels["rack"] = fmt.Sprint("r", i/40)
			n.Status.Allocatable["nvidia.com/gpu"] = resource.MustParse("8")
		}))
		l.state.SetPod(framework.NewPod(gpuPod(fmt.Sprint("taken", i), 1)), fmt.Sprintf("n%04d", i))
	}
	return l
}

func gpuPod(name string, gpus int64) *corev1.Pod {
	p := pod(name, "1")
	p.UID = types.UID(name)
	p.Spec.Containers[0].Resources.Requests["nvidia.com/gpu"] = *resource.NewQuantity(gpus, resource.DecimalSI)
	return p
}

// A gang of 64 pods of one GPU, in one rack of 125: decided and taken back.
func BenchmarkGangOf64On5000Nodes(b *testing.B) {
	for _, key := range []string{"", "rack"} {
		b.Run("topology="+key, func(b *testing.B) {
			l := gpuCluster(b)
			n := 0
			for b.Loop() {
				g := &whole.Gang{Name: "train", Min: 64, Key: key}
				for i := range 64 {
					g.Pending = append(g.Pending, framework.NewPod(gpuPod(fmt.Sprintf("g%d-%d", n, i), 1)))
				}
				n++
				t := l.newTrial(context.Background(), "gang train", "default", 0, time.Time{})
				if p, err := whole.Place(t, g); err != nil || len(p.Placed) != 64 {
					b.Fatal(err)
				}
				t.undo()
			}
		})
	}
}

// A gang of 64 pods of 8 GPUs each, for which 64 of 5,000 less important pods must end.
func BenchmarkGangOf64PreemptsOn5000Nodes(b *testing.B) {
	l := gpuCluster(b)
	for b.Loop() {
		g := &whole.Gang{Name: "train", Min: 64}
		for i := range 64 {
			p := gpuPod(fmt.Sprint("g", i), 8)
			p.Spec.Priority = new(int32)
			*p.Spec.Priority = 10
			g.Pending = append(g.Pending, framework.NewPod(p))
		}
		t := l.newTrial(context.Background(), "gang train", "default", 10, time.Time{})
		p, victims := whole.Preempt(t, g, l.units(10, t.want(g.Pending), ""))
		if p == nil || len(victims) != 64 {
			b.Fatalf("%d victims", len(victims))
		}
	}
}
