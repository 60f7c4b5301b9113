//go:build linux && cgo && !nonvml

package nvml

import (
	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// limitsMemory asks for the limit of a cgroup that has none: a driver and a GPU that know limits say so.
func (s *Session) limitsMemory(d nvml.Device) bool {
	if !s.has("nvmlDeviceGetMemoryLimits_v1") || !s.has("nvmlDeviceSetMemoryLimits_v1") {
		return false
	}
	_, ret := d.GetMemoryLimits_v1("/sys/fs/cgroup")
	return ret == nvml.SUCCESS || ret == nvml.ERROR_NOT_FOUND
}

// LimitMemory keeps what runs in the cgroup to so many bytes of the GPU, from now until the cgroup is removed.
func (s *Session) LimitMemory(uuid, cgroup string, bytes uint64) error {
	calls.RLock()
	defer calls.RUnlock()
	d, err := s.handle(uuid)
	if err != nil {
		return err
	}
	if !s.limitsMemory(d) {
		return failure("limit the memory of a cgroup on GPU "+uuid, nvml.ERROR_NOT_SUPPORTED)
	}
	return failure("limit the memory of "+cgroup+" on GPU "+uuid, d.SetMemoryLimits_v1(cgroup, bytes, bytes))
}
