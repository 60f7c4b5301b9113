package scheduler

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

func benchmarkDecide(b *testing.B, nodes int, change func(i int, p *corev1.Pod)) {
	d := NewDecider()
	for i := range nodes {
		d.SetNode(node(fmt.Sprintf("node-%05d", i), "64", zone(fmt.Sprint("z", i%3))))
	}
	ctx := context.Background()
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		p := pod(fmt.Sprint("p", i), "100m", labelled("app", "web"))
		if change != nil {
			change(i, p)
		}
		pod := framework.NewPod(p)
		to, err := d.Decide(ctx, pod)
		if err != nil {
			b.Fatal(err)
		}
		d.Assume(pod, to)
		if i%(nodes*20) == nodes*20-1 {
			b.StopTimer()
			for _, n := range d.State().Nodes() {
				for uid := range n.Pods {
					d.RemovePod(uid)
				}
			}
			b.StartTimer()
		}
	}
}

func BenchmarkDecideEqual(b *testing.B) { benchmarkDecide(b, 5000, nil) }
func BenchmarkDecideDifferent(b *testing.B) {
	benchmarkDecide(b, 5000, func(i int, p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = *resource.NewMilliQuantity(int64(100+i%100000), resource.DecimalSI)
	})
}
func BenchmarkDecideSpread(b *testing.B) {
	benchmarkDecide(b, 5000, func(i int, p *corev1.Pod) {
		p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: app("web")}}
	})
}
func BenchmarkDecideAnti(b *testing.B) {
	benchmarkDecide(b, 5000, func(i int, p *corev1.Pod) {
		p.Labels["app"] = fmt.Sprint("web", i%100)
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{
			{TopologyKey: corev1.LabelHostname, LabelSelector: app(p.Labels["app"])}}}}
	})
}
