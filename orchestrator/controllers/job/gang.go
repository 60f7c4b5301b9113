package job

import (
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"

	"github.com/pintle/pintle/orchestrator/api"
)

// isGang says whether a Job whose pods name the group starts, fails and succeeds as a whole.
func isGang(j *batchv1.Job, group *schedulingv1beta1.PodGroup) bool {
	s := &j.Spec
	return group != nil && group.Spec.SchedulingPolicy.Gang != nil && api.Indexed(j) && s.Completions != nil &&
		s.Parallelism != nil && *s.Parallelism >= *s.Completions && s.BackoffLimitPerIndex == nil
}

// restarting says whether a pod of the gang has failed and the finalizers still tell of it: until all are gone, the others
// end and none starts.
func (d *decision) restarting() bool {
	return slices.ContainsFunc(d.tracked, func(p *corev1.Pod) bool { return failed(p, d.job) })
}

// countGang counts a gang when it has ended as a whole: each index that has succeeded, or one failure.
//
// Until then the finalizers hold all its pods, so that whoever decides after a crash sees the same gang. Of one that has
// failed the pod that counts is released last: while others have their finalizers, it tells that they are counted.
func (d *decision) countGang(uncounted *batchv1.UncountedTerminatedPods) {
	if c := ending(&d.job.Status); c != nil && c.Type == batchv1.JobSuccessCriteriaMet {
		d.countEach(uncounted)
		return
	}
	if !d.restarting() {
		if d.endsAlready() && len(d.active)+d.terminating == 0 {
			d.countEach(uncounted) // what has succeeded before it was too late
			return
		}
		d.countGangSuccess()
		return
	}
	decisive := d.decisive(uncounted)
	verdict := matchFailurePolicy(d.job.Spec.PodFailurePolicy, decisive)
	if verdict.action == batchv1.PodFailurePolicyActionFailJob {
		d.failJob = verdict.message
	}
	for _, p := range d.tracked {
		if !d.gone(p) {
			return
		}
	}
	if verdict.action != batchv1.PodFailurePolicyActionIgnore && !slices.Contains(uncounted.Failed, decisive.UID) {
		uncounted.Failed = append(uncounted.Failed, decisive.UID)
	}
	for _, p := range d.tracked {
		if p != decisive {
			d.release = append(d.release, p)
		}
	}
	d.releaseLast = decisive
}

// gone says whether a pod of the gang has ended. Where replacements need not wait for ends, one whose time to end is over
// has, too: its node may never say so.
func (d *decision) gone(p *corev1.Pod) bool {
	switch {
	case over(p):
		return true
	case p.DeletionTimestamp == nil || replaceOnlyEnded(d.job):
		return false
	}
	left := p.DeletionTimestamp.Add(patience).Sub(d.now)
	d.lookAgain(left)
	return left <= 0
}

// patience is how much longer than its grace period a pod of a gang may take to end.
const patience = 5 * time.Second

// endingStill says whether a pod of the gang is there that has yet to end.
func (d *decision) endingStill() bool {
	return slices.ContainsFunc(d.pods, func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil && !d.gone(p) })
}

// decisive is the pod by whose failure the gang failed: the one that was counted, or else the first that failed by itself
// or was disrupted. That others failed because they were ended, or because a peer was gone, says nothing.
func (d *decision) decisive(uncounted *batchv1.UncountedTerminatedPods) (first *corev1.Pod) {
	for _, p := range d.tracked { // as they ended
		if !failed(p, d.job) {
			continue
		}
		if slices.Contains(uncounted.Failed, p.UID) {
			return p
		}
		if first == nil || collateral(first) && !collateral(p) {
			first = p
		}
	}
	return first
}

// collateral says whether a pod was ended by somebody who doesn't call it a disruption.
func collateral(p *corev1.Pod) bool {
	return p.DeletionTimestamp != nil && !slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue
	})
}

func (d *decision) countGangSuccess() {
	done := d.completed
	for _, p := range d.tracked {
		if p.Status.Phase == corev1.PodSucceeded && d.indexOf(p) != noIndex {
			done = done.Union(d.indexOf(p))
		}
	}
	if _, met := metSuccessPolicy(d.job.Spec.SuccessPolicy, done); !met && done.Len() < int(*d.job.Spec.Completions) {
		return
	}
	d.completed = done
	for _, p := range d.tracked {
		if p.Status.Phase == corev1.PodSucceeded {
			d.release = append(d.release, p)
		}
	}
}

// held is how many indexes of a gang have succeeded and are not counted yet.
func (d *decision) held() int {
	if !d.gang {
		return 0
	}
	seen := map[int]bool{}
	for _, p := range d.tracked {
		if index := d.indexOf(p); p.Status.Phase == corev1.PodSucceeded && index != noIndex && !d.completed.Has(index) {
			seen[index] = true
		}
	}
	return len(seen)
}
