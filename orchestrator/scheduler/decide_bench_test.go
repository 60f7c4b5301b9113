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
	var made []*corev1.Pod
	for i := range b.N {
		if i%1000 == 0 { // the objects themselves aren't what is measured
			b.StopTimer()
			made = made[:0]
			for j := range 1000 {
				p := pod(fmt.Sprint("p", i+j), "100m", labelled("app", "web"))
				if change != nil {
					change(i+j, p)
				}
				made = append(made, p)
			}
			if i%(nodes*20) == 0 {
				var all []*framework.Pod
				d.State().EachPod(func(p *framework.Pod) { all = append(all, p) })
				for _, p := range all {
					d.RemovePod(p.UID)
				}
			}
			b.StartTimer()
		}
		pod := framework.NewPod(made[i%1000])
		to, err := d.Decide(ctx, pod)
		if err != nil {
			b.Fatal(err)
		}
		d.Assume(pod, to)
	}
}

func BenchmarkDecideEqual(b *testing.B) { benchmarkDecide(b, 5000, nil) }
func BenchmarkDecideDifferent(b *testing.B) {
	benchmarkDecide(b, 5000, func(i int, p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = *resource.NewMilliQuantity(int64(100+i%1000), resource.DecimalSI)
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

// groups of 50 that keep apart by host and want to be in one zone
func BenchmarkDecideGroups(b *testing.B) {
	benchmarkDecide(b, 5000, func(i int, p *corev1.Pod) {
		group := fmt.Sprint("app-", i/50)
		p.Labels["app"] = group
		p.Spec.Affinity = &corev1.Affinity{
			PodAffinity:     &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: corev1.LabelTopologyZone, LabelSelector: app(group)}}},
			PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: corev1.LabelHostname, LabelSelector: app(group)}}},
		}
	})
}
