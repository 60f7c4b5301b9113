package plugins

import "github.com/pintle/pintle/orchestrator/scheduler/framework"

// NodeName refuses every node but the one that the pod names.
type NodeName struct{}

// Name implements framework.Plugin.
func (NodeName) Name() string { return "NodeName" }

// Prepare implements framework.Plugin.
func (NodeName) Prepare(pod *framework.Pod, _ *framework.State) framework.Prepared {
	if pod.Spec.NodeName == "" {
		return framework.Prepared{Local: true, Lasting: true}
	}
	return framework.Prepared{Lasting: true, Local: true, Key: pod.Spec.NodeName, Filter: func(n *framework.Node) []string {
		if n.Name != pod.Spec.NodeName {
			return []string{"node(s) didn't match the requested node name"}
		}
		return nil
	}}
}
