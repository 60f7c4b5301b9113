package plugins

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

// NodeUnschedulable keeps pods off cordoned nodes, unless they tolerate the cordon's taint.
type NodeUnschedulable struct{}

// Name implements framework.Plugin.
func (NodeUnschedulable) Name() string { return "NodeUnschedulable" }

// Prepare implements framework.Plugin.
func (NodeUnschedulable) Prepare(pod *framework.Pod, _ *framework.State) framework.Prepared {
	cordon := corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
	if tolerates(pod.Spec.Tolerations, &cordon) {
		return framework.Prepared{Lasting: true, Local: true}
	}
	return framework.Prepared{Lasting: true, Local: true, Key: "untolerated", Filter: func(n *framework.Node) []string {
		if n.Node.Spec.Unschedulable {
			return []string{"node(s) were unschedulable"}
		}
		return nil
	}}
}
