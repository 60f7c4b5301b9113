package replicaset

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

func now() time.Time { return time.Unix(1_700_000_000, 0) }

// aPod is a pod that has run and been ready on a node for an hour.
func aPod(name string, edit ...func(*corev1.Pod)) *corev1.Pod {
	hour := metav1.NewTime(now().Add(-time.Hour))
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), CreationTimestamp: hour}, Spec: corev1.PodSpec{NodeName: "node-" + name},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: hour}}}}
	for _, f := range edit {
		f(p)
	}
	return p
}

func on(node string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = node } }
func in(phase corev1.PodPhase) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.Phase = phase }
}
func notReady(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }
func readyFor(d time.Duration) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.Conditions[0].LastTransitionTime = metav1.NewTime(now().Add(-d)) }
}
func aged(d time.Duration) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.CreationTimestamp = metav1.NewTime(now().Add(-d)) }
}
func cost(c string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.PodDeletionCost: c} }
}
func restarted(n int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: n}} }
}
func ending(p *corev1.Pod) { p.DeletionTimestamp = ptr.To(metav1.NewTime(now())) }

// Each pair differs in one criterion (and in a later one, the other way round): the first goes.
func TestScaleDownTakesPodsInKubernetesOrder(t *testing.T) {
	for name, c := range map[string][2]*corev1.Pod{
		"unassigned before assigned":         {aPod("b", on("")), aPod("a", in(corev1.PodPending))},
		"pending before unknown":             {aPod("b", in(corev1.PodPending)), aPod("a", in(corev1.PodUnknown))},
		"unknown before running":             {aPod("b", in(corev1.PodUnknown)), aPod("a", notReady)},
		"not ready before ready":             {aPod("b", notReady, cost("100")), aPod("a")},
		"lower cost before higher":           {aPod("b", cost("-5")), aPod("a", restarted(9))},
		"no cost is 0":                       {aPod("b"), aPod("a", cost("1"))},
		"just ready before long ready":       {aPod("b", readyFor(time.Second)), aPod("a", restarted(9))},
		"more restarts before fewer":         {aPod("b", restarted(3)), aPod("a", restarted(1))},
		"younger before older":               {aPod("b", aged(time.Minute)), aPod("a")},
		"of the same magnitude of age, UID":  {aPod("a", aged(61*time.Minute)), aPod("b", aged(60*time.Minute))},
		"readiness of one magnitude is same": {aPod("b", readyFor(61*time.Minute), restarted(1)), aPod("a", readyFor(60*time.Minute))},
	} {
		t.Run(name, func(t *testing.T) {
			pods := []*corev1.Pod{c[0], c[1]}
			for range 2 { // whatever the order that they come in
				rs := &appsv1.ReplicaSet{Spec: appsv1.ReplicaSetSpec{Replicas: ptr.To[int32](1)}}
				p := decide(rs, pods, nil, now())
				if len(p.remove) != 1 || p.remove[0] != c[0] {
					t.Errorf("removes %v", p.remove[0].Name)
				}
				pods = []*corev1.Pod{c[1], c[0]}
			}
		})
	}
	t.Run("the node with most pods of the owner's sets first", func(t *testing.T) {
		a, b := aPod("a", on("n1")), aPod("b", on("n2"))
		p := decide(&appsv1.ReplicaSet{Spec: appsv1.ReplicaSetSpec{Replicas: ptr.To[int32](1)}}, []*corev1.Pod{a, b}, []*corev1.Pod{a, b, aPod("other", on("n2"))}, now())
		if len(p.remove) != 1 || p.remove[0] != b {
			t.Errorf("removes %v", p.remove)
		}
	})
}

func TestPodsThatAreEndingAreCountedApart(t *testing.T) {
	rs := &appsv1.ReplicaSet{Spec: appsv1.ReplicaSetSpec{Replicas: ptr.To[int32](2)}}
	p := decide(rs, []*corev1.Pod{aPod("a"), aPod("b"), aPod("c", ending), aPod("d", ending, in(corev1.PodFailed))}, nil, time.Now())
	if s := p.status; s.Replicas != 2 || s.TerminatingReplicas == nil || *s.TerminatingReplicas != 1 {
		t.Errorf("%+v", s)
	}
}

func TestDecideCountsPods(t *testing.T) {
	deleted := &metav1.Time{Time: now()}
	for name, c := range map[string]struct {
		rs     func(*appsv1.ReplicaSet)
		pods   []*corev1.Pod
		create int
		remove string
		ready  int32
		avail  int32
		again  time.Duration
	}{
		"all missing":                    {create: 3},
		"ended and ending pods count no": {pods: []*corev1.Pod{aPod("a"), aPod("b", in(corev1.PodFailed)), aPod("c", ending)}, create: 2, ready: 1, avail: 1},
		"as wanted":                      {pods: []*corev1.Pod{aPod("a"), aPod("b", notReady), aPod("c")}, ready: 2, avail: 2},
		"too many":                       {pods: []*corev1.Pod{aPod("a"), aPod("b", notReady), aPod("c"), aPod("d")}, remove: "b", ready: 3, avail: 3},
		"deleted sets make nothing":      {rs: func(r *appsv1.ReplicaSet) { r.DeletionTimestamp = deleted }, pods: []*corev1.Pod{aPod("a")}, ready: 1, avail: 1},
		"no size means one":              {rs: func(r *appsv1.ReplicaSet) { r.Spec.Replicas = nil }, create: 1},
		"minReadySeconds": {rs: func(r *appsv1.ReplicaSet) { r.Spec.MinReadySeconds = 30 },
			pods: []*corev1.Pod{aPod("a"), aPod("b", readyFor(10*time.Second)), aPod("c", readyFor(25*time.Second))}, ready: 3, avail: 1, again: 5 * time.Second},
		"bursts are bounded": {rs: func(r *appsv1.ReplicaSet) { r.Spec.Replicas = ptr.To[int32](5000) }, create: burst},
	} {
		t.Run(name, func(t *testing.T) {
			rs := &appsv1.ReplicaSet{Spec: appsv1.ReplicaSetSpec{Replicas: ptr.To[int32](3)}}
			if c.rs != nil {
				c.rs(rs)
			}
			p := decide(rs, c.pods, nil, now())
			var removed []string
			for _, x := range p.remove {
				removed = append(removed, x.Name)
			}
			if p.create != c.create || strings.Join(removed, " ") != c.remove || p.status.ReadyReplicas != c.ready || p.status.AvailableReplicas != c.avail || p.again != c.again {
				t.Errorf("create %d, remove %v, status %+v, again %v", p.create, removed, p.status, p.again)
			}
		})
	}
}
