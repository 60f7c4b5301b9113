package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
)

// emptyDir makes a scratch folder that lives as long as the pod. A Memory one is a tmpfs where this
// process may mount one, else a folder whose limit Refresh watches.
func (m *Manager) emptyDir(pod *corev1.Pod, src *corev1.EmptyDirVolumeSource, dir string, index int) error {
	switch src.Medium {
	case corev1.StorageMediumDefault, corev1.StorageMediumMemory:
	default:
		return fmt.Errorf("spec.volumes[%d].emptyDir.medium: this node has no medium %q", index, src.Medium)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	if src.Medium == corev1.StorageMediumMemory {
		var size int64
		if src.SizeLimit != nil {
			size = src.SizeLimit.Value()
		}
		if err := mountTmpfs(dir, size); err != nil {
			m.log.Warn("no tmpfs for a volume in memory: a folder on disk takes its place", "pod", pod.Name, "error", err)
		}
	}
	return shareWith(dir, fsGroup(pod))
}

// shareWith opens a folder to everyone, and gives it to the pod's group if it has one.
func shareWith(dir string, gid *int64) error {
	mode := os.FileMode(0o777)
	if gid != nil {
		if err := lchown(dir, -1, int(*gid)); err != nil {
			return fmt.Errorf("give the volume to fsGroup %d: %w", *gid, err)
		}
		mode |= os.ModeSetgid
	}
	if err := os.Chmod(dir, mode); err != nil {
		return fmt.Errorf("open the volume: %w", err)
	}
	return nil
}

func fsGroup(pod *corev1.Pod) *int64 {
	if sc := pod.Spec.SecurityContext; sc != nil {
		return sc.FSGroup
	}
	return nil
}

// checkLimit adds up what an emptyDir with a limit holds.
func checkLimit(v *corev1.Volume, dir string) error {
	limit := v.EmptyDir.SizeLimit
	if limit == nil || limit.Sign() <= 0 || isMountPoint(dir) { // a tmpfs keeps its limit itself
		return nil
	}
	var used int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // removed meanwhile
		}
		if info, err := d.Info(); err == nil && !d.IsDir() {
			used += diskUsage(info)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("measure volume %q: %w", v.Name, err)
	}
	if used > limit.Value() {
		return &LimitError{Volume: v.Name, Used: used, Limit: limit.Value(), limit: limit.String()}
	}
	return nil
}

// checkHostPath holds a hostPath to its type, and makes what …OrCreate asks for.
func checkHostPath(src *corev1.HostPathVolumeSource) error {
	kind := corev1.HostPathUnset
	if src.Type != nil {
		kind = *src.Type
	}
	if !filepath.IsAbs(src.Path) {
		return fmt.Errorf("hostPath.path: %q is no absolute path", src.Path)
	}
	info, err := os.Stat(src.Path)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return fmt.Errorf("hostPath: %w", err)
	}
	fails := func(what string) error {
		return fmt.Errorf("hostPath type check failed: %s is not a %s", src.Path, what)
	}
	is := func(t os.FileMode) bool { return !missing && info.Mode().Type() == t }
	switch kind {
	case corev1.HostPathUnset:
		if missing { // engines bind what is there; runtimes of Kubernetes make a folder
			if err := os.MkdirAll(src.Path, 0o755); err != nil {
				return fmt.Errorf("hostPath: %w", err)
			}
		}
	case corev1.HostPathDirectoryOrCreate:
		if missing {
			if err := os.MkdirAll(src.Path, 0o755); err != nil {
				return fmt.Errorf("hostPath: %w", err)
			}
		} else if !info.IsDir() {
			return fails("directory")
		}
	case corev1.HostPathDirectory:
		if missing || !info.IsDir() {
			return fails("directory")
		}
	case corev1.HostPathFileOrCreate:
		if missing {
			f, err := os.OpenFile(src.Path, os.O_CREATE|os.O_RDWR, 0o644)
			if err != nil {
				return fmt.Errorf("hostPath: %w", err)
			}
			return f.Close()
		}
		if !info.Mode().IsRegular() {
			return fails("file")
		}
	case corev1.HostPathFile:
		if !is(0) {
			return fails("file")
		}
	case corev1.HostPathSocket:
		if !is(os.ModeSocket) {
			return fails("socket file")
		}
	case corev1.HostPathCharDev:
		if !is(os.ModeDevice | os.ModeCharDevice) {
			return fails("character device")
		}
	case corev1.HostPathBlockDev:
		if !is(os.ModeDevice) {
			return fails("block device")
		}
	default:
		return fmt.Errorf("hostPath.type: %q is no type", kind)
	}
	return nil
}
