package gpu

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// hostFiles finds the driver's files on a host whose file system is at root.
type hostFiles struct{ root string }

func (h hostFiles) at(path string) string { return filepath.Join(h.root, path) }

func (h hostFiles) exists(path string) bool {
	_, err := os.Stat(h.at(path))
	return err == nil
}

// node is a device file, found where the driver's root may be another than the host's.
func (h hostFiles) node(path string) CDINode { return CDINode{Path: path, HostPath: path} }

// libraryFolders are where drivers are installed, the folders of packages before those of images.
var libraryFolders = [...]string{
	"/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/local/nvidia/lib64", "/usr/local/nvidia/lib", "/usr/lib/wsl/lib", "/usr/lib",
}

// containerFolders are searched by the loaders of Debian and Red Hat without a cache.
var containerFolders = [...]string{"/usr/lib/x86_64-linux-gnu", "/usr/lib64"}

// wantedLibrary says which of the driver's libraries a container gets: for computing, video and the like. What
// draws on an X server stays out.
func wantedLibrary(name string) bool {
	for _, prefix := range []string{"libcuda.so", "libcudadebugger.so", "libnvidia-ml.so", "libnvidia-ptxjitcompiler.so", "libnvidia-nvvm.so", "libnvidia-nvvm70.so",
		"libnvidia-opencl.so", "libnvidia-cfg.so", "libnvidia-gpucomp.so", "libnvidia-allocator.so", "libnvidia-encode.so", "libnvidia-opticalflow.so",
		"libnvidia-ngx.so", "libnvidia-sandboxutils.so", "libnvidia-pkcs11", "libnvcuvid.so"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// libraries mounts every library of the driver's version under the names that programs look for.
func (h hostFiles) libraries(version string) ([]CDIMount, error) {
	for _, folder := range libraryFolders {
		entries, err := os.ReadDir(h.at(folder))
		if err != nil {
			continue
		}
		names := map[string][]string{} // the versioned file → what links to it, and itself where nothing does
		for _, e := range entries {
			if !wantedLibrary(e.Name()) {
				continue
			}
			target, err := filepath.EvalSymlinks(h.at(filepath.Join(folder, e.Name())))
			if err != nil || !strings.HasSuffix(target, ".so."+version) {
				continue
			}
			file := filepath.Base(target)
			names[file] = append(names[file], e.Name())
		}
		if len(names["libcuda.so."+version]) == 0 {
			continue
		}
		return libraryMounts(folder, names), nil
	}
	return nil, fmt.Errorf("make the CDI specification: libcuda.so.%s is in none of %s", version, strings.Join(libraryFolders[:], ", "))
}

func libraryMounts(folder string, names map[string][]string) []CDIMount {
	var out []CDIMount
	for file, links := range names {
		inContainer := slices.DeleteFunc(slices.Clone(links), func(n string) bool {
			return n == file && len(links) > 1 || strings.HasSuffix(n, ".so") // .so alone is for compilers
		})
		for _, name := range inContainer {
			for _, to := range containerFolders {
				out = append(out, bind(filepath.Join(folder, file), filepath.Join(to, name)))
			}
		}
	}
	slices.SortFunc(out, func(a, b CDIMount) int { return strings.Compare(a.ContainerPath, b.ContainerPath) })
	return out
}

func bind(host, container string) CDIMount {
	return CDIMount{HostPath: host, ContainerPath: container, Options: []string{"ro", "nosuid", "nodev", "rbind", "rprivate"}}
}

// programs mounts the driver's programs that people call in containers.
func (h hostFiles) programs() []CDIMount {
	var out []CDIMount
	for _, name := range []string{"nvidia-cuda-mps-control", "nvidia-cuda-mps-server", "nvidia-debugdump", "nvidia-persistenced", "nvidia-smi"} {
		for _, folder := range []string{"/usr/bin", "/usr/local/nvidia/bin", "/opt/bin"} {
			if path := filepath.Join(folder, name); h.exists(path) {
				out = append(out, bind(path, "/usr/bin/"+name))
				break
			}
		}
	}
	if socket := "/run/nvidia-persistenced/socket"; h.exists(socket) {
		out = append(out, CDIMount{HostPath: socket, ContainerPath: socket, Options: []string{"ro", "nosuid", "nodev", "rbind", "rprivate", "noexec"}})
	}
	return out
}

// capabilities are the device files that open a MIG instance: one for the GPU instance, one for the compute
// instance. The driver says their numbers in /proc.
func (h hostFiles) capabilities(minor, gi, ci int) ([]CDINode, error) {
	var out []CDINode
	for _, access := range []string{
		fmt.Sprintf("/proc/driver/nvidia/capabilities/gpu%d/mig/gi%d/access", minor, gi),
		fmt.Sprintf("/proc/driver/nvidia/capabilities/gpu%d/mig/gi%d/ci%d/access", minor, gi, ci),
	} {
		raw, err := os.ReadFile(h.at(access))
		if err != nil {
			return nil, fmt.Errorf("find the device file of a MIG instance: %w", err)
		}
		number := -1
		for line := range strings.Lines(string(raw)) {
			if _, err := fmt.Sscanf(line, "DeviceFileMinor: %d", &number); err == nil {
				break
			}
		}
		if number < 0 {
			return nil, errors.New("find the device file of a MIG instance: " + access + " has no DeviceFileMinor")
		}
		out = append(out, h.node(fmt.Sprintf("/dev/nvidia-caps/nvidia-cap%d", number)))
	}
	return out, nil
}
