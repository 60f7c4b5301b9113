package containerd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/pintle/pintle/runtime"
)

const nsfsMagic = 0x6e736673

// makeNamespaces creates the pod's network, IPC and UTS namespaces and pins them as bind mounts
// in dir, so that no process is needed to hold them.
func makeNamespaces(dir string, spec runtime.SandboxSpec) error {
	flags, kinds := unix.CLONE_NEWUTS, []string{"uts"}
	if spec.HostNetwork {
		flags, kinds = 0, nil // a pod on the host's network keeps the host's name, as in Kubernetes
	} else {
		flags |= unix.CLONE_NEWNET
		kinds = append(kinds, "net")
	}
	if !spec.HostIPC {
		flags |= unix.CLONE_NEWIPC
		kinds = append(kinds, "ipc")
	}
	if flags == 0 {
		return setSysctls(spec) // only its checks apply
	}
	return onFreshThread(func() error {
		if err := unix.Unshare(flags); err != nil {
			return fmt.Errorf("unshare namespaces: %w", err)
		}
		if flags&unix.CLONE_NEWUTS != 0 && spec.Hostname != "" {
			if err := unix.Sethostname([]byte(spec.Hostname)); err != nil {
				return fmt.Errorf("set hostname %q: %w", spec.Hostname, err)
			}
		}
		if flags&unix.CLONE_NEWNET != 0 {
			lo, err := netlink.LinkByName("lo")
			if err != nil {
				return fmt.Errorf("find lo: %w", err)
			}
			if err := netlink.LinkSetUp(lo); err != nil {
				return fmt.Errorf("set lo up: %w", err)
			}
		}
		if err := setSysctls(spec); err != nil {
			return err
		}
		for _, k := range kinds {
			target := filepath.Join(dir, k)
			f, err := os.OpenFile(target, os.O_CREATE|os.O_RDONLY, 0o600)
			if err != nil {
				return fmt.Errorf("pin namespace: %w", err)
			}
			f.Close()
			src := fmt.Sprintf("/proc/self/task/%d/ns/%s", unix.Gettid(), k)
			if err := unix.Mount(src, target, "", unix.MS_BIND, ""); err != nil {
				return fmt.Errorf("pin namespace %s: %w", k, err)
			}
		}
		return nil
	})
}

// setSysctls writes the pod's sysctls from inside its namespaces: /proc/sys answers for the
// namespaces of the thread that opens the file. What isn't namespaced would change the host.
func setSysctls(spec runtime.SandboxSpec) error {
	for k, v := range spec.Sysctls {
		if !sysctlAllowed(k, spec) {
			return fmt.Errorf("sysctl %q is not one of the pod's own namespaces", k)
		}
		p := filepath.Join("/proc/sys", strings.ReplaceAll(k, ".", "/"))
		if err := os.WriteFile(p, []byte(v), 0); err != nil {
			return fmt.Errorf("set sysctl %s: %w", k, err)
		}
	}
	return nil
}

func sysctlAllowed(k string, spec runtime.SandboxSpec) bool {
	if strings.Contains(k, "/") || strings.Contains(k, "..") {
		return false
	}
	if strings.HasPrefix(k, "net.") {
		return !spec.HostNetwork
	}
	ipc := strings.HasPrefix(k, "kernel.shm") || strings.HasPrefix(k, "kernel.msg") ||
		k == "kernel.sem" || strings.HasPrefix(k, "fs.mqueue.")
	return ipc && !spec.HostIPC
}

// isNamespace reports whether a namespace is mounted at path.
func isNamespace(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && uint32(st.Type) == nsfsMagic
}

// unmount takes every mount off path; a path that isn't there or isn't mounted is no error.
func unmount(path string) error {
	for {
		switch err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); {
		case err == nil:
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
			return nil
		default:
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
}
