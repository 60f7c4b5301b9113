package statefulset

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/rollback"
)

// workload is the set as automatic rollback sees it.
func (x *decider) workload() *rollback.Workload {
	w := &rollback.Workload{Object: x.set, Kind: "StatefulSet", Off: replicas(x.set) == 0 || x.set.DeletionTimestamp != nil, ByHand: x.rolling() == nil,
		Newest: x.newest, Revisions: x.revisions, Hash: func(r *appsv1.ControllerRevision) string { return r.Name }, Pods: x.pods, Now: x.now}
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

// tell sets the conditions.
func (x *decider) tell(s *appsv1.StatefulSetStatus, reason, detail string) {
	old := &x.set.Status
	r := rollback.Rollout{Excused: len(x.at) == replicas(x.set), Now: rollback.Counts{Updated: s.UpdatedReplicas, Ready: s.ReadyReplicas, Available: s.AvailableReplicas},
		Was: rollback.Counts{Updated: old.UpdatedReplicas, Ready: old.ReadyReplicas, Available: old.AvailableReplicas}}
	for o, p := range x.at {
		if o >= x.partition() && revisionOf(p) != x.newest.Name {
			r.Pending++
		}
		if p.DeletionTimestamp == nil && revisionOf(p) == x.newest.Name && !x.available(p) {
			r.Excused = false
		}
	}
	// As far as the partition lets it go.
	r.Complete = r.Pending == 0 && len(x.condemned) == 0 && int(s.AvailableReplicas) == replicas(x.set)
	conditions, events, again := x.workload().Tell(r, reason, detail)
	s.Conditions = nil
	for _, c := range conditions {
		s.Conditions = append(s.Conditions, appsv1.StatefulSetCondition{Type: appsv1.StatefulSetConditionType(c.Type), Status: corev1.ConditionStatus(c.Status),
			Reason: c.Reason, Message: c.Message, LastTransitionTime: c.LastTransitionTime})
	}
	x.plan.events = append(x.plan.events, events...)
	x.lookAgain(again)
}

// remember marks a revision that all pods are available with, and forgets a rollback once a later update has completed.
func (x *decider) remember(s *appsv1.StatefulSetStatus) {
	if replicas(x.set) == 0 || !x.complete(s) {
		return
	}
	mark, forget := x.workload().Remember()
	if mark != nil {
		x.plan.revisions = append(x.plan.revisions, mark)
	}
	if forget {
		x.plan.spec = x.set.DeepCopy()
		delete(x.plan.spec.Annotations, api.AnnotationRolledBackFrom)
	}
}
