package job

import (
	"slices"
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// maxUncounted bounds the UIDs that a status holds; the rest is counted after them.
const maxUncounted = 500

// count takes the UIDs of pods that were released out of the status, and those of pods that have ended into it.
func (d *decision) count() {
	uncounted := &batchv1.UncountedTerminatedPods{}
	held := map[types.UID]bool{}
	for _, p := range d.tracked {
		held[p.UID] = true
	}
	if was := d.job.Status.UncountedTerminatedPods; was != nil {
		for _, uid := range was.Succeeded {
			if held[uid] {
				uncounted.Succeeded = append(uncounted.Succeeded, uid)
			} else if !api.Indexed(d.job) {
				d.next.Succeeded++
			}
		}
		for _, uid := range was.Failed {
			if held[uid] {
				uncounted.Failed = append(uncounted.Failed, uid)
			} else {
				d.next.Failed++
			}
		}
	}
	if d.gang {
		d.countGang(uncounted)
	} else {
		d.countEach(uncounted)
	}
	d.next.UncountedTerminatedPods = nil
	if len(uncounted.Succeeded)+len(uncounted.Failed) > 0 {
		d.next.UncountedTerminatedPods = uncounted
	}
	if !api.Indexed(d.job) {
		return
	}
	d.next.Succeeded, d.next.CompletedIndexes = int32(d.completed.Len()), d.completed.String()
	if d.job.Spec.BackoffLimitPerIndex != nil {
		text := d.failed.String()
		d.next.FailedIndexes = &text
	}
}

// endsAlready says whether the stored status tells that the Job is ending.
func (d *decision) endsAlready() bool { return ending(&d.job.Status) != nil }

// countEach counts every pod for itself.
func (d *decision) countEach(uncounted *batchv1.UncountedTerminatedPods) {
	last := d.lastOfIndexes()
	var indexes []int
	for _, p := range d.tracked {
		if p.Status.Phase == corev1.PodSucceeded && d.indexOf(p) != noIndex {
			indexes = append(indexes, d.indexOf(p))
		}
	}
	d.completed = d.completed.Union(indexes...)
	for _, p := range d.tracked {
		known := slices.Contains(uncounted.Succeeded, p.UID) || slices.Contains(uncounted.Failed, p.UID)
		if !known && len(uncounted.Succeeded)+len(uncounted.Failed) >= maxUncounted {
			continue // later, and until then it keeps its finalizer
		}
		switch {
		case p.Status.Phase == corev1.PodSucceeded:
			if !known && !api.Indexed(d.job) {
				uncounted.Succeeded = append(uncounted.Succeeded, p.UID)
			}
		case failed(p, d.job):
			match := matchFailurePolicy(d.job.Spec.PodFailurePolicy, p)
			d.failedPod(p, match, known, uncounted)
			if i := d.indexOf(p); last[i] == p && !d.failed.Has(i) && !d.completed.Has(i) && !d.endsAlready() && d.job.DeletionTimestamp == nil {
				continue // its successor has yet to be told how often the index has failed
			}
		default:
			continue
		}
		d.release = append(d.release, p)
	}
}

// failedPod counts a failed pod unless the policy ignores it; known ones stand in the status already.
func (d *decision) failedPod(p *corev1.Pod, match match, known bool, uncounted *batchv1.UncountedTerminatedPods) {
	if match.action == batchv1.PodFailurePolicyActionFailJob && d.failJob == "" {
		d.failJob = match.message
	}
	index := d.indexOf(p)
	if api.Indexed(d.job) && index == noIndex {
		return // an index that there is no more
	}
	if limit := d.job.Spec.BackoffLimitPerIndex; limit != nil && !d.completed.Has(index) && !d.endsAlready() {
		if match.action == batchv1.PodFailurePolicyActionFailIndex ||
			match.action != batchv1.PodFailurePolicyActionIgnore && annotatedCount(p, batchv1.JobIndexFailureCountAnnotation) >= int(*limit) {
			d.failed = d.failed.Union(index)
		}
	}
	if !known && match.action != batchv1.PodFailurePolicyActionIgnore {
		uncounted.Failed = append(uncounted.Failed, p.UID)
	}
}

// successes is how many pods, or indexes, have succeeded, whether their finalizers are gone or not.
func (d *decision) successes() int64 {
	if api.Indexed(d.job) {
		return int64(d.completed.Len())
	}
	n := int64(d.next.Succeeded)
	if u := d.next.UncountedTerminatedPods; u != nil {
		n += int64(len(u.Succeeded))
	}
	return n
}

func (d *decision) failures() int64 {
	n := int64(d.next.Failed)
	if u := d.next.UncountedTerminatedPods; u != nil {
		n += int64(len(u.Failed))
	}
	return n
}

// failed says whether a pod counts as failed. Where replacements need not wait, one that is being deleted does.
func failed(p *corev1.Pod, j *batchv1.Job) bool {
	switch {
	case p.Status.Phase == corev1.PodSucceeded:
		return false
	case over(p):
		return true
	}
	return p.DeletionTimestamp != nil && !replaceOnlyEnded(j)
}

// over says whether a pod runs no more. One that is deleted and never had a node, or that has no time left to end, may
// be held by its finalizer alone, and nobody will say how it ended.
func over(p *corev1.Pod) bool {
	grace := p.DeletionGracePeriodSeconds
	return reconcile.PodTerminal(p) || p.DeletionTimestamp != nil && (p.Spec.NodeName == "" || grace != nil && *grace == 0)
}

// replaceOnlyEnded says whether a pod is replaced only once it has ended.
func replaceOnlyEnded(j *batchv1.Job) bool {
	return j.Spec.PodReplacementPolicy != nil && *j.Spec.PodReplacementPolicy == batchv1.Failed
}

// indexOf is the completion index of a pod; noIndex if it has none that there is.
func (d *decision) indexOf(p *corev1.Pod) int {
	if !api.Indexed(d.job) {
		return noIndex
	}
	n, err := strconv.Atoi(p.Annotations[batchv1.JobCompletionIndexAnnotation])
	if err != nil || n < 0 || n >= int(*d.job.Spec.Completions) {
		return noIndex
	}
	return n
}

func annotatedCount(p *corev1.Pod, key string) int {
	n, _ := strconv.Atoi(p.Annotations[key])
	return max(0, n)
}
