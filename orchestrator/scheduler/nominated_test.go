package scheduler

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/gpu/topology"
	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

func shareOf(milli string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{topology.ShareResource: resource.MustParse(milli)}
		p.Spec.Containers[0].Resources.Requests[topology.ShareResource] = resource.MustParse(milli)
	}
}

func granted(grants ...topology.Grant) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Annotations = map[string]string{topology.PodAnnotation: topology.FormatGrants(grants)}
	}
}

func quietLoop(t *testing.T, change ...func(*Config)) *loop {
	t.Helper()
	cfg := Config{Client: newFakeClient()}
	for _, f := range change {
		f(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return newLoop(s.cfg)
}

func (l *loop) placedOn(t *testing.T, p *corev1.Pod) (node, grants string) {
	t.Helper()
	to, err := l.place(context.Background(), framework.NewPod(p))
	if err != nil {
		return err.Error(), ""
	}
	return to.Node, to.Annotations[topology.PodAnnotation]
}

// A pod for which part of a GPU is being cleared keeps what is free of that GPU, too, until its victim has ended; without
// that somebody less important takes it, and the next victim is needed.
func TestANominatedPodHoldsThePartsOfTheGPUThatItWaitsFor(t *testing.T) {
	ending := metav1.Now()
	for _, tc := range []struct {
		name    string
		change  func(*corev1.Pod) // of the victim
		leaving bool              // it's known as a victim
	}{
		{"the victim is ending", func(p *corev1.Pod) { p.DeletionTimestamp = &ending }, false},
		{"the victim is about to be ended", func(*corev1.Pod) {}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := quietLoop(t, withGPUs)
			n := node("a", "8")
			told := topology.NodeGPUs{Mode: "fractional", GPUs: []topology.NodeGPU{
				{UUID: "GPU-0", Memory: 16 << 30, MemoryLimits: true}, {UUID: "GPU-1", Memory: 16 << 30, MemoryLimits: true}}}
			n.Annotations = map[string]string{topology.NodeAnnotation: told.Format()}
			l.state.SetNode(n)
			victim := pod("victim", "1", shareOf("600"), granted(topology.Grant{Container: "main", GPU: "GPU-0", Share: 600}), tc.change)
			victim.Spec.NodeName = "a"
			other := pod("other", "1", ranked(9), shareOf("500"), granted(topology.Grant{Container: "main", GPU: "GPU-1", Share: 500}))
			other.Spec.NodeName = "a"
			for _, p := range []*corev1.Pod{victim, other} {
				l.state.SetPod(framework.NewPod(p), "a")
			}
			high := framework.NewPod(pod("high", "1", ranked(9), shareOf("800")))
			l.nominated[high.UID] = nomination{pod: high, node: "a"}
			if tc.leaving {
				l.nominated[high.UID] = nomination{pod: high, node: "a", leaving: map[types.UID]bool{victim.UID: true}}
			}
			// 400 thousandths of GPU-0 are free, 500 of GPU-1: the former are high's.
			if got, grants := l.placedOn(t, pod("fits", "1", shareOf("450"))); got != "a" || !strings.Contains(grants, "GPU-1") {
				t.Errorf("450: %q %q", got, grants)
			}
			if got, grants := l.placedOn(t, pod("small", "1", shareOf("300"))); got != "a" || !strings.Contains(grants, "GPU-1") {
				t.Errorf("300: %q %q: what is free of GPU-0 is high's", got, grants)
			}
			if got, grants := l.placedOn(t, pod("above", "1", ranked(10), shareOf("400"))); got != "a" || !strings.Contains(grants, "GPU-0") {
				t.Errorf("the more important: %q %q", got, grants)
			}
			if l.state.NodeOf(high.UID) != "" || l.state.NodeOf(victim.UID) != "a" {
				t.Error("looking left a trace")
			}
			l.state.RemovePod(victim.UID)
			if got, grants := l.placedOn(t, high.Pod); got != "a" || !strings.Contains(grants, "GPU-0") {
				t.Errorf("in the end: %q %q", got, grants)
			}
		})
	}
}

// So with the devices of its claims.
func TestANominatedPodHoldsTheDevicesOfItsClaims(t *testing.T) {
	client := newFakeClient()
	gpuClass(t, client)
	gpuNode(t, client, "a")
	l := quietLoop(t, withGPUs)
	for _, objects := range []string{"deviceclasses", "resourceslices"} {
		for _, o := range client.objects[objects] {
			l.setClaims(o)
		}
	}
	for _, o := range client.objects["nodes"] {
		l.state.SetNode(o.(*corev1.Node))
	}
	for _, c := range []*resourcev1.ResourceClaim{claimObject(t, "two", "allocationMode: ExactCount, count: 2"), claimObject(t, "one", "allocationMode: ExactCount, count: 1")} {
		l.setClaims(c)
	}
	high := framework.NewPod(pod("high", "8", ranked(9), claiming("two")))
	l.nominated[high.UID] = nomination{pod: high, node: "a"}
	want := "0/1 nodes are available: 1 cannot allocate all claims."
	if got, _ := l.placedOn(t, pod("low", "0", claiming("one"))); !strings.HasPrefix(got, want) {
		t.Errorf("by claim: %q", got)
	}
	if got, _ := l.placedOn(t, pod("whole", "0", wholeGPUs("1"))); !strings.HasPrefix(got, "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.") {
		t.Errorf("by resource: %q", got)
	}
	delete(l.nominated, high.UID)
	if got, _ := l.placedOn(t, pod("low", "0", claiming("one"))); got != "a" {
		t.Errorf("when nobody is expected: %q", got)
	}
}
