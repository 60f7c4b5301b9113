//go:build linux

package hostcheck

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// processes lists the daemons of containers and what runs in containers of ours, "pid command line". What
// merely has such a word among its arguments, a shell or an editor, is somebody else's.
func processes() ([]string, error) {
	folders, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var out []string
	for _, dir := range folders {
		executable, err := os.Readlink(filepath.Join(dir, "exe"))
		if err != nil {
			continue // ended meanwhile, or the kernel's
		}
		cgroups, _ := os.ReadFile(filepath.Join(dir, "cgroup"))
		if !counts(executable, string(cgroups)) {
			continue
		}
		command, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		out = append(out, filepath.Base(dir)+" "+strings.ReplaceAll(strings.TrimRight(string(command), "\x00"), "\x00", " "))
	}
	return out, nil
}

// counts decides by what a process is and by the cgroups that it is in, as /proc/PID/cgroup lists them.
func counts(executable, cgroups string) bool {
	name := filepath.Base(strings.TrimSuffix(executable, " (deleted)"))
	if name == "containerd" || name == "runc" || strings.HasPrefix(name, "containerd-shim") {
		return true
	}
	for line := range strings.Lines(cgroups) {
		if parts := strings.SplitN(strings.TrimSpace(line), ":", 3); len(parts) == 3 && strings.HasPrefix(parts[2], "/pintle") {
			return true
		}
	}
	return false
}
