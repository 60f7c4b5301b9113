package main

import (
	"context"
	"encoding/xml"
	"fmt"
	"math"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/pintle/pintle/gpu"
	"github.com/pintle/pintle/gpu/device"
)

// smiLog is what nvidia-smi -q -x writes, as far as it is compared.
type smiLog struct {
	Driver string   `xml:"driver_version"`
	CUDA   string   `xml:"cuda_version"`
	GPUs   []smiGPU `xml:"gpu"`
}

type smiGPU struct {
	ID           string `xml:"id,attr"`
	Name         string `xml:"product_name"`
	Brand        string `xml:"product_brand"`
	Architecture string `xml:"product_architecture"`
	UUID         string `xml:"uuid"`
	Minor        string `xml:"minor_number"`
	Serial       string `xml:"serial"`
	Persistence  string `xml:"persistence_mode"`
	Addressing   string `xml:"addressing_mode"`
	MIGMode      string `xml:"mig_mode>current_mig"`
	MIG          []struct {
		GI   string `xml:"gpu_instance_id"`
		CI   string `xml:"compute_instance_id"`
		UUID string `xml:"uuid"`
	} `xml:"mig_devices>mig_device"`
	BusID       string `xml:"pci>pci_bus_id"`
	DeviceID    string `xml:"pci>pci_device_id"`
	MaxGen      string `xml:"pci>pci_gpu_link_info>pcie_gen>max_link_gen"`
	MaxWidth    string `xml:"pci>pci_gpu_link_info>link_widths>max_link_width"`
	Total       string `xml:"fb_memory_usage>total"`
	Reserved    string `xml:"fb_memory_usage>reserved"`
	Used        string `xml:"fb_memory_usage>used"`
	ECC         string `xml:"ecc_mode>current_ecc"`
	Temperature string `xml:"temperature>gpu_temp"`
	PowerLimit  string `xml:"gpu_power_readings>current_power_limit"`
	Uncorrected string `xml:"remapped_rows>remapped_row_unc"`
	Pending     string `xml:"remapped_rows>remapped_row_pending"`
	Failure     string `xml:"remapped_rows>remapped_row_failure"`
	Recovery    string `xml:"gpu_recovery_action"`
}

// askSMI runs nvidia-smi. It takes seconds where the driver isn't kept loaded.
func askSMI(ctx context.Context, path string) (*smiLog, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "-q", "-x").Output()
	if err != nil {
		return nil, fmt.Errorf("run %s -q -x: %w: %s", path, err, strings.TrimSpace(string(out)))
	}
	var log smiLog
	if err := xml.Unmarshal(out, &log); err != nil {
		return nil, fmt.Errorf("read what %s -q -x wrote: %w", path, err)
	}
	return &log, nil
}

// finding is the result of one comparison.
type finding struct {
	What       string
	Ours       string
	SMI        string
	Equal      bool
	NotChecked string // why there was nothing to compare; "": there was
}

// compare sets what the Manager says beside what nvidia-smi says. What stands still must be equal; what
// moves must be near, for the two are asked one after the other.
func compare(inv *gpu.Inventory, log *smiLog) []finding {
	c := comparison{}
	c.equal("driver version", inv.System.DriverVersion, log.Driver)
	c.equal("CUDA version", inv.System.CUDAVersion.String(), log.CUDA)
	c.equal("number of GPUs", strconv.Itoa(len(inv.Devices)), strconv.Itoa(len(log.GPUs)))
	for i := range inv.Devices {
		d := &inv.Devices[i]
		at := -1
		for j := range log.GPUs {
			if log.GPUs[j].UUID == d.UUID {
				at = j
			}
		}
		if at < 0 {
			c.equal(fmt.Sprintf("GPU %d", i), d.UUID, "not listed")
			continue
		}
		c.prefix = fmt.Sprintf("GPU %d ", i)
		c.device(d, &log.GPUs[at])
		c.prefix = ""
	}
	return c.findings
}

type comparison struct {
	prefix   string
	findings []finding
}

func (c *comparison) add(f finding) {
	f.What = c.prefix + f.What
	c.findings = append(c.findings, f)
}

// absent says that a program has no value for this.
func absent(s string) bool {
	return s == "" || s == "N/A" || s == "[N/A]" || s == "Requested functionality has been deprecated"
}

func (c *comparison) equal(what, ours, smi string) {
	f := finding{What: what, Ours: ours, SMI: smi, Equal: strings.EqualFold(ours, smi)}
	switch {
	case absent(smi) && absent(ours):
		f.Equal, f.NotChecked = true, "neither has it"
	case absent(smi):
		f.Equal, f.NotChecked = true, "nvidia-smi doesn't tell"
	}
	c.add(f)
}

