package gpu

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/pintle/pintle/gpu/device"
)

// ResourceGPU is the extended resource of whole GPUs, or of shares of them.
const ResourceGPU = "nvidia.com/gpu"

// MIGResource is the extended resource of a MIG profile.
func MIGResource(profile string) string { return "nvidia.com/mig-" + migName(profile) }

func migName(profile string) string { return strings.ReplaceAll(profile, "+", ".") }

// Labels are the node's labels, as NVIDIA's GPU feature discovery writes them with the MIG strategy mixed.
// Without GPUs there are none. Of several models the last by index gives its name to nvidia.com/gpu.*.
func (inv *Inventory) Labels() map[string]string {
	if len(inv.Devices) == 0 || inv.Unavailable != "" {
		return map[string]string{}
	}
	l := map[string]string{}
	inv.versionLabels(l)
	capable := false
	counts := map[string]int{}
	for i := range inv.Devices {
		d := &inv.Devices[i]
		capable = capable || d.MIG.Capable
		if d.UUID == "" {
			continue
		}
		counts[d.Name]++
	}
	l["nvidia.com/mig.capable"] = strconv.FormatBool(capable)
	l["nvidia.com/mig.strategy"] = "mixed"
	l["nvidia.com/mps.capable"] = strconv.FormatBool(inv.Sharing.Mode == MPS)
	l["nvidia.com/gpu.mode"] = inv.mode()
	for _, whole := range []bool{false, true} { // whole GPUs override those that are divided
		for i := range inv.Devices {
			if d := &inv.Devices[i]; d.UUID != "" && d.MIG.Enabled != whole {
				inv.gpuLabels(l, d, counts[d.Name])
			}
		}
	}
	inv.migLabels(l)
	return l
}

func (inv *Inventory) versionLabels(l map[string]string) {
	parts := append(strings.Split(inv.System.DriverVersion, "."), "", "", "")
	cuda := inv.System.CUDAVersion
	for key, value := range map[string]string{
		"cuda.driver.major": parts[0], "cuda.driver.minor": parts[1], "cuda.driver.rev": parts[2],
		"cuda.runtime.major": strconv.Itoa(cuda.Major()), "cuda.runtime.minor": strconv.Itoa(cuda.Minor()),
		"cuda.driver-version.major": parts[0], "cuda.driver-version.minor": parts[1], "cuda.driver-version.revision": parts[2],
		"cuda.driver-version.full":   inv.System.DriverVersion,
		"cuda.runtime-version.major": strconv.Itoa(cuda.Major()), "cuda.runtime-version.minor": strconv.Itoa(cuda.Minor()),
		"cuda.runtime-version.full": cuda.String(),
	} {
		l["nvidia.com/"+key] = value
	}
}

func (inv *Inventory) mode() string {
	mode := ""
	for i := range inv.Devices {
		word := "unknown"
		switch inv.Devices[i].PCI.Class {
		case 0x0300:
			word = "graphics"
		case 0x0302:
			word = "compute"
		}
		if mode != "" && mode != word {
			return "unknown"
		}
		mode = word
	}
	return mode
}

func (inv *Inventory) gpuLabels(l map[string]string, d *Device, count int) {
	replicas, strategy, product := inv.Sharing.Replicas, string(inv.Sharing.Mode), sanitise(d.Name)
	if replicas < 1 {
		replicas = 1
	}
	if replicas > 1 && !d.MIG.Enabled {
		product += "-SHARED"
	} else {
		strategy = "none"
	}
	if d.MIG.Enabled {
		replicas = 0
	}
	set := func(key string, value any) { l["nvidia.com/gpu."+key] = fmt.Sprint(value) }
	set("product", product)
	set("count", count)
	set("replicas", replicas)
	set("sharing-strategy", strategy)
	if d.MemoryBytes > 0 {
		set("memory", d.MemoryBytes>>20)
	}
	if d.ComputeMajor > 0 {
		set("family", family(d.ComputeMajor, d.ComputeMinor))
		set("compute.major", d.ComputeMajor)
		set("compute.minor", d.ComputeMinor)
	}
	if d.Fabric != nil && d.Fabric.ClusterUUID != "" && d.Fabric.State == "completed" {
		set("clique", fmt.Sprintf("%s.%d", d.Fabric.ClusterUUID, d.Fabric.CliqueID))
	}
}

func (inv *Inventory) migLabels(l map[string]string) {
	counts := map[string]int{}
	for i := range inv.Devices {
		for j := range inv.Devices[i].MIG.Instances {
			m := &inv.Devices[i].MIG.Instances[j]
			name := migName(m.Profile)
			counts[name]++
			labelMIG(l, "nvidia.com/mig-"+name+".", sanitise(inv.Devices[i].Name)+"-MIG-"+name, counts[name], m)
		}
	}
}

func labelMIG(l map[string]string, prefix, product string, count int, m *device.MIGInstance) {
	for key, value := range map[string]any{
		"product": product, "count": count, "replicas": 1, "sharing-strategy": "none",
		"memory": m.MemoryMB, "multiprocessors": m.Multiprocessors, "slices.gi": m.SlicesGI, "slices.ci": m.SlicesCI,
		"engines.copy": m.CopyEngines, "engines.decoder": m.Decoders, "engines.encoder": m.Encoders,
		"engines.jpeg": m.JPEGs, "engines.ofa": m.OFAs,
	} {
		l[prefix+key] = fmt.Sprint(value)
	}
}

// family is GPU feature discovery's name of an architecture, by compute capability.
func family(major, minor int) string {
	switch major {
	case 3:
		return "kepler"
	case 5:
		return "maxwell"
	case 6:
		return "pascal"
	case 7:
		if minor < 5 {
			return "volta"
		}
		return "turing"
	case 8:
		if minor < 9 {
			return "ampere"
		}
		return "ada-lovelace"
	case 9:
		return "hopper"
	case 10, 12:
		return "blackwell"
	case 13:
		return "rubin"
	}
	return "undefined"
}

func sanitise(name string) string {
	return strings.Join(strings.Fields(unlabelled.ReplaceAllString(name, "")), "-")
}

var unlabelled = regexp.MustCompile(`[^A-Za-z0-9-_. ]`)
