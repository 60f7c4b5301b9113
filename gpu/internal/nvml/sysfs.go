//go:build linux && cgo && !nonvml

package nvml

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// fromSysfs says what the kernel knows of a PCI device: the root complex above it, its class, its NUMA node
// (-1 unknown) and the CPUs near it. Containers and some virtual machines hide any of them.
func fromSysfs(sys, bus string) (root string, class uint32, numa int, cpus string) {
	numa = -1
	dir := filepath.Join(sys, "bus/pci/devices", bus)
	read := func(name string) string {
		b, _ := os.ReadFile(filepath.Join(dir, name))
		return strings.TrimSpace(string(b))
	}
	if target, err := filepath.EvalSymlinks(dir); err == nil {
		for part := range strings.SplitSeq(target, "/") {
			if strings.HasPrefix(part, "pci") {
				root = part
				break
			}
		}
	}
	if v, err := strconv.ParseUint(strings.TrimPrefix(read("class"), "0x"), 16, 32); err == nil {
		class = uint32(v >> 8) // the lowest byte is the programming interface
	}
	if v, err := strconv.Atoi(read("numa_node")); err == nil {
		numa = v
	}
	return root, class, numa, read("local_cpulist")
}
