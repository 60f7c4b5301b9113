//go:build linux && cgo && !nonvml

package nvml

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/pintle/pintle/gpu/device"
	"github.com/pintle/pintle/gpu/topology"
)

func (s *Session) describeMIG(d nvml.Device, g *device.GPU) {
	current, pending, ret := d.GetMigMode()
	if ret != nvml.SUCCESS {
		return // not capable
	}
	g.MIG.Capable = true
	g.MIG.Enabled, g.MIG.Pending = current == nvml.DEVICE_MIG_ENABLE, pending == nvml.DEVICE_MIG_ENABLE
	for kind := range nvml.GPU_INSTANCE_PROFILE_COUNT {
		if profile, ok := s.profile(d, kind, g.MemoryBytes); ok {
			g.MIG.Profiles = append(g.MIG.Profiles, profile)
		}
	}
	if g.MIG.Enabled {
		g.MIG.Instances = instances(d, g.MIG.Profiles)
	}
}

// profile describes a GPU instance profile; false where the GPU lacks it or tells only while MIG is on.
func (s *Session) profile(d nvml.Device, kind int, total uint64) (device.MIGProfile, bool) {
	info, ret := d.GetGpuInstanceProfileInfo(kind)
	if ret != nvml.SUCCESS {
		return device.MIGProfile{}, false
	}
	name := ""
	if s.has("nvmlDeviceGetGpuInstanceProfileInfoV") {
		if v2, ret := d.GetGpuInstanceProfileInfoV(kind).V2(); ret == nvml.SUCCESS {
			name = strings.TrimPrefix(text(v2.Name[:]), "MIG ")
		}
	}
	if name == "" {
		name = topology.ProfileName(int(info.SliceCount), info.MemorySizeMB, total, suffix(kind))
	}
	p := device.MIGProfile{
		Profile:         topology.Profile{Name: name, ID: int(info.Id), Slices: int(info.SliceCount)},
		Max:             int(info.InstanceCount),
		MemoryMB:        info.MemorySizeMB,
		Multiprocessors: int(info.MultiprocessorCount),
		CopyEngines:     int(info.CopyEngineCount),
		Decoders:        int(info.DecoderCount),
		Encoders:        int(info.EncoderCount),
		JPEGs:           int(info.JpegCount),
		OFAs:            int(info.OfaCount),
	}
	if placements, ret := d.GetGpuInstancePossiblePlacements(&info); ret == nvml.SUCCESS {
		for _, at := range placements {
			p.Placements = append(p.Placements, topology.Placement{Start: int(at.Start), Size: int(at.Size)})
		}
	}
	return p, true
}

// suffix is what tells apart profiles of one size, where the driver doesn't name them.
func suffix(kind int) string {
	switch kind {
	case nvml.GPU_INSTANCE_PROFILE_1_SLICE_REV1, nvml.GPU_INSTANCE_PROFILE_2_SLICE_REV1:
		return "+me"
	case nvml.GPU_INSTANCE_PROFILE_1_SLICE_GFX, nvml.GPU_INSTANCE_PROFILE_2_SLICE_GFX, nvml.GPU_INSTANCE_PROFILE_3_SLICE_GFX, nvml.GPU_INSTANCE_PROFILE_4_SLICE_GFX:
		return "+gfx"
	case nvml.GPU_INSTANCE_PROFILE_1_SLICE_NO_ME, nvml.GPU_INSTANCE_PROFILE_2_SLICE_NO_ME:
		return "-me"
	case nvml.GPU_INSTANCE_PROFILE_1_SLICE_ALL_ME, nvml.GPU_INSTANCE_PROFILE_2_SLICE_ALL_ME:
		return "+me.all"
	}
	return ""
}

func text(b []int8) string {
	raw := make([]byte, len(b))
	for i, c := range b {
		raw[i] = byte(c)
	}
	raw, _, _ = bytes.Cut(raw, []byte{0})
	return string(raw)
}

// migHandles lists the MIG devices of a GPU: GPU instances that have a compute instance.
func migHandles(d nvml.Device) []nvml.Device {
	most, ret := d.GetMaxMigDeviceCount()
	if ret != nvml.SUCCESS {
		return nil
	}
	var out []nvml.Device
	for i := range most {
		if mig, ret := d.GetMigDeviceHandleByIndex(i); ret == nvml.SUCCESS {
			out = append(out, mig)
		}
	}
	return out
}

