package runtime

import (
	"bytes"
	"os"
	goruntime "runtime"
	"strconv"
	"strings"
	"time"
)

func firstLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	l, _, _ := bytes.Cut(b, []byte("\n"))
	return string(bytes.TrimSpace(l))
}

func osImage() string {
	b, err := os.ReadFile("/etc/os-release")
	if err == nil {
		for l := range strings.Lines(string(b)) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(l), "PRETTY_NAME="); ok {
				return strings.Trim(v, `"`)
			}
		}
	}
	return goruntime.GOOS
}

// machineMemory is total and available memory in bytes. Where /proc is missing the total is a
// cautious 4 GiB and the rest unknown (-1): Config.Capacity says better.
func machineMemory() (total, available int64) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 4 << 30, -1
	}
	available = -1
	for l := range strings.Lines(string(b)) {
		f := strings.Fields(l)
		if len(f) < 2 {
			continue
		}
		n, _ := strconv.ParseInt(f[1], 10, 64)
		switch f[0] {
		case "MemTotal:":
			total = n << 10
		case "MemAvailable:":
			available = n << 10
		}
	}
	return total, available
}

// machineCPU is the CPU time that the machine has spent since it started; false where /proc doesn't say.
func machineCPU() (time.Duration, bool) {
	f := strings.Fields(firstLine("/proc/stat"))
	if len(f) < 9 || f[0] != "cpu" {
		return 0, false
	}
	var ticks int64 // of a hundredth of a second, whatever the kernel's own are
	for i, v := range f[1:9] {
		if i == 3 || i == 4 { // idle, and idle while something waits for a disk
			continue
		}
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return 0, false
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, true
}

func pids() (used, limit int64) {
	limit, _ = strconv.ParseInt(firstLine("/proc/sys/kernel/pid_max"), 10, 64)
	f := strings.Fields(firstLine("/proc/loadavg"))
	if len(f) > 3 {
		_, n, _ := strings.Cut(f[3], "/")
		used, _ = strconv.ParseInt(n, 10, 64)
	}
	return used, limit
}
