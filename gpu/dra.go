package gpu

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/pintle/pintle/gpu/device"
)

// DRADriver is the name of NVIDIA's driver for dynamic resource allocation. Attributes without a domain are
// in its domain.
const DRADriver = "gpu.nvidia.com"

// DRADevice is a device as a ResourceSlice lists it: whoever publishes slices makes the API objects.
type DRADevice struct {
	Name       string // gpu-0, or gpu-0-mig-1g10gb-19-0
	UUID       string
	Attributes map[string]Attribute
	Capacity   map[string]int64 // memory in bytes; the rest are counts
	Healthy    bool
	Why        string // what is wrong, where it isn't healthy
}

// Attribute is a value of a device; exactly one field is set.
type Attribute struct {
	String  string
	Version string // a semantic version
	Int     *int64
	Bool    *bool
}

// DRADevices are the devices with the names, attributes and capacities that NVIDIA's driver publishes: whole
// GPUs, and the MIG instances of those that are divided.
func (inv *Inventory) DRADevices() []DRADevice {
	var out []DRADevice
	for i := range inv.Devices {
		d := &inv.Devices[i]
		if d.UUID == "" || d.Minor < 0 {
			continue
		}
		if d.MIG.Enabled {
			for j := range d.MIG.Instances {
				out = append(out, inv.draInstance(d, &d.MIG.Instances[j]))
			}
			continue
		}
		a := inv.common(d)
		a["type"] = Attribute{String: "gpu"}
		a["uuid"] = Attribute{String: d.UUID}
		out = append(out, DRADevice{
			Name: fmt.Sprintf("gpu-%d", d.Minor), UUID: d.UUID, Attributes: a,
			Capacity: map[string]int64{"memory": int64(d.MemoryBytes)},
			Healthy:  d.Healthy(), Why: d.Why(),
		})
	}
	return out
}

func (inv *Inventory) draInstance(d *Device, m *device.MIGInstance) DRADevice {
	a := inv.common(d)
	a["type"] = Attribute{String: "mig"}
	a["uuid"] = Attribute{String: m.UUID}
	a["parentUUID"] = Attribute{String: d.UUID}
	a["profile"] = Attribute{String: m.Profile}
	id := 0
	for _, p := range d.MIG.Profiles {
		if p.Name == m.Profile {
			id = p.ID
		}
	}
	capacity := map[string]int64{
		"memory": int64(m.MemoryMB) << 20, "multiprocessors": int64(m.Multiprocessors), "copyEngines": int64(m.CopyEngines),
		"decoders": int64(m.Decoders), "encoders": int64(m.Encoders), "jpegEngines": int64(m.JPEGs), "ofaEngines": int64(m.OFAs),
	}
	for slice := m.Placement.Start; slice < m.Placement.Start+m.Placement.Size; slice++ {
		capacity[fmt.Sprintf("memorySlice%d", slice)] = 1
	}
	name := fmt.Sprintf("gpu-%d-mig-%s-%d-%d", d.Minor, dnsName(m.Profile), id, m.Placement.Start)
	return DRADevice{Name: name, UUID: m.UUID, Attributes: a, Capacity: capacity, Healthy: d.InstanceHealthy(m.UUID), Why: d.Why()}
}

func (inv *Inventory) common(d *Device) map[string]Attribute {
	a := map[string]Attribute{
		"productName":           {String: d.Name},
		"brand":                 {String: d.Brand},
		"architecture":          {String: d.Architecture},
		"cudaComputeCapability": {Version: fmt.Sprintf("%d.%d.0", d.ComputeMajor, d.ComputeMinor)},
		"driverVersion":         {Version: semver(inv.System.DriverVersion)},
		"cudaDriverVersion":     {Version: semver(inv.System.CUDAVersion.String())},
	}
	if d.AddressingMode != "" {
		a["addressingMode"] = Attribute{String: d.AddressingMode}
	}
	if d.PCI.BusID != "" {
		a["resource.kubernetes.io/pciBusID"] = Attribute{String: d.PCI.BusID}
	}
	if d.PCI.Root != "" {
		a["resource.kubernetes.io/pcieRoot"] = Attribute{String: d.PCI.Root}
	}
	return a
}

// semver makes three numbers of a driver's version: 580.159.04 is 580.159.4, for leading zeros are no version.
func semver(version string) string {
	parts := strings.Split(version, ".")
	for len(parts) < 3 {
		parts = append(parts, "0")
	}
	for i, p := range parts {
		if p = strings.TrimLeft(p, "0"); p == "" {
			p = "0"
		}
		parts[i] = p
	}
	return strings.Join(parts[:3], ".")
}

func dnsName(profile string) string {
	name := strings.ToLower(strings.ReplaceAll(profile, ".", ""))
	return strings.Trim(notDNS.ReplaceAllString(name, "-"), "-")
}

var notDNS = regexp.MustCompile(`[^a-z0-9-]`)
