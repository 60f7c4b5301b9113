package daemonset

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/history"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/rollback"
)

// workload is the set as automatic rollback sees it.
func (x *decider) workload() *rollback.Workload {
	w := &rollback.Workload{Object: x.set, Kind: "DaemonSet", ByHand: !x.rolling(),
		Off:    x.set.DeletionTimestamp != nil || !slices.ContainsFunc(x.places, func(pl *place) bool { return pl.run }),
		Newest: x.newest, Revisions: x.revisions, Hash: history.HashOf, Pods: x.pods, Now: x.now}
	for _, c := range x.set.Status.Conditions {
		w.Conditions = append(w.Conditions, metav1.Condition{Type: string(c.Type), Status: metav1.ConditionStatus(c.Status), Reason: c.Reason,
			Message: c.Message, LastTransitionTime: c.LastTransitionTime})
	}
	return w
}

// rollBack plans the return to the revision that was fully available last; false: there is none.
func (x *decider) rollBack(reason, detail string) bool {
	n := x.set.DeepCopy()
	template, failed, ok := x.workload().Return(n, reason, detail)
	if !ok {
		return false
	}
	n.Spec.Template, x.plan.spec = *template, n
	if failed != nil {
		x.plan.revisions = append(x.plan.revisions, failed)
	}
	return true
}

func nodeReady(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// rollout counts how the update goes, on nodes that are ready: one that is down holds up the pods of any template.
func (x *decider) rollout(s *appsv1.DaemonSetStatus) rollback.Rollout {
	old := &x.set.Status
	r := rollback.Rollout{Complete: true, Excused: true,
		Now: rollback.Counts{Updated: s.UpdatedNumberScheduled, Ready: s.NumberReady, Available: s.NumberAvailable},
		Was: rollback.Counts{Updated: old.UpdatedNumberScheduled, Ready: old.NumberReady, Available: old.NumberAvailable}}
	for _, pl := range x.places {
		if !pl.run || !nodeReady(pl.node) {
			continue
		}
		fresh := x.newPod(pl)
		if x.oldPod(pl) != nil {
			r.Pending++
		}
		if fresh == nil || !x.available(fresh) {
			r.Complete = false
		}
		if len(pl.pods) == 0 || fresh != nil && !x.available(fresh) {
			r.Excused = false
		}
	}
	r.Complete = r.Complete && r.Pending == 0
	return r
}

// tell sets the conditions, marks a revision that the pods of all nodes are available with, and forgets a rollback once a
// later update has completed.
func (x *decider) tell(s *appsv1.DaemonSetStatus, reason, detail string) {
	w, r := x.workload(), x.rollout(s)
	conditions, events, again := w.Tell(r, reason, detail)
	s.Conditions = nil
	for _, c := range conditions {
		s.Conditions = append(s.Conditions, appsv1.DaemonSetCondition{Type: appsv1.DaemonSetConditionType(c.Type), Status: corev1.ConditionStatus(c.Status),
			Reason: c.Reason, Message: c.Message, LastTransitionTime: c.LastTransitionTime})
	}
	x.plan.events = append(x.plan.events, events...)
	x.lookAgain(again)
	if !r.Complete || s.NumberAvailable == 0 {
		return
	}
	mark, forget := w.Remember()
	if mark != nil {
		x.plan.revisions = append(x.plan.revisions, mark)
	}
	if forget {
		x.plan.spec = x.set.DeepCopy()
		delete(x.plan.spec.Annotations, api.AnnotationRolledBackFrom)
	}
}
