package plugins

import "github.com/pintle/pintle/orchestrator/scheduler/framework"

// NodePorts refuses nodes on which a host port of the pod is taken.
type NodePorts struct{}

// Name implements framework.Plugin.
func (NodePorts) Name() string { return "NodePorts" }

// Prepare implements framework.Plugin.
func (NodePorts) Prepare(pod *framework.Pod, _ *framework.State) framework.Prepared {
	if len(pod.Ports) == 0 {
		return framework.Prepared{Local: true}
	}
	return framework.Prepared{Local: true, Filter: func(n *framework.Node) []string {
		if n.PortsTaken(pod.Ports) {
			return []string{"node(s) didn't have free ports for the requested pod ports"}
		}
		return nil
	}}
}