func instances(d nvml.Device, profiles []device.MIGProfile) []device.MIGInstance {
	var out []device.MIGInstance
	for _, mig := range migHandles(d) {
		if m, err := describeInstance(d, mig, profiles); err == nil {
			out = append(out, m)
		}
	}
	return out
}

func describeInstance(d, mig nvml.Device, profiles []device.MIGProfile) (device.MIGInstance, error) {
	var m device.MIGInstance
	var ret nvml.Return
	if m.UUID, ret = mig.GetUUID(); ret != nvml.SUCCESS {
		return m, failure("ask for the UUID of a MIG device", ret)
	}
	if m.GI, ret = mig.GetGpuInstanceId(); ret != nvml.SUCCESS {
		return m, failure("ask for the GPU instance of "+m.UUID, ret)
	}
	if m.CI, ret = mig.GetComputeInstanceId(); ret != nvml.SUCCESS {
		return m, failure("ask for the compute instance of "+m.UUID, ret)
	}
	if a, ret := mig.GetAttributes(); ret == nvml.SUCCESS {
		m.MemoryMB, m.Multiprocessors = a.MemorySizeMB, int(a.MultiprocessorCount)
		m.SlicesGI, m.SlicesCI = int(a.GpuInstanceSliceCount), int(a.ComputeInstanceSliceCount)
		m.CopyEngines, m.Decoders, m.Encoders = int(a.SharedCopyEngineCount), int(a.SharedDecoderCount), int(a.SharedEncoderCount)
		m.JPEGs, m.OFAs = int(a.SharedJpegCount), int(a.SharedOfaCount)
	}
	gi, ret := d.GetGpuInstanceById(m.GI)
	if ret != nvml.SUCCESS {
		return m, failure(fmt.Sprintf("find GPU instance %d", m.GI), ret)
	}
	info, ret := gi.GetInfo()
	if ret != nvml.SUCCESS {
		return m, failure(fmt.Sprintf("ask for GPU instance %d", m.GI), ret)
	}
	m.Placement = topology.Placement{Start: int(info.Placement.Start), Size: int(info.Placement.Size)}
	for _, p := range profiles {
		if p.ID == int(info.ProfileId) {
			m.Profile = p.Name
			if m.SlicesCI != 0 && m.SlicesCI < m.SlicesGI { // several compute instances share this one's memory
				m.Profile = fmt.Sprintf("%dc.%s", m.SlicesCI, p.Name)
			}
		}
	}
	return m, nil
}

func readMIGMemory(d nvml.Device, r *device.Reading) {
	if current, _, ret := d.GetMigMode(); ret != nvml.SUCCESS || current != nvml.DEVICE_MIG_ENABLE {
		return
	}
	r.MIGMemory = map[string]device.MIGMemory{}
	for _, mig := range migHandles(d) {
		uuid, ret := mig.GetUUID()
		if ret != nvml.SUCCESS {
			continue
		}
		if m, ret := mig.GetMemoryInfo(); ret == nvml.SUCCESS {
			r.MIGMemory[uuid] = device.MIGMemory{Used: m.Used, Free: m.Free}
		}
	}
}

// SetMIGMode turns MIG on or off. It takes effect at once only where nothing uses the GPU; before Hopper the
// GPU must be reset, and stays as it is with MIG.Pending until then.
func (s *Session) SetMIGMode(uuid string, on bool) error {
	calls.RLock()
	defer calls.RUnlock()
	d, err := s.handle(uuid)
	if err != nil {
		return err
	}
	mode := nvml.DEVICE_MIG_DISABLE
	if on {
		mode = nvml.DEVICE_MIG_ENABLE
	}
	activation, ret := d.SetMigMode(mode)
	if ret != nvml.SUCCESS {
		return failure("set the MIG mode of "+uuid, ret)
	}
	return failure("activate the MIG mode of "+uuid, activation)
}

