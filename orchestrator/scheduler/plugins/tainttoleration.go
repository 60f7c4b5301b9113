package plugins

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

// TaintToleration keeps pods off nodes with taints that they don't tolerate, and prefers nodes
// with few PreferNoSchedule taints that they don't tolerate.
type TaintToleration struct{}

// Name implements framework.Plugin.
func (TaintToleration) Name() string { return "TaintToleration" }

// Prepare implements framework.Plugin.
func (TaintToleration) Prepare(pod *framework.Pod, _ *framework.State) framework.Prepared {
	return framework.Prepared{
		Lasting: true,
		Local:   true,
		Key:     "t" + framework.TolerationsKey(pod.Spec.Tolerations),
		Filter: func(n *framework.Node) []string {
			for i := range n.Node.Spec.Taints {
				taint := &n.Node.Spec.Taints[i]
				if taint.Effect == corev1.TaintEffectPreferNoSchedule || tolerates(pod.Spec.Tolerations, taint) {
					continue
				}
				return []string{fmt.Sprintf("node(s) had untolerated taint {%s: %s}", taint.Key, taint.Value)}
			}
			return nil
		},
		Score: func(n *framework.Node) (count int64) {
			for i := range n.Node.Spec.Taints {
				taint := &n.Node.Spec.Taints[i]
				if taint.Effect == corev1.TaintEffectPreferNoSchedule && !tolerates(pod.Spec.Tolerations, taint) {
					count++
				}
			}
			return count
		},
		Scale:  framework.ToMostRev,
		Weight: 3,
	}
}

// tolerates implements the rules of "Taints and Tolerations" in the Kubernetes documentation: an
// empty key with Exists matches every taint, an empty effect every effect.
func tolerates(tolerations []corev1.Toleration, taint *corev1.Taint) bool {
	for i := range tolerations {
		t := &tolerations[i]
		if t.Effect != "" && t.Effect != taint.Effect {
			continue
		}
		if t.Key != "" && t.Key != taint.Key {
			continue
		}
		switch t.Operator {
		case corev1.TolerationOpExists:
			return true
		case "", corev1.TolerationOpEqual:
			if t.Key != "" && t.Value == taint.Value {
				return true
			}
		}
	}
	return false
}
