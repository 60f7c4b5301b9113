package gpus

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pintle/pintle/gpu"
	"github.com/pintle/pintle/runtime"
)

// edited applies a CDI specification's edits for the devices that a container was given. It is done here, and not by
// the container runtime, because containerd before 2.0 has CDI off by default. It is pure.
func edited(spec *gpu.CDISpec, given gpu.Injection, root string) (runtime.Injection, error) {
	out := runtime.Injection{NUMA: given.NUMA}
	apply := func(e gpu.CDIEdits) {
		out.Env = append(out.Env, e.Env...)
		for _, n := range e.DeviceNodes {
			host := n.HostPath
			if host == "" {
				host = n.Path
			}
			add := runtime.Device{HostPath: filepath.Join(root, host), ContainerPath: n.Path, Permissions: "rw"}
			if !slices.Contains(out.Devices, add) { // instances of one GPU share its file
				out.Devices = append(out.Devices, add)
			}
		}
		for _, m := range e.Mounts {
			add := runtime.Mount{HostPath: filepath.Join(root, m.HostPath), ContainerPath: m.ContainerPath}
			for _, o := range m.Options {
				switch o {
				case "ro":
					add.ReadOnly = true
				case "rw", "rbind", "rprivate": // said anyway
				default:
					add.Options = append(add.Options, o)
				}
			}
			out.Mounts = append(out.Mounts, add)
		}
	}
	for _, name := range given.CDI {
		device, ok := strings.CutPrefix(name, spec.Kind+"=")
		i := slices.IndexFunc(spec.Devices, func(d gpu.CDIDevice) bool { return d.Name == device })
		if !ok || i < 0 {
			return runtime.Injection{}, fmt.Errorf("device %s is not on this machine now", name)
		}
		apply(spec.Devices[i].Edits)
	}
	apply(spec.Edits)
	for _, m := range given.Mounts {
		out.Mounts = append(out.Mounts, runtime.Mount{HostPath: m.Host, ContainerPath: m.Container})
	}
	out.Env = append(out.Env, given.Env...) // after the specification's own NVIDIA_VISIBLE_DEVICES: the last wins
	return out, nil
}
