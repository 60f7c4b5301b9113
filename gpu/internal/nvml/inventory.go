//go:build linux && cgo && !nonvml

package nvml

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/pintle/pintle/gpu/device"
	"github.com/pintle/pintle/gpu/topology"
)

// GPUs lists the machine's GPUs by index. One that doesn't answer is listed with a Problem.
func (s *Session) GPUs() ([]device.GPU, error) {
	calls.RLock()
	defer calls.RUnlock()
	count, ret := s.lib.DeviceGetCount()
	if ret != nvml.SUCCESS {
		return nil, failure("count the GPUs", ret)
	}
	gpus := make([]device.GPU, count)
	handles := make([]nvml.Device, count)
	for i := range gpus {
		gpus[i] = device.GPU{Index: i, Minor: -1, NUMA: -1}
		d, ret := s.lib.DeviceGetHandleByIndex(i)
		if ret != nvml.SUCCESS {
			gpus[i].Problem = failure(fmt.Sprintf("ask GPU %d", i), ret).Error()
			continue
		}
		handles[i] = d
		s.describe(d, &gpus[i])
	}
	for i := range gpus {
		if handles[i] != nil {
			gpus[i].Peers = peers(i, handles, gpus)
		}
	}
	return gpus, nil
}

// describe fills g in. What a GPU doesn't support stays absent; what should have worked is a Problem.
func (s *Session) describe(d nvml.Device, g *device.GPU) {
	must := func(action string, ret nvml.Return) bool {
		if ret != nvml.SUCCESS && g.Problem == "" {
			g.Problem = failure(action, ret).Error()
		}
		return ret == nvml.SUCCESS
	}
	var ret nvml.Return
	g.UUID, ret = d.GetUUID()
	if !must("ask for the UUID", ret) {
		return
	}
	g.Unmonitored = s.unmonitored[""]
	if why := s.unmonitored[g.UUID]; why != "" {
		g.Unmonitored = why
	}
	g.Name, ret = d.GetName()
	must("ask for the name", ret)
	if minor, ret := d.GetMinorNumber(); ret == nvml.SUCCESS {
		g.Minor = minor
	}
	if brand, ret := d.GetBrand(); ret == nvml.SUCCESS {
		g.Brand = brandName(brand)
	}
	if s.has("nvmlDeviceGetArchitecture") {
		if arch, ret := d.GetArchitecture(); ret == nvml.SUCCESS {
			g.Architecture = architectureName(arch)
		}
	}
	g.Serial, _ = d.GetSerial()
	g.ComputeMajor, g.ComputeMinor, ret = d.GetCudaComputeCapability()
	must("ask for the compute capability", ret)
	memory, ret := d.GetMemoryInfo()
	if ret != nvml.ERROR_NOT_SUPPORTED { // as on GPUs that share the machine's memory
		must("ask for the memory", ret)
	}
	g.MemoryBytes = memory.Total
	if s.has("nvmlDeviceGetMemoryInfo_v2") { // v1's total is the same; nvidia-smi shows v2's
		if m, ret := d.GetMemoryInfo_v2(); ret == nvml.SUCCESS {
			g.MemoryBytes = m.Total
		}
	}
	s.describePCI(d, g)
	if current, _, ret := d.GetEccMode(); ret == nvml.SUCCESS {
		g.ECC = ptr(current == nvml.FEATURE_ENABLED)
	}
	if mode, ret := d.GetPersistenceMode(); ret == nvml.SUCCESS {
		g.PersistentMode = ptr(mode == nvml.FEATURE_ENABLED)
	}
	if limit, ret := d.GetEnforcedPowerLimit(); ret == nvml.SUCCESS {
		g.PowerLimit = limit
	}
	if s.has("nvmlDeviceGetAddressingMode") {
		if mode, ret := d.GetAddressingMode(); ret == nvml.SUCCESS {
			g.AddressingMode = [...]string{"None", "HMM", "ATS", ""}[min(mode.Value, 3)]
		}
	}
	if s.has("nvmlDeviceGetGpuFabricInfo") {
		if f, ret := d.GetGpuFabricInfo(); ret == nvml.SUCCESS && f.State != nvml.GPU_FABRIC_STATE_NOT_SUPPORTED {
			g.Fabric = &device.Fabric{ClusterUUID: uuidText(f.ClusterUuid), CliqueID: f.CliqueId, State: fabricState(f.State)}
		}
	}
	g.MemoryLimits = s.limitsMemory(d)
	g.Links = links(d)
	s.describeMIG(d, g)
}

func (s *Session) describePCI(d nvml.Device, g *device.GPU) {
	info, ret := d.GetPciInfo()
	if ret != nvml.SUCCESS {
		return
	}
	g.PCI.BusID = busID(info)
	g.PCI.DeviceID, g.PCI.SubsystemID = info.PciDeviceId, info.PciSubSystemId
	if gen, ret := d.GetMaxPcieLinkGeneration(); ret == nvml.SUCCESS {
		g.PCI.MaxLinkGen = gen
	}
	if width, ret := d.GetMaxPcieLinkWidth(); ret == nvml.SUCCESS {
		g.PCI.MaxWidth = width
	}
	g.PCI.Root, g.PCI.Class, g.NUMA, g.CPUs = fromSysfs("/sys", g.PCI.BusID)
	if g.NUMA < 0 && s.has("nvmlDeviceGetNumaNodeId") {
		if node, ret := d.GetNumaNodeId(); ret == nvml.SUCCESS {
			g.NUMA = node
		}
	}
	if g.CPUs == "" {
		if words, ret := d.GetCpuAffinity(runtime.NumCPU()); ret == nvml.SUCCESS {
			g.CPUs = cpuList(words)
		}
	}
}

