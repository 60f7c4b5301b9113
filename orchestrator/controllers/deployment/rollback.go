package deployment

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/orchestrator/api"
)

// Reasons of the RolledBack condition.
const (
	ReasonDeadline  = "ProgressDeadlineExceeded" // the update missed its deadline
	ReasonCrashLoop = "NewPodsCrashing"          // the update's pods crash repeatedly
	ReasonNoTarget  = "NoRevisionToReturnTo"     // it failed, and no earlier revision was ever available
)

// record is the value of api.AnnotationRolledBackFrom.
type record struct {
	Revision     string `json:"revision"`
	TemplateHash string `json:"templateHash"`
	ToRevision   string `json:"toRevision"`
	ToHash       string `json:"toTemplateHash"`
	Reason       string `json:"reason"`
	Detail       string `json:"detail"`
}

func readRecord(d *appsv1.Deployment) (r record, ok bool) {
	err := json.Unmarshal([]byte(d.Annotations[api.AnnotationRolledBackFrom]), &r)
	return r, err == nil
}

func hashOf(rs *appsv1.ReplicaSet) string { return rs.Labels[appsv1.DefaultDeploymentUniqueLabelKey] }

// isRollback reports whether current is what the last automatic rollback brought back.
func isRollback(d *appsv1.Deployment, current *appsv1.ReplicaSet) bool {
	r, ok := readRecord(d)
	return ok && current != nil && r.ToHash == hashOf(current)
}

// rolledOut reports whether the present rollout of current completed once: what happens to its
// pods later is no failed update.
func rolledOut(current *appsv1.ReplicaSet) bool {
	v := current.Annotations[api.AnnotationAvailableRevision]
	return v != "" && v == current.Annotations[annotationRevision]
}

// probation is how much longer a set that has completed its rollout may still be found to have failed:
// programs without a readiness probe count as ready until they crash. It lasts as long as the deployment's
// progress deadline, 10 minutes where it has none.
func probation(d *appsv1.Deployment, current *appsv1.ReplicaSet, now time.Time) time.Duration {
	since, err := time.Parse(time.RFC3339Nano, current.Annotations[api.AnnotationAvailableSince])
	if err != nil || !rolledOut(current) {
		return 0
	}
	window := 10 * time.Minute
	if hasDeadline(d) {
		window = time.Duration(*d.Spec.ProgressDeadlineSeconds) * time.Second
	}
	return max(0, window-now.Sub(since))
}

// crashing says how a pod of the set crashes repeatedly: a container restarted 3 times, or one that
// is in CrashLoopBackOff after 2.
func crashing(pods []*corev1.Pod) string {
	for _, p := range pods {
		if p.DeletionTimestamp != nil {
			continue
		}
		for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
			for _, c := range list {
				if c.RestartCount >= 3 || c.RestartCount >= 2 && c.State.Waiting != nil && c.State.Waiting.Reason == "CrashLoopBackOff" {
					return fmt.Sprintf("container %q of pod %q restarted %d times", c.Name, p.Name, c.RestartCount)
				}
			}
		}
	}
	return ""
}

// failed says why the present update has failed: "" if it has not, or if automatic rollback doesn't apply.
func failed(d *appsv1.Deployment, current *appsv1.ReplicaSet, pods []*corev1.Pod, now time.Time) (reason, detail string) {
	if current == nil || d.Spec.Paused || d.DeletionTimestamp != nil || replicasOf(d.Spec.Replicas) == 0 ||
		d.Annotations[api.AnnotationAutoRollback] == "false" || isRollback(d, current) || rolledOut(current) && probation(d, current, now) == 0 {
		return "", ""
	}
	if s := crashing(pods); s != "" {
		return ReasonCrashLoop, s
	}
	if rolledOut(current) {
		return "", ""
	}
	c := condition(d.Status.Conditions, appsv1.DeploymentProgressing)
	// The verdict must be about this set: one about the last update may still stand in status.
	if c != nil && c.Reason == reasonTimedOut && strings.Contains(c.Message, strconv.Quote(current.Name)) {
		return ReasonDeadline, fmt.Sprintf("it made no progress for %d seconds", *d.Spec.ProgressDeadlineSeconds)
	}
	return "", ""
}

