package reconcile

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// PodReady reports the pod's Ready condition and since when it has held.
func PodReady(p *corev1.Pod) (ready bool, since time.Time) {
	for i := range p.Status.Conditions {
		if c := &p.Status.Conditions[i]; c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue, c.LastTransitionTime.Time
		}
	}
	return false, time.Time{}
}

// PodAvailable reports whether the pod has been ready for minReadySeconds; when it is ready but
// not for long enough, in tells how long until it is.
func PodAvailable(p *corev1.Pod, minReadySeconds int32, now time.Time) (available bool, in time.Duration) {
	ready, since := PodReady(p)
	if !ready {
		return false, 0
	}
	if minReadySeconds <= 0 {
		return true, 0
	}
	if left := time.Duration(minReadySeconds)*time.Second - now.Sub(since); left > 0 {
		return false, left
	}
	return true, 0
}

// PodTerminal reports whether the pod has ended for good.
func PodTerminal(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// PodActive reports whether the pod counts as a replica: neither ended nor being deleted.
func PodActive(p *corev1.Pod) bool { return !PodTerminal(p) && p.DeletionTimestamp == nil }
