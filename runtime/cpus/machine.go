package cpus

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// CPU is a hardware thread.
type CPU struct {
	ID, NUMA int
	Core     string // threads of one core have the same
}

// Machine is a machine's CPUs and memory. It doesn't change once made.
type Machine struct {
	CPUs   []CPU         // in order
	Memory map[int]int64 // bytes, by NUMA node
}

// All is the set of its CPUs.
func (m *Machine) All() Set {
	ids := make([]int, len(m.CPUs))
	for i, c := range m.CPUs {
		ids[i] = c.ID
	}
	return Of(ids...)
}

// Nodes are the NUMA nodes of some CPUs.
func (m *Machine) Nodes(s Set) Set {
	var nodes []int
	for _, c := range m.CPUs {
		if s.Has(c.ID) {
			nodes = append(nodes, c.NUMA)
		}
	}
	return Of(nodes...)
}

// Read reads the machine from sysfs, at /sys usually. A kernel without NUMA has one node, 0.
func Read(sysfs string) (*Machine, error) {
	m := &Machine{Memory: map[int]int64{}}
	online, err := list(filepath.Join(sysfs, "devices/system/cpu/online"))
	if err != nil {
		return nil, fmt.Errorf("read the CPUs: %w", err)
	}
	numa := map[int]int{}
	nodes, _ := list(filepath.Join(sysfs, "devices/system/node/online"))
	for _, n := range nodes {
		dir := filepath.Join(sysfs, "devices/system/node", "node"+strconv.Itoa(n))
		of, err := list(filepath.Join(dir, "cpulist"))
		if err != nil {
			return nil, fmt.Errorf("read NUMA node %d: %w", n, err)
		}
		for _, id := range of {
			numa[id] = n
		}
		m.Memory[n] = memory(filepath.Join(dir, "meminfo"))
	}
	for _, id := range online {
		dir := filepath.Join(sysfs, "devices/system/cpu", "cpu"+strconv.Itoa(id), "topology")
		core := number(filepath.Join(dir, "physical_package_id")) + "/" + number(filepath.Join(dir, "die_id")) + "/" + number(filepath.Join(dir, "core_id"))
		if core == "//" {
			core = "cpu" + strconv.Itoa(id)
		}
		m.CPUs = append(m.CPUs, CPU{ID: id, NUMA: numa[id], Core: core})
	}
	return m, nil
}

func list(path string) (Set, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(string(raw))
}

func number(path string) string {
	raw, _ := os.ReadFile(path)
	return strings.TrimSpace(string(raw))
}

// memory reads «Node 0 MemTotal: 131900000 kB».
func memory(path string) int64 {
	raw, _ := os.ReadFile(path)
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line)
		if len(f) >= 4 && f[2] == "MemTotal:" {
			n, _ := strconv.ParseInt(f[3], 10, 64)
			return n << 10
		}
	}
	return 0
}
