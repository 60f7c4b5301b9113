//go:build linux

package hostcheck

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestDaemonsAndContainersCountByWhatTheyAre(t *testing.T) {
	for _, tc := range []struct {
		executable, cgroups string
		want                bool
	}{
		{"/usr/bin/containerd", "0::/\n", true},
		{"/usr/bin/containerd-shim-runc-v2 (deleted)", "0::/\n", true},
		{"/usr/sbin/runc", "0::/\n", true},
		{"/bin/busybox", "12:memory:/pintle-a/pod1/c\n0::/\n", true},
		{"/bin/busybox", "0::/pintle-a/pod1/c\n", true},
		{"/bin/bash", "12:memory:/user\n0::/user.slice/pintle\n", false},
		{"/usr/bin/containerd-notes", "0::/\n", false},
	} {
		if got := counts(tc.executable, tc.cgroups); got != tc.want {
			t.Errorf("%s in %q: %v", tc.executable, tc.cgroups, got)
		}
	}
}

func TestAnArgumentMakesNoDaemon(t *testing.T) {
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	daemon := filepath.Join(t.TempDir(), "containerd-shim-test")
	if err := os.WriteFile(daemon, content, 0o755); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{sleep: false, daemon: true} {
		cmd := exec.Command(path, "1000")
		cmd.Args[0] = "containerd-runc-pintle"
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		found, err := processes()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if err != nil {
			t.Fatal(err)
		}
		pid := strconv.Itoa(cmd.Process.Pid) + " "
		if got := slices.ContainsFunc(found, func(p string) bool { return strings.HasPrefix(p, pid) }); got != want {
			t.Errorf("%s: %v, want %v: %q", path, got, want, found)
		}
	}
}
