package plugins

import (
	"github.com/pintle/pintle/orchestrator/scheduler/framework"
	"github.com/pintle/pintle/orchestrator/scheduler/volumes"
)

// VolumeZone keeps a pod in the zone and region that its volumes are labelled with. It asks VolumeBinding's book.
type VolumeZone struct{}

// Name implements framework.Plugin.
func (VolumeZone) Name() string { return "VolumeZone" }

// Prepare implements framework.Plugin.
func (VolumeZone) Prepare(pod *framework.Pod, s *framework.State) framework.Prepared {
	if !hasClaims(pod) {
		return framework.Prepared{Local: true}
	}
	v := volumesOf(s)
	if v == nil {
		return framework.Prepared{}
	}
	needs, err := v.book.Needs(pod.Pod)
	if err != nil {
		return framework.Prepared{} // VolumeBinding says it
	}
	var zoned []*volumes.Volume
	for _, volume := range needs.Volumes() {
		if volume != nil && len(volume.Labels) > 0 {
			zoned = append(zoned, volume)
		}
	}
	if len(zoned) == 0 {
		return framework.Prepared{}
	}
	return framework.Prepared{Lasting: true, Filter: func(n *framework.Node) []string {
		for _, volume := range zoned {
			if n.Node == nil || !volume.SameZone(n.Node) {
				return []string{"node(s) had no available volume zone"}
			}
		}
		return nil
	}}
}
