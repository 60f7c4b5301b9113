package job

import (
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// Failed pods are replaced after 10 s, 20 s, 40 s, …; a pod that succeeds begins anew.
const (
	firstDelay = 10 * time.Second
	mostDelay  = 10 * time.Minute
)

func delay(failures int) time.Duration {
	switch {
	case failures <= 0:
		return 0
	case failures > 7:
		return mostDelay
	}
	return min(firstDelay<<(failures-1), mostDelay)
}

// wait is how long no pod may be created, because pods have failed since the last one that succeeded.
func (d *decision) wait() time.Duration {
	var lastSuccess, lastFailure time.Time
	for _, p := range d.pods {
		if at := ended(p, d.now); p.Status.Phase == corev1.PodSucceeded && at.After(lastSuccess) {
			lastSuccess = at
		}
	}
	failures := 0
	for _, p := range d.pods {
		// One that is being deleted and isn't tracked was ended by us.
		if !failed(p, d.job) || p.DeletionTimestamp != nil && !tracked(p) {
			continue
		}
		if at := ended(p, d.now); at.After(lastSuccess) {
			failures++
			if at.After(lastFailure) {
				lastFailure = at
			}
		}
	}
	if d.gang { // whose pods fail together
		failures = min(failures, int(d.failures()))
	}
	return lastFailure.Add(delay(failures)).Sub(d.now)
}

// waitOfIndex is how long the pod of an index may not be created after last, its last one, has failed.
func (d *decision) waitOfIndex(last *corev1.Pod, n newPod) time.Duration {
	if last == nil {
		return 0
	}
	return ended(last, d.now).Add(delay(n.failures + n.ignored)).Sub(d.now)
}

// ended is when a pod ended, as well as it says so.
func ended(p *corev1.Pod, now time.Time) (at time.Time) {
	for _, list := range [][]corev1.ContainerStatus{p.Status.ContainerStatuses, p.Status.InitContainerStatuses} {
		for i := range list {
			if t := list[i].State.Terminated; t != nil && t.FinishedAt.After(at) {
				at = t.FinishedAt.Time
			}
		}
	}
	if !at.IsZero() {
		return at
	}
	if ready, since := reconcile.PodReady(p); !ready && !since.IsZero() && reconcile.PodTerminal(p) {
		return since
	}
	if t := p.DeletionTimestamp; t != nil {
		if grace := p.DeletionGracePeriodSeconds; grace != nil {
			return t.Add(-seconds(*grace))
		}
		return t.Time
	}
	if reconcile.PodTerminal(p) {
		return p.CreationTimestamp.Time
	}
	return now
}

// restartedTooOften: containers that are restarted in their pods count as failures do.
func (d *decision) restartedTooOften(limit int64) bool {
	if d.job.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyOnFailure {
		return false
	}
	restarts := int64(0)
	for _, p := range d.active {
		if p.Status.Phase != corev1.PodRunning && p.Status.Phase != corev1.PodPending {
			continue
		}
		for _, list := range [][]corev1.ContainerStatus{p.Status.ContainerStatuses, p.Status.InitContainerStatuses} {
			for i := range list {
				restarts += int64(list[i].RestartCount)
			}
		}
	}
	return restarts > 0 && restarts >= limit
}

// lastOfIndexes finds the pod of each index that knows best how often it has failed, where indexes have limits.
func (d *decision) lastOfIndexes() map[int]*corev1.Pod {
	if d.job.Spec.BackoffLimitPerIndex == nil {
		return nil
	}
	out := map[int]*corev1.Pod{}
	for _, list := range [][]*corev1.Pod{d.tracked, d.active} {
		for _, p := range list {
			index := d.indexOf(p)
			if have := out[index]; index != noIndex && (have == nil || attempts(p) > attempts(have)) {
				out[index] = p
			}
		}
	}
	return out
}

func attempts(p *corev1.Pod) int {
	return annotatedCount(p, batchv1.JobIndexFailureCountAnnotation) + annotatedCount(p, batchv1.JobIndexIgnoredFailureCountAnnotation)
}

// successor is the pod that follows last, nil if there was none.
func (d *decision) successor(index int, last *corev1.Pod) newPod {
	n := newPod{index: index}
	if last == nil {
		return n
	}
	n.failures, n.ignored = annotatedCount(last, batchv1.JobIndexFailureCountAnnotation), annotatedCount(last, batchv1.JobIndexIgnoredFailureCountAnnotation)
	switch {
	case !failed(last, d.job):
	case matchFailurePolicy(d.job.Spec.PodFailurePolicy, last).action == batchv1.PodFailurePolicyActionIgnore:
		n.ignored++
	default:
		n.failures++
	}
	return n
}
