package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	corev1 "k8s.io/api/core/v1"
)

func checkHostPath(h *corev1.HostPathVolumeSource) error {
	t := corev1.HostPathUnset
	if h.Type != nil {
		t = *h.Type
	}
	st, err := os.Stat(h.Path)
	want := func(ok bool, what string) error {
		if err != nil {
			return fmt.Errorf("hostPath type check failed: %s is not a %s", h.Path, what)
		}
		if !ok {
			return fmt.Errorf("hostPath type check failed: %s is not a %s", h.Path, what)
		}
		return nil
	}
	is := func(m fs.FileMode) bool { return err == nil && st.Mode()&m != 0 }
	switch t {
	case corev1.HostPathUnset:
		if errors.Is(err, fs.ErrNotExist) {
			return os.MkdirAll(h.Path, 0o755) // as container runtimes do for a missing bind source
		}
		return err
	case corev1.HostPathDirectoryOrCreate:
		if errors.Is(err, fs.ErrNotExist) {
			return os.MkdirAll(h.Path, 0o755)
		}
		return want(err == nil && st.IsDir(), "directory")
	case corev1.HostPathDirectory:
		return want(err == nil && st.IsDir(), "directory")
	case corev1.HostPathFileOrCreate:
		if errors.Is(err, fs.ErrNotExist) {
			f, err := os.OpenFile(h.Path, os.O_CREATE|os.O_RDWR, 0o644)
			if err != nil {
				return err
			}
			return f.Close()
		}
		return want(err == nil && st.Mode().IsRegular(), "file")
	case corev1.HostPathFile:
		return want(err == nil && st.Mode().IsRegular(), "file")
	case corev1.HostPathSocket:
		return want(is(fs.ModeSocket), "socket file")
	case corev1.HostPathCharDev:
		return want(is(fs.ModeCharDevice), "character device")
	case corev1.HostPathBlockDev:
		return want(is(fs.ModeDevice) && !is(fs.ModeCharDevice), "block device")
	}
	return fmt.Errorf("unknown hostPath type %q", t)
}
