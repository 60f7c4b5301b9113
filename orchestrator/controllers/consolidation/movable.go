package consolidation

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// Annotations of pods.
const (
	// MovableAnnotation is "false" on a pod that must not be moved, and "true" on one that may be whatever else speaks against it
	// but budgets.
	MovableAnnotation = "gpu.pintle.dev/movable"

	safeToEvict  = "cluster-autoscaler.kubernetes.io/safe-to-evict"
	doNotDisrupt = "karpenter.sh/do-not-disrupt"
)

// stays says why a pod can't be moved; "" if it can as far as it is asked alone.
func stays(p *corev1.Pod) string {
	if !reconcile.PodActive(p) {
		return "it is ending"
	}
	switch p.Annotations[MovableAnnotation] {
	case "true":
		return ""
	case "false":
		return "its annotation says so"
	}
	if p.Annotations[safeToEvict] == "false" || p.Annotations[doNotDisrupt] == "true" {
		return "its annotation says so"
	}
	if ready, _ := reconcile.PodReady(p); !ready {
		return "it isn't ready"
	}
	owner := metav1.GetControllerOfNoCopy(p)
	if owner == nil {
		return "nothing makes it anew"
	}
	switch owner.Kind {
	case "ReplicaSet", "StatefulSet", "ReplicationController":
	default:
		return "a " + owner.Kind + " doesn't make it anew elsewhere without loss"
	}
	if api.PodGroupOf(p) != "" {
		return "it belongs to a PodGroup"
	}
	for i := range p.Spec.Volumes {
		switch v := &p.Spec.Volumes[i]; {
		case v.EmptyDir != nil && v.EmptyDir.Medium != corev1.StorageMediumMemory, v.HostPath != nil, v.PersistentVolumeClaim != nil, v.Ephemeral != nil:
			return "it keeps something on its node"
		}
	}
	if a := p.Spec.Affinity; a != nil && (a.PodAffinity != nil || a.PodAntiAffinity != nil) || len(p.Spec.TopologySpreadConstraints) > 0 {
		return "where it may go hangs on other pods"
	}
	if p.Spec.HostNetwork {
		return "it uses its node's network"
	}
	return ""
}

// suits says whether a pod may run on a node, as far as the node itself decides.
func suits(p *corev1.Pod, n *corev1.Node) bool {
	if n == nil || n.Spec.Unschedulable {
		return false
	}
	for i := range n.Spec.Taints {
		t := &n.Spec.Taints[i]
		if t.Effect != corev1.TaintEffectPreferNoSchedule && !slices.ContainsFunc(p.Spec.Tolerations, func(have corev1.Toleration) bool { return tolerates(&have, t) }) {
			return false
		}
	}
	match, err := nodeaffinity.GetRequiredNodeAffinity(p).Match(n)
	return err == nil && match
}

func tolerates(t *corev1.Toleration, taint *corev1.Taint) bool {
	if t.Effect != "" && t.Effect != taint.Effect || t.Key != "" && t.Key != taint.Key || t.Key == "" && t.Operator != corev1.TolerationOpExists {
		return false
	}
	return t.Operator == corev1.TolerationOpExists || t.Value == taint.Value
}

// covering are the budgets that a pod falls under.
func covering(p *corev1.Pod, budgets []*policyv1.PodDisruptionBudget) (out []*policyv1.PodDisruptionBudget) {
	for _, b := range budgets {
		if b.Namespace != p.Namespace || b.Spec.Selector == nil {
			continue
		}
		if s, err := metav1.LabelSelectorAsSelector(b.Spec.Selector); err == nil && s.Matches(labels.Set(p.Labels)) {
			out = append(out, b)
		}
	}
	return out
}

// allowed is how many pods of the budget may be ended now.
func allowed(b *policyv1.PodDisruptionBudget) int {
	if b.Status.ObservedGeneration < b.Generation {
		return 0
	}
	return int(b.Status.DisruptionsAllowed)
}