func busID(info nvml.PciInfo) string {
	return fmt.Sprintf("%04x:%02x:%02x.0", info.Domain, info.Bus, info.Device)
}

func links(d nvml.Device) []device.NVLink {
	var out []device.NVLink
	for i := range nvml.NVLINK_MAX_LINKS {
		state, ret := d.GetNvLinkState(i)
		if ret != nvml.SUCCESS { // no such link, or no NVLink at all
			continue
		}
		link := device.NVLink{Link: i, Active: state == nvml.FEATURE_ENABLED}
		if link.Active {
			if v, ret := d.GetNvLinkVersion(i); ret == nvml.SUCCESS {
				link.Version = int(v)
			}
			if info, ret := d.GetNvLinkRemotePciInfo(i); ret == nvml.SUCCESS {
				link.RemoteBusID = busID(info)
			}
		}
		out = append(out, link)
	}
	return out
}

// peers says how GPU i reaches the others. A link whose far end is a GPU's bus id is straight; with
// NVSwitches the far ends are switches, and the driver says whether two GPUs reach each other through them.
func peers(i int, handles []nvml.Device, gpus []device.GPU) []device.Peer {
	var out []device.Peer
	for j := range gpus {
		if j == i || handles[j] == nil {
			continue
		}
		p := device.Peer{Index: j}
		if level, ret := handles[i].GetTopologyCommonAncestor(handles[j]); ret == nvml.SUCCESS {
			p.PCI = pciLevel(level)
		}
		others := 0
		for _, l := range gpus[i].Links {
			switch {
			case !l.Active:
			case l.RemoteBusID == gpus[j].PCI.BusID:
				p.NVLinks++
			case !isGPU(l.RemoteBusID, gpus):
				others++
			}
		}
		if p.NVLinks == 0 && others > 0 {
			if status, ret := handles[i].GetP2PStatus(handles[j], nvml.P2P_CAPS_INDEX_NVLINK); ret == nvml.SUCCESS && status == nvml.P2P_STATUS_OK {
				p.NVLinks = min(others, gpus[j].ActiveLinks())
			}
		}
		out = append(out, p)
	}
	return out
}

func isGPU(bus string, gpus []device.GPU) bool {
	for i := range gpus {
		if gpus[i].PCI.BusID == bus {
			return true
		}
	}
	return false
}

func pciLevel(level nvml.GpuTopologyLevel) topology.PCILevel {
	switch level {
	case nvml.TOPOLOGY_INTERNAL:
		return topology.SameBoard
	case nvml.TOPOLOGY_SINGLE:
		return topology.SingleSwitch
	case nvml.TOPOLOGY_MULTIPLE:
		return topology.MultiSwitch
	case nvml.TOPOLOGY_HOSTBRIDGE:
		return topology.HostBridge
	case nvml.TOPOLOGY_NODE:
		return topology.SameNUMA
	case nvml.TOPOLOGY_SYSTEM:
		return topology.CrossNUMA
	}
	return topology.UnknownPCI
}

func ptr[T any](v T) *T { return &v }

func uuidText(b [16]uint8) string {
	if b == [16]uint8{} {
		return ""
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

func fabricState(state uint8) string {
	switch state {
	case nvml.GPU_FABRIC_STATE_NOT_STARTED:
		return "not started"
	case nvml.GPU_FABRIC_STATE_IN_PROGRESS:
		return "in progress"
	case nvml.GPU_FABRIC_STATE_COMPLETED:
		return "completed"
	}
	return "unknown"
}

func architectureName(a nvml.DeviceArchitecture) string {
	switch a {
	case nvml.DEVICE_ARCH_KEPLER:
		return "Kepler"
	case nvml.DEVICE_ARCH_MAXWELL:
		return "Maxwell"
	case nvml.DEVICE_ARCH_PASCAL:
		return "Pascal"
	case nvml.DEVICE_ARCH_VOLTA:
		return "Volta"
	case nvml.DEVICE_ARCH_TURING:
		return "Turing"
	case nvml.DEVICE_ARCH_AMPERE:
		return "Ampere"
	case nvml.DEVICE_ARCH_ADA:
		return "Ada Lovelace"
	case nvml.DEVICE_ARCH_HOPPER:
		return "Hopper"
	case nvml.DEVICE_ARCH_BLACKWELL:
		return "Blackwell"
	}
	return "Unknown"
}

func brandName(b nvml.BrandType) string {
	names := []string{"Unknown", "Quadro", "Tesla", "NVS", "Grid", "GeForce", "Titan", "NvidiaVApps", "NvidiaVPC", "NvidiaVCS",
		"NvidiaVWS", "NvidiaCloudGaming", "QuadroRTX", "NvidiaRTX", "Nvidia", "GeForceRTX", "TitanRTX"}
	if int(b) < len(names) && b >= 0 {
		return names[b]
	}
	return "Unknown"
}

// cpuList writes a bit set as the kernel writes CPU lists: 0-3,8.
func cpuList(words []uint) string {
	var runs []string
	const bits = 64
	for cpu := 0; cpu < len(words)*bits; cpu++ {
		if words[cpu/bits]>>(cpu%bits)&1 == 0 {
			continue
		}
		last := cpu
		for last+1 < len(words)*bits && words[(last+1)/bits]>>((last+1)%bits)&1 == 1 {
			last++
		}
		if last == cpu {
			runs = append(runs, fmt.Sprint(cpu))
		} else {
			runs = append(runs, fmt.Sprintf("%d-%d", cpu, last))
		}
		cpu = last
	}
	return strings.Join(runs, ",")
}
