package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/scheduler"
	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

// decide measures decisions one after the other, each recorded before the next: per second, with what the scheduler derives
// from a pod when it comes, and the 50th and 99th percentile of one in microseconds.
func decide(ctx context.Context, nodes int, shape string, r results) (err error) {
	d := scheduler.NewDecider()
	for i := range nodes {
		d.SetNode(makeNode(i))
	}
	change, limit := shapes(shape)
	one, all := decideOne, false
	wasm, isPolicy := strings.CutPrefix(shape, "wasm:")
	switch {
	case change != nil:
		all = strings.HasPrefix(shape, "services-")
	case shape == "preemption":
		fill(d, nodes)
		change, limit, one = urgent, 10_000, preemptOne
	case shape == "native" || isPolicy:
		if !isPolicy {
			wasm = ""
		}
		change, limit = func(int, *corev1.Pod) {}, 30_000
		policy, stop, err := newPolicy(ctx, wasm)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
		d.SetPolicy(policy)
	default:
		return fmt.Errorf("%s: no such shape", shape)
	}
	pods := min(limit, nodes*100)
	const batch = 1000
	var took []time.Duration
	var sum time.Duration
	for begin := time.Now(); len(took) < pods && (all || len(took) < batch || time.Since(begin) < 3*time.Second); {
		made := make([]*corev1.Pod, min(batch, pods-len(took)))
		for i := range made {
			made[i] = makePod(len(took) + i)
			change(len(took)+i, made[i])
		}
		for _, p := range made {
			start := time.Now()
			if err := one(ctx, d, p); err != nil {
				return err
			}
			took = append(took, time.Since(start))
			sum += took[len(took)-1]
		}
	}
	r["rate"], r["seconds"] = float64(len(took))/sum.Seconds(), sum.Seconds()
	slices.Sort(took)
	for name, q := range map[string]float64{"p50": 0.5, "p99": 0.99} {
		r[name] = float64(took[int(q*float64(len(took)-1))].Nanoseconds()) / 1000
	}
	return nil
}

func decideOne(ctx context.Context, d *scheduler.Decider, p *corev1.Pod) error {
	pod := framework.NewPod(p)
	to, err := d.Decide(ctx, pod)
	if err != nil {
		return err
	}
	d.Assume(pod, to)
	return nil
}

// fill gives every node 60 unimportant pods of a core each: 4 cores stay free.
func fill(d *scheduler.Decider, nodes int) {
	for i := range nodes * 60 {
		p := makePod(i)
		p.Name, p.UID = "low-"+p.Name, "low-"+p.UID
		p.Spec.Priority = new(int32)
		p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("1")
		p.Spec.NodeName = fmt.Sprintf("node-%05d", i%nodes)
		d.SetPod(p)
	}
}

// urgent is a pod of 8 cores, for which 4 of the unimportant must go.
func urgent(_ int, p *corev1.Pod) {
	priority := int32(1000)
	p.Spec.Priority = &priority
	p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("8")
}

// preemptOne is the whole way of a pod that fits nowhere: refused, a node chosen and cleared, decided on.
func preemptOne(ctx context.Context, d *scheduler.Decider, p *corev1.Pod) error {
	pod := framework.NewPod(p)
	if _, err := d.Decide(ctx, pod); err == nil {
		return errors.New("there is room without preemption")
	}
	chosen, why, err := d.Preempt(ctx, pod, nil)
	if err != nil {
		return err
	}
	if chosen == nil {
		return errors.New(why)
	}
	for _, v := range chosen.Victims {
		d.RemovePod(v.UID)
	}
	return decideOne(ctx, d, p)
}

// shapes changes the i-th small pod, and says how many there are at most.
func shapes(name string) (change func(i int, p *corev1.Pod), limit int) {
	selector := func(value string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{"app": value}}
	}
	switch name {
	case "equal":
		return func(int, *corev1.Pod) {}, 300_000
	case "different":
		return func(i int, p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = *resource.NewMilliQuantity(int64(100+i%400), resource.DecimalSI)
			p.Spec.Containers[0].Resources.Requests[corev1.ResourceMemory] = *resource.NewQuantity(int64(128<<20+i), resource.BinarySI)
		}, 100_000
	case "affinity": // groups of 50 that keep apart by host and want to be in one zone
		return func(i int, p *corev1.Pod) {
			app := fmt.Sprint("app-", i/50)
			p.Labels["app"] = app
			p.Spec.Affinity = &corev1.Affinity{
				PodAffinity:     &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: corev1.LabelTopologyZone, LabelSelector: selector(app)}}},
				PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: corev1.LabelHostname, LabelSelector: selector(app)}}},
			}
		}, 30_000
	case "spread":
		return func(i int, p *corev1.Pod) {
			app := fmt.Sprint("app-", i/1000)
			p.Labels["app"] = app
			p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{
				{MaxSkew: 1, TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: selector(app)},
				{MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway, LabelSelector: selector(app)}}
		}, 30_000
	}
	if tasks, ok := strings.CutPrefix(name, "services-"); ok { // one service of that many equal tasks
		if n, err := strconv.Atoi(tasks); err == nil {
			return func(int, *corev1.Pod) {}, n
		}
	}
	return nil, 0
}

// memory is what the decider holds for each node, and for each pod, beside the objects themselves.
func memory(ctx context.Context, nodes, pods int, r results) error {
	heap := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	objects := make([]*corev1.Node, nodes)
	for i := range objects {
		objects[i] = makeNode(i)
	}
	podObjects := make([]*corev1.Pod, pods)
	for i := range podObjects {
		podObjects[i] = makePod(i)
	}
	before := heap()
	d := scheduler.NewDecider()
	for _, n := range objects {
		d.SetNode(n)
	}
	for i := range 3 { // the second of a shape has the view made
		p := makePod(pods + i)
		if _, err := d.Decide(ctx, framework.NewPod(p)); err != nil {
			return err
		}
	}
	withNodes := heap()
	for _, p := range podObjects {
		pod := framework.NewPod(p)
		to, err := d.Decide(ctx, pod)
		if err != nil {
			return err
		}
		d.Assume(pod, to)
	}
	r["node"], r["pod"] = (withNodes-before)/float64(nodes), (heap()-withNodes)/float64(pods)
	runtime.KeepAlive(objects)
	runtime.KeepAlive(podObjects)
	if d.State().Len() != nodes {
		return errors.New("nodes are missing")
	}
	return nil
}
