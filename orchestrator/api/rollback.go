package api

import appsv1 "k8s.io/api/apps/v1"

// Automatic rollback of Deployments, as orchestrator/controllers/deployment does it.
const (
	// ConditionRolledBack is True on a Deployment while it runs the revision that an automatic
	// rollback brought back, and False while its update has failed and there is nothing to return to.
	ConditionRolledBack appsv1.DeploymentConditionType = "RolledBack"

	// AnnotationAutoRollback, "false" on a Deployment, turns automatic rollback off.
	AnnotationAutoRollback = "pintle.dev/auto-rollback"
	// AnnotationRolledBackFrom on a Deployment records, as JSON, what the last rollback left and what it returned to.
	AnnotationRolledBackFrom = "pintle.dev/rolled-back-from"
	// AnnotationAvailableSince on a ReplicaSet says when its revision was last fully available (RFC 3339).
	AnnotationAvailableSince = "pintle.dev/available-since"
	// AnnotationAvailableRevision on a ReplicaSet names the revision that completed with it.
	AnnotationAvailableRevision = "pintle.dev/available-revision"
)
