package deployment

import (
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Reasons of the Progressing condition, which kubectl rollout status reads.
const (
	reasonCreated   = "NewReplicaSetCreated"
	reasonFound     = "FoundNewReplicaSet"
	reasonUpdated   = "ReplicaSetUpdated"
	reasonAvailable = "NewReplicaSetAvailable"
	reasonTimedOut  = "ProgressDeadlineExceeded"
	reasonPaused    = "DeploymentPaused"
	reasonResumed   = "DeploymentResumed"
	reasonCreateErr = "ReplicaSetCreateError"
)

func condition(conds []appsv1.DeploymentCondition, t appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	for i := range conds {
		if conds[i].Type == t {
			return &conds[i]
		}
	}
	return nil
}

// setCondition keeps a condition whose status and reason stay, so that times don't run on.
func setCondition(s *appsv1.DeploymentStatus, t appsv1.DeploymentConditionType, status corev1.ConditionStatus,
	reason, message string, now time.Time, force bool) {
	at := metav1.NewTime(now)
	c := appsv1.DeploymentCondition{Type: t, Status: status, Reason: reason, Message: message, LastUpdateTime: at, LastTransitionTime: at}
	if have := condition(s.Conditions, t); have != nil {
		if have.Status == status && have.Reason == reason && !force {
			return
		}
		if have.Status == status {
			c.LastTransitionTime = have.LastTransitionTime
		}
	}
	dropCondition(s, t)
	s.Conditions = append(s.Conditions, c)
}

func dropCondition(s *appsv1.DeploymentStatus, t appsv1.DeploymentConditionType) {
	s.Conditions = slices.DeleteFunc(s.Conditions, func(c appsv1.DeploymentCondition) bool { return c.Type == t })
}

func hasDeadline(d *appsv1.Deployment) bool {
	return d.Spec.ProgressDeadlineSeconds != nil && *d.Spec.ProgressDeadlineSeconds != 1<<31-1
}

func complete(d *appsv1.Deployment, s *appsv1.DeploymentStatus) bool {
	n := replicasOf(d.Spec.Replicas)
	return s.UpdatedReplicas == n && s.Replicas == n && s.AvailableReplicas == n && s.ObservedGeneration >= d.Generation
}

func counted(d *appsv1.Deployment, current *appsv1.ReplicaSet, all []*appsv1.ReplicaSet, now time.Time) appsv1.DeploymentStatus {
	s := appsv1.DeploymentStatus{ObservedGeneration: d.Generation, CollisionCount: d.Status.CollisionCount,
		Conditions: slices.Clone(d.Status.Conditions)}
	var ending int32
	s.TerminatingReplicas = &ending
	for _, rs := range all {
		if n := rs.Status.TerminatingReplicas; n != nil {
			ending += *n
		}
		s.Replicas += rs.Status.Replicas
		s.ReadyReplicas += rs.Status.ReadyReplicas
		s.AvailableReplicas += rs.Status.AvailableReplicas
	}
	if current != nil {
		s.UpdatedReplicas = current.Status.Replicas
	}
	s.UnavailableReplicas = max(0, specTotal(all)-s.AvailableReplicas)
	if s.AvailableReplicas >= replicasOf(d.Spec.Replicas)-maxUnavailable(d) {
		setCondition(&s, appsv1.DeploymentAvailable, corev1.ConditionTrue, "MinimumReplicasAvailable", "Deployment has minimum availability.", now, false)
	} else {
		setCondition(&s, appsv1.DeploymentAvailable, corev1.ConditionFalse, "MinimumReplicasUnavailable", "Deployment does not have minimum availability.", now, false)
	}
	return s
}

// progress sets Progressing and ReplicaFailure and tells when to look again for the deadline.
func progress(d *appsv1.Deployment, s *appsv1.DeploymentStatus, current *appsv1.ReplicaSet, all []*appsv1.ReplicaSet, fresh string, now time.Time) time.Duration {
	name := fmt.Sprintf("Deployment %q", d.Name)
	if current != nil {
		name = fmt.Sprintf("ReplicaSet %q", current.Name)
	}
	failure := (*appsv1.ReplicaSetCondition)(nil)
	for _, rs := range all {
		for i := range rs.Status.Conditions {
			if c := &rs.Status.Conditions[i]; c.Type == appsv1.ReplicaSetReplicaFailure && (failure == nil || rs == current) {
				failure = c
			}
		}
	}
	if failure != nil {
		setCondition(s, appsv1.DeploymentReplicaFailure, failure.Status, failure.Reason, failure.Message, now, false)
	} else {
		dropCondition(s, appsv1.DeploymentReplicaFailure)
	}
	if !hasDeadline(d) {
		dropCondition(s, appsv1.DeploymentProgressing)
		return 0
	}
	cond := condition(s.Conditions, appsv1.DeploymentProgressing)
	// A verdict about another set says nothing about this one: the clock starts afresh.
	foreign := current != nil && cond != nil && cond.Reason != reasonPaused && cond.Reason != reasonResumed &&
		!strings.Contains(cond.Message, fmt.Sprintf("%q", current.Name))
	switch {
	case fresh == reasonCreated:
		setCondition(s, appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonCreated, fmt.Sprintf("Created new replica set %q", current.Name), now, true)
	case current != nil && (fresh == reasonFound || cond == nil || foreign):
		setCondition(s, appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonFound, fmt.Sprintf("Found new replica set %q", current.Name), now, true)
	}
	cond = condition(s.Conditions, appsv1.DeploymentProgressing)
	if cond != nil && cond.Reason == reasonAvailable && s.Replicas == s.UpdatedReplicas {
		return 0
	}
	old := &d.Status
	switch {
	case current != nil && fresh == "" && complete(d, s):
		setCondition(s, appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonAvailable, name+" has successfully progressed.", now, false)
	case fresh == "" && !foreign && (s.UpdatedReplicas > old.UpdatedReplicas || s.Replicas-s.UpdatedReplicas < old.Replicas-old.UpdatedReplicas ||
		s.ReadyReplicas > old.ReadyReplicas || s.AvailableReplicas > old.AvailableReplicas):
		setCondition(s, appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonUpdated, name+" is progressing.", now, true)
	case cond != nil && cond.Status != corev1.ConditionFalse && cond.Reason != reasonAvailable && cond.Reason != reasonPaused:
		left := time.Duration(*d.Spec.ProgressDeadlineSeconds)*time.Second - now.Sub(cond.LastUpdateTime.Time)
		if left > 0 {
			return left
		}
		setCondition(s, appsv1.DeploymentProgressing, corev1.ConditionFalse, reasonTimedOut, name+" has timed out progressing.", now, false)
	}
	if c := condition(s.Conditions, appsv1.DeploymentProgressing); c != nil && c.Status == corev1.ConditionTrue && c.Reason != reasonAvailable {
		return max(time.Millisecond, time.Duration(*d.Spec.ProgressDeadlineSeconds)*time.Second-now.Sub(c.LastUpdateTime.Time))
	}
	return 0
}
