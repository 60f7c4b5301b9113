package replicaset

import (
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// burst bounds how many pods one step creates or deletes.
const burst = 500

type plan struct {
	create int
	remove []*corev1.Pod
	status appsv1.ReplicaSetStatus
	again  time.Duration // when the next pod becomes available by waiting alone
}

// decide plans from the pods that rs controls; related are the pods of all sets of the same owner
// (pods: a nil related means rs's own).
func decide(rs *appsv1.ReplicaSet, pods, related []*corev1.Pod, now time.Time) plan {
	var p plan
	var live []*corev1.Pod
	want := 1
	if rs.Spec.Replicas != nil {
		want = int(*rs.Spec.Replicas)
	}
	sel := labels.SelectorFromSet(rs.Spec.Template.Labels)
	p.status = *rs.Status.DeepCopy()
	p.status.FullyLabeledReplicas, p.status.ReadyReplicas, p.status.AvailableReplicas = 0, 0, 0
	ending := int32(0)
	for _, pod := range pods {
		if pod.DeletionTimestamp != nil && !reconcile.PodTerminal(pod) {
			ending++
		}
		if !reconcile.PodActive(pod) {
			continue
		}
		live = append(live, pod)
		if sel.Matches(labels.Set(pod.Labels)) {
			p.status.FullyLabeledReplicas++
		}
		if ready, _ := reconcile.PodReady(pod); ready {
			p.status.ReadyReplicas++
			ok, in := reconcile.PodAvailable(pod, rs.Spec.MinReadySeconds, now)
			if ok {
				p.status.AvailableReplicas++
			} else if in > 0 && (p.again == 0 || in < p.again) {
				p.again = in
			}
		}
	}
	p.status.Replicas, p.status.TerminatingReplicas = int32(len(live)), &ending
	p.status.ObservedGeneration = rs.Generation
	if rs.DeletionTimestamp != nil {
		return p
	}
	switch diff := len(live) - want; {
	case diff < 0:
		p.create = min(-diff, burst)
	case diff > 0:
		if related == nil {
			related = live
		}
		rank(live, related, now)
		p.remove = live[:min(diff, burst)]
	}
	return p
}

// rank sorts pods: first whom to delete first, as Kubernetes documents it.
func rank(pods, related []*corev1.Pod, now time.Time) {
	onNode := map[string]int{}
	for _, p := range related {
		if reconcile.PodActive(p) {
			onNode[p.Spec.NodeName]++
		}
	}
	phase := map[corev1.PodPhase]int{"": 0, corev1.PodPending: 0, corev1.PodUnknown: 1, corev1.PodRunning: 2}
	slices.SortStableFunc(pods, func(a, b *corev1.Pod) int {
		if c := boolCmp(a.Spec.NodeName != "", b.Spec.NodeName != ""); c != 0 {
			return c
		}
		if c := phase[a.Status.Phase] - phase[b.Status.Phase]; c != 0 {
			return c
		}
		ra, sa := reconcile.PodReady(a)
		rb, sb := reconcile.PodReady(b)
		if c := boolCmp(ra, rb); c != 0 {
			return c
		}
		if c := deletionCost(a) - deletionCost(b); c != 0 {
			return c
		}
		if c := onNode[b.Spec.NodeName] - onNode[a.Spec.NodeName]; c != 0 {
			return c
		}
		if ra && !sa.Equal(sb) {
			if c := bucket(now.Sub(sa)) - bucket(now.Sub(sb)); c != 0 {
				return c
			}
		}
		if c := restarts(b) - restarts(a); c != 0 {
			return c
		}
		if c := bucket(now.Sub(a.CreationTimestamp.Time)) - bucket(now.Sub(b.CreationTimestamp.Time)); c != 0 {
			return c
		}
		if a.UID < b.UID {
			return -1
		} else if a.UID > b.UID {
			return 1
		}
		return 0
	})
}

// bucket makes ages of the same order of magnitude equal, so that the choice among pods that have
// run long isn't always the youngest (as Kubernetes' LogarithmicScaleDown).
func bucket(d time.Duration) int {
	n := 0
	for d = max(d, 0) / time.Second; d > 0; d >>= 1 {
		n++
	}
	return n
}

func boolCmp(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func deletionCost(p *corev1.Pod) int {
	n, _ := strconv.ParseInt(p.Annotations[corev1.PodDeletionCost], 10, 32)
	return int(n)
}

func restarts(p *corev1.Pod) int {
	n := 0
	for _, c := range p.Status.ContainerStatuses {
		n = max(n, int(c.RestartCount))
	}
	return n
}
