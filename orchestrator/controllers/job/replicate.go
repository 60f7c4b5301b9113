package job

import (
	"cmp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// burst bounds how many pods one step creates or deletes.
const burst = 500

// replicate plans which pods to end and which to create.
func (d *decision) replicate() {
	switch {
	case ending(&d.next) != nil:
		d.remove = first(d.active, burst)
		return
	case d.suspended():
		d.drop = first(d.active, burst)
		if d.gang && !d.restarting() { // its successes are not counted: it runs again as a whole
			for _, p := range d.tracked {
				if p.Status.Phase == corev1.PodSucceeded && d.job.Status.CompletedIndexes == "" {
					d.drop = append(d.drop, p)
				}
			}
		}
		return
	case d.gang && d.restarting():
		d.remove = first(d.active, burst)
		return
	}
	keep, surplus := d.wanted()
	want := d.want(len(keep))
	if len(keep) > want {
		slices.SortStableFunc(keep, byLoss)
		surplus = append(surplus, keep[:len(keep)-want]...)
		keep = keep[len(keep)-want:]
	}
	if len(surplus) > 0 {
		d.drop = first(surplus, burst)
		return
	}
	missing := want - len(keep)
	if replaceOnlyEnded(d.job) {
		missing -= d.terminating
	}
	if missing <= 0 || d.gang && d.endingStill() {
		return
	}
	if d.job.Spec.BackoffLimitPerIndex == nil {
		if wait := d.wait(); wait > 0 {
			d.lookAgain(wait)
			return
		}
	}
	d.create = d.missing(min(missing, burst), keep)
}

func first(pods []*corev1.Pod, n int) []*corev1.Pod { return pods[:min(len(pods), n)] }

// want is how many pods should be active.
func (d *decision) want(active int) int {
	parallelism := 1
	if p := d.job.Spec.Parallelism; p != nil {
		parallelism = int(*p)
	}
	switch {
	case d.job.Spec.Completions != nil:
		left := int64(*d.job.Spec.Completions) - d.successes() - int64(d.failed.Len()) - int64(d.held())
		return int(max(0, min(left, int64(parallelism))))
	case d.successes() > 0: // the work is done: those that run may end
		return min(active, parallelism)
	}
	return parallelism
}

// wanted tells the active pods that may go on from those that should not: second ones of an index, those of indexes that
// there are no more or that are done, and those that lost their finalizer because somebody was about to end them.
func (d *decision) wanted() (keep, surplus []*corev1.Pod) {
	active := slices.Clone(d.active)
	slices.SortStableFunc(active, func(a, b *corev1.Pod) int { return byLoss(b, a) })
	taken := map[int]bool{}
	for _, p := range active {
		index := d.indexOf(p)
		if !tracked(p) || api.Indexed(d.job) && (index == noIndex || taken[index] || d.completed.Has(index) || d.failed.Has(index)) {
			surplus = append(surplus, p)
			continue
		}
		taken[index] = true
		keep = append(keep, p)
	}
	return keep, surplus
}

// missing are up to n pods that should be created, those of the lowest indexes first.
func (d *decision) missing(n int, active []*corev1.Pod) (out []newPod) {
	if !api.Indexed(d.job) {
		return slices.Repeat([]newPod{{index: noIndex}}, n)
	}
	taken := map[int]bool{}
	for _, p := range active {
		taken[d.indexOf(p)] = true
	}
	for _, p := range d.pods {
		if p.DeletionTimestamp != nil && !over(p) && replaceOnlyEnded(d.job) || d.gang && tracked(p) {
			taken[d.indexOf(p)] = true
		}
	}
	last := d.lastOfIndexes()
	for index := range int(*d.job.Spec.Completions) {
		if len(out) == n {
			break
		}
		if taken[index] || d.completed.Has(index) || d.failed.Has(index) {
			continue
		}
		pod := d.successor(index, last[index])
		if d.job.Spec.BackoffLimitPerIndex != nil {
			if wait := d.waitOfIndex(last[index], pod); wait > 0 {
				d.lookAgain(wait)
				continue
			}
		}
		out = append(out, pod)
	}
	return out
}

// byLoss sorts active pods: first those whose end loses least.
func byLoss(a, b *corev1.Pod) int {
	rank := func(p *corev1.Pod) int {
		ready, _ := reconcile.PodReady(p)
		switch {
		case p.Spec.NodeName == "":
			return 0
		case p.Status.Phase != corev1.PodRunning:
			return 1
		case !ready:
			return 2
		}
		return 3
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), b.CreationTimestamp.Compare(a.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
}
