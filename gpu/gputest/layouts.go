package gputest

import (
	"fmt"

	"github.com/pintle/pintle/gpu/device"
	"github.com/pintle/pintle/gpu/topology"
)

func driver() device.System {
	return device.System{DriverVersion: "580.159.04", NVMLVersion: "13.580.159.04", CUDAVersion: 13000}
}

// DGXA100 is a DGX A100: eight A100 of 80 GB, every one joined to every other by twelve NVLinks through
// NVSwitches.
func DGXA100() *Machine {
	g := device.GPU{
		Name: "NVIDIA A100-SXM4-80GB", Brand: "Nvidia", Architecture: "Ampere",
		ComputeMajor: 8, ComputeMinor: 0, MemoryBytes: 81920 << 20, PowerLimit: 400_000,
		ECC: new(bool), PersistentMode: new(bool),
		PCI: device.PCI{DeviceID: 0x20B210DE, SubsystemID: 0x146310DE, Class: 0x0302, MaxLinkGen: 4, MaxWidth: 16},
		MIG: device.MIG{Capable: true, Profiles: profiles(topology.A100With80GB(), a100Sizes)},
	}
	*g.ECC, *g.PersistentMode = true, true
	return New(driver(), eight(g, machine{
		buses: [8]int{0x07, 0x0f, 0x47, 0x4e, 0x87, 0x90, 0xb7, 0xbd},
		numa:  [8]int{3, 3, 1, 1, 7, 7, 5, 5},
		links: 12, version: 3, switches: 6, socket: 4, pairs: topology.MultiSwitch,
	})...)
}

// DGXH100 is a DGX H100: eight H100 of 80 GB, every one joined to every other by eighteen NVLinks through
// NVSwitches.
func DGXH100() *Machine {
	g := device.GPU{
		Name: "NVIDIA H100 80GB HBM3", Brand: "Nvidia", Architecture: "Hopper",
		ComputeMajor: 9, ComputeMinor: 0, MemoryBytes: 81559 << 20, PowerLimit: 700_000, AddressingMode: "None",
		ECC: new(bool), PersistentMode: new(bool),
		PCI:    device.PCI{DeviceID: 0x233010DE, SubsystemID: 0x16C110DE, Class: 0x0302, MaxLinkGen: 5, MaxWidth: 16},
		Fabric: &device.Fabric{State: "completed"},
		MIG:    device.MIG{Capable: true, Profiles: profiles(topology.H100With80GB(), h100Sizes)},
	}
	*g.ECC, *g.PersistentMode = true, true
	return New(driver(), eight(g, machine{
		buses: [8]int{0x1b, 0x43, 0x52, 0x61, 0x9d, 0xc3, 0xd1, 0xdf},
		numa:  [8]int{0, 0, 0, 0, 1, 1, 1, 1},
		links: 18, version: 4, switches: 4, socket: 4, pairs: topology.SameNUMA,
	})...)
}

// TwoL4 is a small server: two L4 without NVLink and without MIG, below one host bridge.
func TwoL4() *Machine {
	gpus := make([]device.GPU, 2)
	for i := range gpus {
		yes := true
		gpus[i] = device.GPU{
			Name: "NVIDIA L4", Brand: "Nvidia", Architecture: "Ada Lovelace",
			ComputeMajor: 8, ComputeMinor: 9, MemoryBytes: 23034 << 20, PowerLimit: 72_000, ECC: &yes, PersistentMode: &yes,
			PCI:   device.PCI{BusID: fmt.Sprintf("0000:00:%02x.0", 3+i), DeviceID: 0x27B810DE, SubsystemID: 0x16EE10DE, Class: 0x0302, Root: "pci0000:00", MaxLinkGen: 4, MaxWidth: 16},
			CPUs:  "0-23",
			Peers: []device.Peer{{Index: 1 - i, PCI: topology.HostBridge}},
		}
	}
	return New(driver(), gpus...)
}

// OneH200 is a virtual machine with one H200, as a real one was read: no NVLink, and no NUMA node told.
func OneH200() *Machine {
	yes := true
	return New(driver(), device.GPU{
		Name: "NVIDIA H200", Brand: "Nvidia", Architecture: "Hopper",
		ComputeMajor: 9, ComputeMinor: 0, MemoryBytes: 150754820096, PowerLimit: 700_000, AddressingMode: "None", ECC: &yes, PersistentMode: &yes,
		PCI:  device.PCI{BusID: "0000:00:06.0", DeviceID: 0x233510DE, SubsystemID: 0x18BF10DE, Class: 0x0302, Root: "pci0000:00", MaxLinkGen: 5, MaxWidth: 16},
		NUMA: -1, CPUs: "0-15",
		MIG: device.MIG{Capable: true, Profiles: profiles(topology.H200With141GB(), h200Sizes)},
	})
}

