package containerd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const ipForward = "/proc/sys/net/ipv4/ip_forward"

// Forwarding belongs to the host, and several appliances may need it. The first one notes the
// value that it found, each leaves a file while it needs forwarding, and the last restores the
// value. The files lie in /run: a reboot forgets both them and the setting.

func acquireForwarding(cluster string) error {
	return withForwardLock(func(dir string) error {
		old, err := os.ReadFile(ipForward)
		if err != nil {
			return fmt.Errorf("read ip_forward: %w", err)
		}
		orig := filepath.Join(dir, "original")
		if _, err := os.Stat(orig); err != nil {
			if err := writeFile(orig, old); err != nil {
				return err
			}
		}
		if err := writeFile(filepath.Join(dir, "user-"+cluster), nil); err != nil {
			return err
		}
		if strings.TrimSpace(string(old)) == "1" {
			return nil
		}
		if err := os.WriteFile(ipForward, []byte("1"), 0); err != nil {
			return fmt.Errorf("set ip_forward: %w", err)
		}
		return nil
	})
}

func releaseForwarding(cluster string) error {
	err := withForwardLock(func(dir string) error {
		if err := os.Remove(filepath.Join(dir, "user-"+cluster)); err != nil {
			return nil // never acquired
		}
		left, err := filepath.Glob(filepath.Join(dir, "user-*"))
		if err != nil || len(left) > 0 {
			return err
		}
		orig, err := os.ReadFile(filepath.Join(dir, "original"))
		if err != nil {
			return fmt.Errorf("read the original ip_forward: %w", err)
		}
		if err := os.WriteFile(ipForward, orig, 0); err != nil {
			return fmt.Errorf("restore ip_forward: %w", err)
		}
		return os.RemoveAll(dir)
	})
	os.Remove(runRoot) // only when empty
	return err
}

// withForwardLock locks /run/pintle itself, so that no lock file stays behind.
func withForwardLock(f func(dir string) error) error {
	for {
		if err := os.MkdirAll(runRoot, 0o711); err != nil {
			return fmt.Errorf("create %s: %w", runRoot, err)
		}
		lock, err := os.Open(runRoot)
		if errors.Is(err, os.ErrNotExist) {
			continue // removed by an appliance that just ended
		}
		if err != nil {
			return fmt.Errorf("open %s: %w", runRoot, err)
		}
		if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
			lock.Close()
			return fmt.Errorf("lock %s: %w", runRoot, err)
		}
		mine, err1 := lock.Stat()
		now, err2 := os.Stat(runRoot)
		if err1 != nil || err2 != nil || !os.SameFile(mine, now) {
			lock.Close()
			continue
		}
		dir := filepath.Join(runRoot, ".forward")
		err = os.MkdirAll(dir, 0o700)
		if err == nil {
			err = f(dir)
		}
		os.Remove(dir) // only when empty
		lock.Close()
		return err
	}
}
