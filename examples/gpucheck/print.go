package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/pintle/pintle/gpu"
)

func printInventory(out io.Writer, inv *gpu.Inventory) {
	fmt.Fprintf(out, "Driver %s, CUDA %s, NVML %s, %d GPUs\n", inv.System.DriverVersion, inv.System.CUDAVersion, inv.System.NVMLVersion, len(inv.Devices))
	for i := range inv.Devices {
		d := &inv.Devices[i]
		fmt.Fprintf(out, "\nGPU %d  %s  %s\n", d.Index, d.Name, d.UUID)
		if d.Problem != "" {
			fmt.Fprintf(out, "  problem    %s\n", d.Problem)
			continue
		}
		fmt.Fprintf(out, "  chip       %s, compute capability %d.%d, %d MiB, ECC %s\n", d.Architecture, d.ComputeMajor, d.ComputeMinor, d.MemoryBytes>>20, orNone(enabled(d.ECC)))
		fmt.Fprintf(out, "  bus        %s under %s, PCIe %d x%d, NUMA node %s, CPUs %s, /dev/nvidia%d\n", d.PCI.BusID, orNone(d.PCI.Root), d.PCI.MaxLinkGen, d.PCI.MaxWidth, node(d.NUMA), orNone(d.CPUs), d.Minor)
		fmt.Fprintf(out, "  NVLink     %d links, %d up; fabric %s\n", len(d.Links), d.ActiveLinks(), fabric(d))
		printMIG(out, d)
		if r := d.Reading; r != nil {
			fmt.Fprintf(out, "  now        %s °C, %s W, GPU %s %%, memory %s of %d MiB used, clocks %s, slowed by: %s\n", number32(r.Temperature, 1), number32(r.Power, 1000), number32(r.GPUUtil, 1),
				mib(r.MemoryUsed), d.MemoryBytes>>20, number32(r.SMClock, 1), orNone(strings.Join(r.Throttle.Names(), ", ")))
		}
		health := "healthy"
		if !d.Healthy() {
			health = d.Why()
		}
		fmt.Fprintf(out, "  health     %s\n", health)
	}
	if len(inv.Devices) > 1 {
		printLinks(out, inv)
	}
	fmt.Fprintln(out, "\nLabels:")
	labels := inv.Labels()
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(out, "  %s=%s\n", k, labels[k])
	}
	fmt.Fprintln(out, "Resources:")
	resources := inv.Resources()
	for _, k := range slices.Sorted(maps.Keys(resources)) {
		fmt.Fprintf(out, "  %s: %d, %d allocatable\n", k, resources[k].Capacity, resources[k].Allocatable)
	}
}

func printMIG(out io.Writer, d *gpu.Device) {
	if !d.MIG.Capable {
		fmt.Fprintln(out, "  MIG        not capable")
		return
	}
	mode := "off"
	if d.MIG.Enabled {
		mode = "on"
	}
	fmt.Fprintf(out, "  MIG        %s, %d profiles\n", mode, len(d.MIG.Profiles))
	for _, p := range d.MIG.Profiles {
		var places []string
		for _, at := range p.Placements {
			places = append(places, at.String())
		}
		fmt.Fprintf(out, "             %-12s id %2d, at most %d, %6d MiB, %3d multiprocessors, at %s\n", p.Name, p.ID, p.Max, p.MemoryMB, p.Multiprocessors, orNone(strings.Join(places, " ")))
	}
	for _, m := range d.MIG.Instances {
		fmt.Fprintf(out, "             %s at %s: %s, GPU instance %d, compute instance %d\n", m.Profile, m.Placement, m.UUID, m.GI, m.CI)
	}
}

func printLinks(out io.Writer, inv *gpu.Inventory) {
	fmt.Fprintln(out, "\nLinks:")
	for i := range inv.Devices {
		fmt.Fprintf(out, "  GPU %-3d", i)
		for j := range inv.Devices {
			word := "X"
			if i != j {
				word = inv.Link(i, j).String()
			}
			fmt.Fprintf(out, " %-5s", word)
		}
		fmt.Fprintln(out)
	}
}

func fabric(d *gpu.Device) string {
	if d.Fabric == nil {
		return "none"
	}
	return fmt.Sprintf("%s.%d, %s", orNone(d.Fabric.ClusterUUID), d.Fabric.CliqueID, d.Fabric.State)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func node(n int) string {
	if n < 0 {
		return "unknown"
	}
	return fmt.Sprint(n)
}

func number32(v *uint32, unit uint32) string {
	if v == nil {
		return "?"
	}
	return fmt.Sprint(*v / unit)
}

func mib(v *uint64) string {
	if v == nil {
		return "?"
	}
	return fmt.Sprint(*v >> 20)
}
