// Package plugins holds the scheduler's built-in plugins, one file each, under kube-scheduler's
// names and with the behaviour that the Kubernetes documentation gives them.
package plugins

import (
	"github.com/pintle/pintle/orchestrator/scheduler/devices"
	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

// Default returns the built-in plugins. Filters run in this order, cheap ones first; a node's
// reasons are those of the first plugin that refuses it, as in kube-scheduler.
func Default() []framework.Plugin {
	return []framework.Plugin{
		NodeUnschedulable{},
		NodeName{},
		TaintToleration{},
		NodeAffinity{},
		NodePorts{},
		NodeResourcesFit{Ignore: devices.Counts},
		NodeResourcesBalancedAllocation{},
		ImageLocality{},
		VolumeRestrictions{},
		NodeVolumeLimits{},
		NewVolumeBinding(),
		VolumeZone{},
		PodTopologySpread{},
		InterPodAffinity{},
		NewGPU(GPUOptions{}),
		NewDynamicResources(), // after GPU: it appends to that one's grants
	}
}