// target is the set that was fully available last.
func target(old []*appsv1.ReplicaSet) *appsv1.ReplicaSet {
	var best *appsv1.ReplicaSet
	var at time.Time
	for _, rs := range old {
		t, err := time.Parse(time.RFC3339Nano, rs.Annotations[api.AnnotationAvailableSince])
		if err != nil || rs.DeletionTimestamp != nil {
			continue
		}
		if best == nil || t.After(at) || t.Equal(at) && revision(rs) > revision(best) {
			best, at = rs, t
		}
	}
	return best
}

// rolledBack returns d with the template of to and the record of what happened: one write, so
// that a control plane that stops before or after it finds either nothing done or all of it.
func rolledBack(d *appsv1.Deployment, current, to *appsv1.ReplicaSet, reason, detail string) *appsv1.Deployment {
	n := d.DeepCopy()
	n.Spec.Template = *to.Spec.Template.DeepCopy()
	delete(n.Spec.Template.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	b, _ := json.Marshal(record{Revision: current.Annotations[annotationRevision], TemplateHash: hashOf(current),
		ToRevision: to.Annotations[annotationRevision], ToHash: hashOf(to), Reason: reason, Detail: detail})
	if n.Annotations == nil {
		n.Annotations = map[string]string{}
	}
	n.Annotations[api.AnnotationRolledBackFrom] = string(b)
	return n
}

// unavailable returns rs without the marks of a completed rollout: it has failed after all, and must not be
// what another rollback returns to.
func unavailable(rs *appsv1.ReplicaSet) *appsv1.ReplicaSet {
	n := rs.DeepCopy()
	delete(n.Annotations, api.AnnotationAvailableSince)
	delete(n.Annotations, api.AnnotationAvailableRevision)
	return n
}

// tellRollback sets the RolledBack condition from the stored record, and returns the event that
// goes with the change: whoever writes the status sends it, before or after a restart.
func tellRollback(d *appsv1.Deployment, s *appsv1.DeploymentStatus, current *appsv1.ReplicaSet, reason, detail string, now time.Time) []event {
	before := condition(d.Status.Conditions, api.ConditionRolledBack)
	switch {
	case isRollback(d, current):
		r, _ := readRecord(d)
		msg := fmt.Sprintf("Rolled back from revision %s (pod-template-hash %s) to the template of revision %s (pod-template-hash %s): %s", r.Revision, r.TemplateHash, r.ToRevision, r.ToHash, r.Detail)
		again := before == nil || before.Message != msg
		setCondition(s, api.ConditionRolledBack, corev1.ConditionTrue, r.Reason, msg, now, again)
		if again {
			return []event{{corev1.EventTypeWarning, "DeploymentRolledBack", msg}}
		}
	case reason != "": // failed, and decide found no target
		msg := fmt.Sprintf("Revision %s (%s) failed: %s; no earlier revision was ever fully available, so there is nothing to return to", current.Annotations[annotationRevision], current.Name, detail)
		again := before == nil || before.Status != corev1.ConditionFalse || !strings.Contains(before.Message, current.Name)
		if again {
			setCondition(s, api.ConditionRolledBack, corev1.ConditionFalse, ReasonNoTarget, msg, now, true)
			return []event{{corev1.EventTypeWarning, "DeploymentRollbackImpossible", msg}}
		}
	case before != nil && (before.Status == corev1.ConditionTrue || current == nil || rolledOut(current) || !strings.Contains(before.Message, current.Name)):
		dropCondition(s, api.ConditionRolledBack)
	}
	return nil
}
