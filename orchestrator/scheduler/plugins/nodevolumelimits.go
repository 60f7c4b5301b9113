package plugins

import (
	"fmt"

	binding "github.com/pintle/pintle/orchestrator/api/volumes"
	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

// NodeVolumeLimits keeps to how many volumes of a CSI driver fit on a node, as the node's CSINode says. It asks VolumeBinding's
// book.
type NodeVolumeLimits struct{}

// Name implements framework.Plugin.
func (NodeVolumeLimits) Name() string { return "NodeVolumeLimits" }

// Prepare implements framework.Plugin.
func (NodeVolumeLimits) Prepare(pod *framework.Pod, s *framework.State) framework.Prepared {
	if !hasClaims(pod) {
		return framework.Prepared{Local: true}
	}
	v := volumesOf(s)
	if v == nil {
		return framework.Prepared{}
	}
	wanted := v.attached(pod)
	if len(wanted) == 0 {
		return framework.Prepared{}
	}
	return framework.Prepared{Filter: func(n *framework.Node) []string {
		var have map[string]map[string]bool
		for driver, mine := range wanted {
			limit, limited, missing := v.book.Limit(n.Name, driver)
			if missing {
				return []string{fmt.Sprintf("node(s) didn't have CSI driver %s", driver)}
			}
			if !limited {
				continue
			}
			if have == nil {
				have = map[string]map[string]bool{}
				for _, other := range n.Pods {
					for d, names := range v.attached(other) {
						for name := range names {
							if have[d] == nil {
								have[d] = map[string]bool{}
							}
							have[d][name] = true
						}
					}
				}
			}
			count, more := len(have[driver]), 0
			for name := range mine {
				if !have[driver][name] {
					more++
				}
			}
			if more > 0 && count+more > limit {
				return []string{"node(s) exceed max volume count"}
			}
		}
		return nil
	}}
}

// attached are the volumes of CSI drivers that a pod needs, by driver.
func (v *VolumeBinding) attached(pod *framework.Pod) (out map[string]map[string]bool) {
	if len(pod.Spec.Volumes) == 0 {
		return nil
	}
	for _, u := range binding.Uses(pod.Pod) {
		driver, volume := v.book.Driver(pod.Namespace, u.Claim)
		if driver == "" {
			continue
		}
		if out == nil {
			out = map[string]map[string]bool{}
		}
		if out[driver] == nil {
			out[driver] = map[string]bool{}
		}
		out[driver][volume] = true
	}
	return out
}
