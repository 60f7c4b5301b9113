package plugins

import "github.com/pintle/pintle/orchestrator/scheduler/framework"

// VolumeRestrictions keeps a claim that is ReadWriteOncePod to one pod. It asks VolumeBinding's book.
type VolumeRestrictions struct{}

// Name implements framework.Plugin.
func (VolumeRestrictions) Name() string { return "VolumeRestrictions" }

// Prepare implements framework.Plugin.
func (VolumeRestrictions) Prepare(pod *framework.Pod, s *framework.State) framework.Prepared {
	if !hasClaims(pod) {
		return framework.Prepared{Local: true}
	}
	v := volumesOf(s)
	if v == nil || !v.book.OthersUse(pod.Pod) {
		return framework.Prepared{}
	}
	return framework.Prepared{Filter: func(*framework.Node) []string {
		return []string{"node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"}
	}}
}
