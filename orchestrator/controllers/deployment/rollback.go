package deployment

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/rollback"
)

// Reasons of the RolledBack condition.
const (
	ReasonDeadline  = rollback.ReasonDeadline
	ReasonCrashLoop = rollback.ReasonCrashLoop
	ReasonNoTarget  = rollback.ReasonNoTarget
)

func readRecord(d *appsv1.Deployment) (rollback.Record, bool) { return rollback.Read(d.Annotations) }

func hashOf(rs *appsv1.ReplicaSet) string { return rs.Labels[appsv1.DefaultDeploymentUniqueLabelKey] }

// isRollback reports whether current is what the last automatic rollback brought back.
func isRollback(d *appsv1.Deployment, current *appsv1.ReplicaSet) bool {
	return current != nil && rollback.Brought(d.Annotations, hashOf(current))
}

// rolledOut reports whether the present rollout of current completed once: what happens to its
// pods later is no failed update.
func rolledOut(current *appsv1.ReplicaSet) bool {
	return rollback.Available(current, current.Annotations[annotationRevision])
}

// probation is how much longer a set that has completed its rollout may still be found to have failed. It lasts
// as long as the deployment's progress deadline, 10 minutes where it has none.
func probation(d *appsv1.Deployment, current *appsv1.ReplicaSet, now time.Time) time.Duration {
	window := 10 * time.Minute
	if hasDeadline(d) {
		window = time.Duration(*d.Spec.ProgressDeadlineSeconds) * time.Second
	}
	return rollback.Probation(current, current.Annotations[annotationRevision], window, now)
}

// failed says why the present update has failed: "" if it has not, or if automatic rollback doesn't apply.
func failed(d *appsv1.Deployment, current *appsv1.ReplicaSet, pods []*corev1.Pod, now time.Time) (reason, detail string) {
	if current == nil {
		return "", ""
	}
	u := rollback.Update{Annotations: d.Annotations, Off: d.Spec.Paused || d.DeletionTimestamp != nil || replicasOf(d.Spec.Replicas) == 0,
		Hash: hashOf(current), Completed: rolledOut(current), Probation: probation(d, current, now), Pods: pods}
	c := condition(d.Status.Conditions, appsv1.DeploymentProgressing)
	// The verdict must be about this set: one about the last update may still stand in status.
	if c != nil && c.Reason == reasonTimedOut && strings.Contains(c.Message, strconv.Quote(current.Name)) && d.Spec.ProgressDeadlineSeconds != nil {
		u.TimedOut = fmt.Sprintf("it made no progress for %d seconds", *d.Spec.ProgressDeadlineSeconds)
	}
	return rollback.Failed(u)
}

// target is the set that was fully available last.
func target(old []*appsv1.ReplicaSet) *appsv1.ReplicaSet {
	rs, _ := rollback.Target(old, func(rs *appsv1.ReplicaSet) int64 { return revision(rs) })
	return rs
}

// rolledBack returns d with the template of to and the record of what happened: one write, so
// that a control plane that stops before or after it finds either nothing done or all of it.
func rolledBack(d *appsv1.Deployment, current, to *appsv1.ReplicaSet, reason, detail string) *appsv1.Deployment {
	n := d.DeepCopy()
	n.Spec.Template = *to.Spec.Template.DeepCopy()
	delete(n.Spec.Template.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	rollback.Write(n, rollback.Record{Revision: current.Annotations[annotationRevision], TemplateHash: hashOf(current),
		ToRevision: to.Annotations[annotationRevision], ToHash: hashOf(to), Reason: reason, Detail: detail})
	return n
}

// unavailable returns rs without the marks of a completed rollout: it has failed after all, and must not be
// what another rollback returns to.
func unavailable(rs *appsv1.ReplicaSet) *appsv1.ReplicaSet {
	n := rs.DeepCopy()
	rollback.Unmark(n)
	return n
}

// tellRollback sets the RolledBack condition from the stored record, and returns the event that
// goes with the change.
func tellRollback(d *appsv1.Deployment, s *appsv1.DeploymentStatus, current *appsv1.ReplicaSet, reason, detail string, now time.Time) []event {
	story := rollback.Story{Kind: "Deployment", HashLabel: appsv1.DefaultDeploymentUniqueLabelKey, Annotations: d.Annotations, Reason: reason, Detail: detail}
	if current != nil {
		story.Name, story.Revision, story.Hash, story.Completed = current.Name, current.Annotations[annotationRevision], hashOf(current), rolledOut(current)
	}
	if c := condition(d.Status.Conditions, api.ConditionRolledBack); c != nil {
		story.Before = &metav1.Condition{Status: metav1.ConditionStatus(c.Status), Reason: c.Reason, Message: c.Message}
	}
	told := rollback.Tell(story)
	if c := told.Set; c != nil {
		setCondition(s, api.ConditionRolledBack, corev1.ConditionStatus(c.Status), c.Reason, c.Message, now, true)
	}
	if told.Drop {
		dropCondition(s, api.ConditionRolledBack)
	}
	if told.Event != nil {
		return []event{{told.Event.Type, told.Event.Reason, told.Event.Message}}
	}
	return nil
}
