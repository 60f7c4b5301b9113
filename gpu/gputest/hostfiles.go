package gputest

import (
	"fmt"
	"os"
	"path/filepath"
)

// HostFiles makes, below a folder that stands for a host's root, the files of the driver that containers get of this
// machine: device files, those that open MIG instances (of up to 63 made so far and later), the CUDA library. Mknod makes a
// device file; nil: plain files stand for them.
func (m *Machine) HostFiles(root string, mknod func(path string) error) error {
	m.mu.Lock()
	version, gpus := m.system.DriverVersion, len(m.gpus)
	m.mu.Unlock()
	plain := func(path, content string) error {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		return os.WriteFile(path, []byte(content), 0o644)
	}
	node := func(path string) error {
		if mknod == nil {
			return plain(path, "")
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		return mknod(path)
	}
	nodes := []string{"/dev/nvidiactl", "/dev/nvidia-uvm"}
	files := map[string]string{"/usr/lib/x86_64-linux-gnu/libcuda.so." + version: "", "/usr/bin/nvidia-smi": ""}
	cap := 1
	for i := range gpus {
		nodes = append(nodes, fmt.Sprintf("/dev/nvidia%d", i))
		for gi := range 64 {
			dir := fmt.Sprintf("/proc/driver/nvidia/capabilities/gpu%d/mig/gi%d", i, gi)
			for _, access := range []string{dir + "/access", dir + "/ci0/access"} {
				files[access] = fmt.Sprintf("DeviceFileMinor: %d\nDeviceFileMode: 256\n", cap)
				nodes = append(nodes, fmt.Sprintf("/dev/nvidia-caps/nvidia-cap%d", cap))
				cap++
			}
		}
	}
	for path, content := range files {
		if err := plain(filepath.Join(root, path), content); err != nil {
			return fmt.Errorf("gputest: make the driver's files: %w", err)
		}
	}
	for _, path := range nodes {
		if err := node(filepath.Join(root, path)); err != nil {
			return fmt.Errorf("gputest: make the driver's device files: %w", err)
		}
	}
	return nil
}
