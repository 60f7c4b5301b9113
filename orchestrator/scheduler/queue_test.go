package scheduler

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

func TestTheQueueGoesByPriorityThenAge(t *testing.T) {
	q := newQueue()
	made := func(at int64) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.CreationTimestamp = metav1.Unix(at, 0) }
	}
	for _, p := range []*corev1.Pod{pod("young", "1", made(2)), pod("old", "1", made(1)), pod("low", "1", ranked(-1), made(0)), pod("high", "1", ranked(5), made(9))} {
		q.set(framework.NewPod(p), 0)
	}
	for _, want := range []string{"high", "old", "young", "low"} {
		if got := q.pop().pod.Name; got != want {
			t.Errorf("%s comes before %s", got, want)
		}
	}
}

func TestBackOffDoublesAndAParkedPodWaitsForHelp(t *testing.T) {
	q, now := newQueue(), time.Unix(0, 0)
	q.set(framework.NewPod(pod("p", "1")), 0)
	for _, wait := range []time.Duration{1, 2, 4, 8, 10, 10} {
		wait *= time.Second
		p := q.pop()
		if p == nil {
			t.Fatal("the pod isn't active")
		}
		q.park(p, now, map[string]bool{"NodeResourcesFit": true})
		if next := q.activate(now); next != longestPark || q.pop() != nil {
			t.Errorf("without help it waits %v", next)
		}
		q.wake(nil)
		if next := q.activate(now); next != wait || q.pop() != nil {
			t.Errorf("with help it waits %v, want %v", next, wait)
		}
		now = now.Add(wait)
		q.activate(now)
	}
	p := q.pop()
	q.park(p, now, nil)
	if q.activate(now.Add(longestPark)); q.pop() != p {
		t.Error("nobody helped, and it isn't tried again")
	}
	q.remove(p.pod.UID)
	if q.park(p, now, nil); len(q.waits) != 0 {
		t.Error("a pod that is gone waits")
	}
}
