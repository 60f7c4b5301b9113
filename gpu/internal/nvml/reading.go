//go:build linux && cgo && !nonvml

package nvml

import (
	"encoding/binary"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/pintle/pintle/gpu/device"
)

// Read asks a GPU how it is. An error means that the GPU can't be asked; a value it lacks is nil.
func (s *Session) Read(uuid string) (device.Reading, error) {
	calls.RLock()
	defer calls.RUnlock()
	d, err := s.handle(uuid)
	if err != nil {
		return device.Reading{}, err
	}
	r := device.Reading{At: time.Now(), Recovery: device.RecoveryUnknown}
	temperature, ret := d.GetTemperature(nvml.TEMPERATURE_GPU)
	if ret == nvml.ERROR_GPU_IS_LOST || ret == nvml.ERROR_UNINITIALIZED || ret == nvml.ERROR_RESET_REQUIRED {
		return device.Reading{}, failure("read the temperature of GPU "+uuid, ret)
	}
	r.Temperature = known(temperature, ret)
	threshold := func(t nvml.TemperatureThresholds) *uint32 {
		v, ret := d.GetTemperatureThreshold(t)
		return known(v, ret)
	}
	r.SlowdownTemperature, r.ShutdownLimit = threshold(nvml.TEMPERATURE_THRESHOLD_SLOWDOWN), threshold(nvml.TEMPERATURE_THRESHOLD_SHUTDOWN)
	if u, ret := d.GetUtilizationRates(); ret == nvml.SUCCESS {
		r.GPUUtil, r.MemUtil = &u.Gpu, &u.Memory
	}
	enc, _, ret := d.GetEncoderUtilization()
	r.EncUtil = known(enc, ret)
	dec, _, ret := d.GetDecoderUtilization()
	r.DecUtil = known(dec, ret)
	s.readMemory(d, &r)
	power, ret := d.GetPowerUsage()
	r.Power = known(power, ret)
	energy, ret := d.GetTotalEnergyConsumption()
	r.Energy = known(energy, ret)
	clock := func(c nvml.ClockType) *uint32 {
		v, ret := d.GetClockInfo(c)
		return known(v, ret)
	}
	r.SMClock, r.MemClock = clock(nvml.CLOCK_SM), clock(nvml.CLOCK_MEM)
	if n, ret := d.GetPcieReplayCounter(); ret == nvml.SUCCESS {
		r.PCIeReplays = ptr(uint64(n))
	}
	if reasons, ret := d.GetCurrentClocksThrottleReasons(); ret == nvml.SUCCESS {
		r.Throttle = device.Throttle(reasons)
	}
	ecc := func(kind nvml.MemoryErrorType) *uint64 {
		v, ret := d.GetTotalEccErrors(kind, nvml.VOLATILE_ECC)
		return known(v, ret)
	}
	r.ECCCorrected, r.ECCUncorrected = ecc(nvml.MEMORY_ERROR_TYPE_CORRECTED), ecc(nvml.MEMORY_ERROR_TYPE_UNCORRECTED)
	if s.has("nvmlDeviceGetRemappedRows") {
		if correctable, uncorrectable, pending, failed, ret := d.GetRemappedRows(); ret == nvml.SUCCESS {
			r.Rows = &device.RemappedRows{Correctable: correctable, Uncorrectable: uncorrectable, Pending: pending, Failed: failed}
		}
	}
	if state, ret := d.GetRetiredPagesPendingStatus(); ret == nvml.SUCCESS {
		r.RetiredPending = ptr(state == nvml.FEATURE_ENABLED)
	}
	readFields(d, &r)
	readLinks(d, &r)
	s.readProcesses(d, uuid, &r)
	readMIGMemory(d, &r)
	return r, nil
}

func known[T any](v T, ret nvml.Return) *T {
	if ret != nvml.SUCCESS {
		return nil
	}
	return &v
}

func (s *Session) readMemory(d nvml.Device, r *device.Reading) {
	if s.has("nvmlDeviceGetMemoryInfo_v2") {
		if m, ret := d.GetMemoryInfo_v2(); ret == nvml.SUCCESS {
			r.MemoryUsed, r.MemoryFree, r.MemoryReserved = &m.Used, &m.Free, &m.Reserved
			return
		}
	}
	if m, ret := d.GetMemoryInfo(); ret == nvml.SUCCESS {
		r.MemoryUsed, r.MemoryFree = &m.Used, &m.Free
	}
}

// readFields reads what has no function of its own. A field that a driver doesn't know fails alone.
func readFields(d nvml.Device, r *device.Reading) {
	fields := []nvml.FieldValue{{FieldId: nvml.FI_DEV_MEMORY_TEMP}, {FieldId: nvml.FI_DEV_GET_GPU_RECOVERY_ACTION}}
	if d.GetFieldValues(fields) != nvml.SUCCESS {
		return
	}
	value := func(f nvml.FieldValue) (uint32, bool) {
		return binary.NativeEndian.Uint32(f.Value[:]), nvml.Return(f.NvmlReturn) == nvml.SUCCESS
	}
	if v, ok := value(fields[0]); ok {
		r.MemoryTemperature = &v
	}
	if v, ok := value(fields[1]); ok {
		r.Recovery = device.RecoveryAction(v)
	}
}

func readLinks(d nvml.Device, r *device.Reading) {
	for i := range nvml.NVLINK_MAX_LINKS {
		state, ret := d.GetNvLinkState(i)
		if ret != nvml.SUCCESS || state != nvml.FEATURE_ENABLED {
			continue
		}
		r.LinksUp++
		e := device.LinkErrors{Link: i}
		counted := false
		for counter, to := range map[nvml.NvLinkErrorCounter]*uint64{
			nvml.NVLINK_ERROR_DL_REPLAY: &e.Replay, nvml.NVLINK_ERROR_DL_RECOVERY: &e.Recovery, nvml.NVLINK_ERROR_DL_CRC_FLIT: &e.CRCFlits,
		} {
			if v, ret := d.GetNvLinkErrorCounter(i, counter); ret == nvml.SUCCESS {
				*to, counted = v, true
			}
		}
		if counted {
			r.LinkErrors = append(r.LinkErrors, e)
		}
	}
}

func (s *Session) readProcesses(d nvml.Device, uuid string, r *device.Reading) {
	running, ret := d.GetComputeRunningProcesses()
	if ret != nvml.SUCCESS {
		return
	}
	for _, p := range running {
		process := device.Process{PID: p.Pid, GI: instance(p.GpuInstanceId), CI: instance(p.ComputeInstanceId)}
		if p.UsedGpuMemory != ^uint64(0) {
			process.Memory = ptr(p.UsedGpuMemory)
		}
		r.Processes = append(r.Processes, process)
	}
	s.mu.Lock()
	since := s.seenAt[uuid]
	s.mu.Unlock()
	samples, ret := d.GetProcessUtilization(since)
	if ret != nvml.SUCCESS { // not found: nothing ran since; not supported: MIG
		return
	}
	for _, sample := range samples {
		since = max(since, sample.TimeStamp)
		for i := range r.Processes {
			if r.Processes[i].PID == sample.Pid {
				r.Processes[i].Util = ptr(sample.SmUtil)
			}
		}
	}
	s.mu.Lock()
	s.seenAt[uuid] = since
	s.mu.Unlock()
}