// near compares numbers that move. tolerance is how far apart they may be.
func (c *comparison) near(what string, ours *float64, smi string, tolerance float64) {
	f := finding{What: what, SMI: smi}
	theirs, ok := number(smi)
	switch {
	case ours == nil && !ok:
		f.Equal, f.NotChecked = true, "neither has it"
	case ours == nil:
		f.Ours = "absent"
	case !ok:
		f.Ours, f.Equal, f.NotChecked = fmt.Sprint(*ours), true, "nvidia-smi doesn't tell"
	default:
		f.Ours = strconv.FormatFloat(*ours, 'f', -1, 64)
		f.Equal = math.Abs(*ours-theirs) <= tolerance
	}
	c.add(f)
}

// number is the number at the start of nvidia-smi's «81559 MiB».
func number(s string) (float64, bool) {
	word, _, _ := strings.Cut(strings.TrimSpace(s), " ")
	v, err := strconv.ParseFloat(strings.TrimSuffix(word, "x"), 64)
	return v, err == nil
}

func (c *comparison) device(d *gpu.Device, s *smiGPU) {
	c.equal("name", d.Name, s.Name)
	c.equal("architecture", d.Architecture, s.Architecture)
	c.equal("brand", d.Brand, strings.ReplaceAll(s.Brand, " ", ""))
	c.equal("serial", d.Serial, s.Serial)
	c.equal("minor number", strconv.Itoa(d.Minor), s.Minor)
	c.equal("PCI bus id", "0000"+d.PCI.BusID, s.BusID) // nvidia-smi writes eight digits of domain
	c.equal("PCI device id", fmt.Sprintf("0x%08X", d.PCI.DeviceID), padded(s.DeviceID))
	c.equal("PCIe generation, at most", whole(d.PCI.MaxLinkGen), s.MaxGen)
	c.equal("PCIe width, at most", whole(d.PCI.MaxWidth), strings.TrimSuffix(s.MaxWidth, "x"))
	c.equal("persistence mode", enabled(d.PersistentMode), s.Persistence)
	c.equal("ECC mode", enabled(d.ECC), s.ECC)
	c.equal("addressing mode", d.AddressingMode, s.Addressing)
	mode := ""
	if d.MIG.Capable {
		mode = enabled(&d.MIG.Enabled)
	}
	c.equal("MIG mode", mode, s.MIGMode)
	c.equal("MIG instances", strconv.Itoa(len(d.MIG.Instances)), strconv.Itoa(len(s.MIG)))
	for _, theirs := range s.MIG {
		found := "not listed"
		for _, m := range d.MIG.Instances {
			if strconv.Itoa(m.GI) == theirs.GI && strconv.Itoa(m.CI) == theirs.CI {
				found = m.UUID
			}
		}
		if theirs.UUID != "" {
			c.equal("MIG instance "+theirs.GI+"/"+theirs.CI, found, theirs.UUID)
		} else {
			c.add(finding{What: "MIG instance " + theirs.GI + "/" + theirs.CI, Ours: found, SMI: "listed", Equal: found != "not listed"})
		}
	}
	total := float64(d.MemoryBytes >> 20)
	c.near("memory, MiB", &total, s.Total, 0)
	limit := float64(d.PowerLimit) / 1000
	c.near("power limit, W", &limit, s.PowerLimit, 0.01)
	r := d.Reading
	if r == nil {
		c.add(finding{What: "reading", Ours: "none", SMI: "some"})
		return
	}
	if r.Recovery == device.RecoveryNone {
		c.equal("recovery action", "None", s.Recovery)
	} else if r.Recovery != device.RecoveryUnknown {
		c.add(finding{What: "recovery action", Ours: r.Recovery.String(), SMI: s.Recovery, Equal: !strings.EqualFold(s.Recovery, "None")})
	}
	c.near("memory reserved, MiB", mebibytes(r.MemoryReserved), s.Reserved, 2)
	c.near("memory used, MiB", mebibytes(r.MemoryUsed), s.Used, 128)
	c.near("temperature, °C", float(r.Temperature), s.Temperature, 6)
	if r.Rows != nil {
		rows := float64(r.Rows.Uncorrectable)
		c.near("remapped rows, uncorrectable", &rows, s.Uncorrected, 0)
		c.equal("rows to be remapped", yes(r.Rows.Pending), s.Pending)
		c.equal("remapping failed", yes(r.Rows.Failed), s.Failure)
	}
}

func padded(s string) string {
	if v, err := strconv.ParseUint(strings.TrimPrefix(s, "0x"), 16, 32); err == nil {
		return fmt.Sprintf("0x%08X", v)
	}
	return s
}

func whole(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func enabled(b *bool) string {
	switch {
	case b == nil:
		return ""
	case *b:
		return "Enabled"
	}
	return "Disabled"
}

func yes(b bool) string {
	if b {
		return "Yes"
	}
	return "No"
}

func mebibytes(v *uint64) *float64 {
	if v == nil {
		return nil
	}
	f := float64(*v) / (1 << 20)
	return &f
}

func float(v *uint32) *float64 {
	if v == nil {
		return nil
	}
	f := float64(*v)
	return &f
}
