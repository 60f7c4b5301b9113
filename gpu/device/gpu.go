package device

import (
	"fmt"

	"github.com/pintle/pintle/gpu/topology"
)

// System is what holds for the whole machine.
type System struct {
	DriverVersion string // 580.159.04
	NVMLVersion   string
	CUDAVersion   CUDAVersion // the newest that the driver supports
}

// CUDAVersion is 1000·major + 10·minor, as NVML counts: 13000 is 13.0.
type CUDAVersion int

func (v CUDAVersion) Major() int     { return int(v) / 1000 }
func (v CUDAVersion) Minor() int     { return int(v) % 1000 / 10 }
func (v CUDAVersion) String() string { return fmt.Sprintf("%d.%d", v.Major(), v.Minor()) }

// GPU is what a physical GPU is, as far as it doesn't change while it works.
type GPU struct {
	UUID         string // GPU-…
	Index        int    // as nvidia-smi counts: by PCI bus id
	Minor        int    // N of /dev/nvidiaN; -1 unknown
	Name         string // NVIDIA H100 80GB HBM3
	Brand        string
	Architecture string // Hopper
	Serial       string

	ComputeMajor, ComputeMinor int
	MemoryBytes                uint64

	PCI  PCI
	NUMA int    // -1 unknown, or the machine has one node
	CPUs string // near CPUs as a list, 0-15,64-79; "" unknown

	ECC            *bool // nil: has none
	PersistentMode *bool
	PowerLimit     uint32 // milliwatts, enforced; 0 unknown
	AddressingMode string // HMM, ATS, None, or "" where the platform has none

	Fabric *Fabric
	Links  []NVLink
	Peers  []Peer // every other GPU of the machine, by index
	MIG    MIG

	// MemoryLimits says that the driver can limit the memory of what runs in a cgroup.
	MemoryLimits bool

	// Unmonitored says why the driver reports no events of this GPU; "": it does.
	Unmonitored string

	// Problem says why the driver could not tell everything: a lost GPU has a UUID, where one is
	// remembered, and a Problem.
	Problem string
}

// PCI places a GPU on the bus.
type PCI struct {
	BusID       string // 0000:0a:00.0, as sysfs writes it
	DeviceID    uint32 // device and vendor
	SubsystemID uint32
	Class       uint32 // 0x0302: 3D controller; 0 unknown
	Root        string // pci0000:00, the root complex above it; "" unknown
	MaxLinkGen  int    // 0 unknown
	MaxWidth    int
}

// Fabric is the NVLink domain of an NVSwitch machine, or of several that share one.
type Fabric struct {
	ClusterUUID string
	CliqueID    uint32
	State       string // completed, in progress, not started
}

// NVLink is one link of a GPU.
type NVLink struct {
	Link        int
	Active      bool
	Version     int
	Remote      string // gpu, switch, npu, or "" unknown
	RemoteBusID string
}

// Peer is another GPU as seen from this one.
type Peer struct {
	Index   int
	PCI     topology.PCILevel
	NVLinks int // links to it, straight or through NVSwitches
}

// ActiveLinks is how many of the GPU's NVLinks are up.
func (g *GPU) ActiveLinks() int {
	n := 0
	for _, l := range g.Links {
		if l.Active {
			n++
		}
	}
	return n
}

// MIG is how a GPU can be divided, and how it is.
type MIG struct {
	Capable   bool
	Enabled   bool
	Pending   bool // the mode after the next reset
	Profiles  []MIGProfile
	Instances []MIGInstance
}

// MIGProfile is a GPU instance profile with the whole of it as one compute instance, as
// nvidia-smi mig -lgip lists it.
type MIGProfile struct {
	topology.Profile
	Max             int // how many fit on an empty GPU
	MemoryMB        uint64
	Multiprocessors int
	CopyEngines     int
	Decoders        int
	Encoders        int
	JPEGs           int
	OFAs            int
}

// MIGInstance is a GPU instance with its compute instance: what a container gets.
type MIGInstance struct {
	UUID            string // MIG-…
	Profile         string // 1g.10gb
	GI, CI          int    // instance ids, as in /proc/driver/nvidia/capabilities
	Placement       topology.Placement
	MemoryMB        uint64
	Multiprocessors int
	SlicesGI        int
	SlicesCI        int
	CopyEngines     int
	Decoders        int
	Encoders        int
	JPEGs           int
	OFAs            int
}