type machine struct {
	buses          [8]int
	numa           [8]int
	links, version int
	switches       int
	socket         int               // GPUs of one socket
	pairs          topology.PCILevel // what two neighbours of one NUMA node share
}

func eight(g device.GPU, at machine) []device.GPU {
	out := make([]device.GPU, 8)
	for i := range out {
		out[i] = g
		out[i].Serial = fmt.Sprintf("165042200%04d", i)
		out[i].PCI.BusID = fmt.Sprintf("0000:%02x:00.0", at.buses[i])
		out[i].PCI.Root = fmt.Sprintf("pci0000:%02x", at.buses[i]&0xf0)
		out[i].NUMA = at.numa[i]
		out[i].CPUs = fmt.Sprintf("%d-%d", at.numa[i]*16, at.numa[i]*16+15)
		for l := range at.links {
			out[i].Links = append(out[i].Links, device.NVLink{Link: l, Active: true, Version: at.version, Remote: "switch", RemoteBusID: fmt.Sprintf("0000:%02x:00.0", 0xf0+l%at.switches)})
		}
		for j := range out {
			if j == i {
				continue
			}
			level := topology.CrossNUMA
			switch {
			case at.numa[i] == at.numa[j]:
				level = at.pairs
			case i/at.socket == j/at.socket:
				level = topology.SameNUMA
			}
			out[i].Peers = append(out[i].Peers, device.Peer{Index: j, PCI: level, NVLinks: at.links})
		}
	}
	return out
}

// size is what an instance of a profile has beside its slices, as nvidia-smi mig -lgip lists it.
type size struct {
	memoryMB                                     uint64
	multiprocessors, copies, decoders, jpeg, ofa int
}

var a100Sizes = map[string]size{
	"1g.10gb": {9728, 14, 1, 0, 0, 0}, "1g.10gb+me": {9728, 14, 1, 1, 1, 1}, "1g.20gb": {19968, 14, 1, 1, 0, 0},
	"2g.20gb": {19968, 28, 2, 1, 0, 0}, "3g.40gb": {40192, 42, 3, 2, 0, 0}, "4g.40gb": {40192, 56, 4, 2, 0, 0},
	"7g.80gb": {80640, 98, 7, 5, 1, 1},
}

var h100Sizes = map[string]size{
	"1g.10gb": {9984, 16, 1, 1, 1, 0}, "1g.10gb+me": {9984, 16, 1, 1, 1, 1}, "1g.20gb": {20096, 26, 1, 1, 1, 0},
	"2g.20gb": {20096, 32, 2, 2, 2, 0}, "3g.40gb": {40448, 60, 3, 3, 3, 0}, "4g.40gb": {40448, 64, 4, 4, 4, 0},
	"7g.80gb": {81152, 132, 8, 7, 7, 1},
}

var h200Sizes = map[string]size{
	"1g.18gb": {16384, 16, 1, 1, 1, 0}, "1g.18gb+me": {16384, 16, 1, 1, 1, 1}, "1g.35gb": {33280, 26, 1, 1, 1, 0},
	"2g.35gb": {33280, 32, 2, 2, 2, 0}, "3g.71gb": {71424, 60, 3, 3, 3, 0}, "4g.71gb": {71424, 64, 4, 4, 4, 0},
	"7g.141gb": {143360, 132, 8, 7, 7, 1},
}

func profiles(layout topology.Layout, sizes map[string]size) []device.MIGProfile {
	var out []device.MIGProfile
	for _, p := range layout {
		s := sizes[p.Name]
		most := len(p.Placements)
		if p.Only > 0 {
			most = p.Only
		}
		out = append(out, device.MIGProfile{
			Profile: p, Max: most, MemoryMB: s.memoryMB, Multiprocessors: s.multiprocessors,
			CopyEngines: s.copies, Decoders: s.decoders, JPEGs: s.jpeg, OFAs: s.ofa,
		})
	}
	return out
}
