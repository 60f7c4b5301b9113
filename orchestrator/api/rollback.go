package api

import (
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Automatic rollback of Deployments, StatefulSets and DaemonSets, as orchestrator/controllers/reconcile/rollback decides it.
const (
	// ConditionRolledBack is True on a workload while it runs the revision that an automatic
	// rollback brought back, and False while its update has failed and there is nothing to return to.
	ConditionRolledBack appsv1.DeploymentConditionType = "RolledBack"

	// AnnotationAutoRollback, "false" on a workload, turns automatic rollback off.
	AnnotationAutoRollback = "pintle.dev/auto-rollback"
	// AnnotationProgressDeadline on a StatefulSet or DaemonSet says after how many seconds without progress an update
	// has failed, as spec.progressDeadlineSeconds of a Deployment does. Unset: 600.
	AnnotationProgressDeadline = "pintle.dev/progress-deadline-seconds"
	// AnnotationRolledBackFrom on a workload records, as JSON, what the last rollback left and what it returned to.
	AnnotationRolledBackFrom = "pintle.dev/rolled-back-from"
	// AnnotationAvailableSince on a ReplicaSet or ControllerRevision says when its revision was last fully available (RFC 3339).
	AnnotationAvailableSince = "pintle.dev/available-since"
	// AnnotationAvailableRevision on a ReplicaSet or ControllerRevision names the revision that completed with it.
	AnnotationAvailableRevision = "pintle.dev/available-revision"
)

// DefaultProgressDeadlineSeconds holds where AnnotationProgressDeadline is not set.
const DefaultProgressDeadlineSeconds = 600

// validateRollbackAnnotations checks what people set on a StatefulSet or DaemonSet.
func validateRollbackAnnotations(annotations map[string]string, minReadySeconds int32) (errs field.ErrorList) {
	at := field.NewPath("metadata", "annotations")
	if value, ok := annotations[AnnotationAutoRollback]; ok && value != "true" && value != "false" {
		errs = append(errs, field.NotSupported(at.Key(AnnotationAutoRollback), value, []string{"true", "false"}))
	}
	if value, ok := annotations[AnnotationProgressDeadline]; ok {
		switch n, err := strconv.ParseInt(value, 10, 32); {
		case err != nil || n <= 0:
			errs = append(errs, field.Invalid(at.Key(AnnotationProgressDeadline), value, "must be a positive number of seconds"))
		case n <= int64(minReadySeconds):
			errs = append(errs, field.Invalid(at.Key(AnnotationProgressDeadline), value, "must be greater than minReadySeconds"))
		}
	}
	return errs
}