// CreateMIG makes a GPU instance of a profile at a place, with one compute instance that takes all of it.
// Nothing is left behind when the second part fails.
func (s *Session) CreateMIG(uuid string, profileID, start int) (device.MIGInstance, error) {
	calls.RLock()
	defer calls.RUnlock()
	d, err := s.handle(uuid)
	if err != nil {
		return device.MIGInstance{}, err
	}
	memory, _ := d.GetMemoryInfo()
	for kind := range nvml.GPU_INSTANCE_PROFILE_COUNT {
		info, ret := d.GetGpuInstanceProfileInfo(kind)
		if ret != nvml.SUCCESS || int(info.Id) != profileID {
			continue
		}
		profile, _ := s.profile(d, kind, memory.Total)
		size := 0
		for _, p := range profile.Placements {
			if p.Start == start {
				size = p.Size
			}
		}
		if size == 0 {
			return device.MIGInstance{}, fmt.Errorf("create MIG %s at slice %d: the profile can't start there", profile.Name, start)
		}
		gi, ret := d.CreateGpuInstanceWithPlacement(&info, &nvml.GpuInstancePlacement{Start: uint32(start), Size: uint32(size)})
		if ret != nvml.SUCCESS {
			return device.MIGInstance{}, failure(fmt.Sprintf("create MIG %s at slice %d", profile.Name, start), ret)
		}
		m, err := fill(d, gi, int(info.SliceCount), []device.MIGProfile{profile})
		if err != nil {
			gi.Destroy()
			return device.MIGInstance{}, err
		}
		return m, nil
	}
	return device.MIGInstance{}, fmt.Errorf("create a MIG instance of profile %d: %w", profileID, device.ErrUnsupported)
}

// fill puts the compute instance into a new GPU instance, and finds the device that they make.
func fill(d nvml.Device, gi nvml.GpuInstance, slices int, profiles []device.MIGProfile) (device.MIGInstance, error) {
	var whole nvml.ComputeInstanceProfileInfo
	found := false
	for kind := range nvml.COMPUTE_INSTANCE_PROFILE_COUNT {
		info, ret := gi.GetComputeInstanceProfileInfo(kind, nvml.COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED)
		if ret == nvml.SUCCESS && int(info.SliceCount) == slices && !found {
			whole, found = info, true
		}
	}
	if !found {
		return device.MIGInstance{}, fmt.Errorf("find the compute profile that takes all of a GPU instance: %w", device.ErrUnsupported)
	}
	ci, ret := gi.CreateComputeInstance(&whole)
	if ret != nvml.SUCCESS {
		return device.MIGInstance{}, failure("create the compute instance", ret)
	}
	info, ret := gi.GetInfo()
	if ret == nvml.SUCCESS {
		for _, mig := range migHandles(d) {
			m, err := describeInstance(d, mig, profiles)
			if err == nil && m.GI == int(info.Id) {
				return m, nil
			}
		}
	}
	ci.Destroy()
	return device.MIGInstance{}, fmt.Errorf("find the MIG device that was made: the driver doesn't list it")
}

// DestroyMIG takes a GPU instance away, with its compute instances. A program on it makes it fail.
func (s *Session) DestroyMIG(uuid string, id int) error {
	calls.RLock()
	defer calls.RUnlock()
	d, err := s.handle(uuid)
	if err != nil {
		return err
	}
	gi, ret := d.GetGpuInstanceById(id)
	if ret != nvml.SUCCESS {
		return failure(fmt.Sprintf("find GPU instance %d", id), ret)
	}
	for _, mig := range migHandles(d) {
		if of, ret := mig.GetGpuInstanceId(); ret != nvml.SUCCESS || of != id {
			continue
		}
		number, ret := mig.GetComputeInstanceId()
		if ret != nvml.SUCCESS {
			continue
		}
		ci, ret := gi.GetComputeInstanceById(number)
		if ret != nvml.SUCCESS {
			return failure(fmt.Sprintf("find compute instance %d of GPU instance %d", number, id), ret)
		}
		if ret := ci.Destroy(); ret != nvml.SUCCESS {
			return failure(fmt.Sprintf("destroy compute instance %d of GPU instance %d", number, id), ret)
		}
	}
	return failure(fmt.Sprintf("destroy GPU instance %d", id), gi.Destroy())
}
