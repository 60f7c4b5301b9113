package containerd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pintle/pintle/runtime"
)

const cgroupRoot = "/sys/fs/cgroup"

func cgroupV2() bool {
	var st unix.Statfs_t
	return unix.Statfs(cgroupRoot, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

// cgroupHierarchies are the folders below which a cgroup path exists.
func cgroupHierarchies() []string {
	if cgroupV2() {
		return []string{cgroupRoot}
	}
	var dirs []string
	entries, _ := os.ReadDir(cgroupRoot)
	for _, e := range entries {
		if e.IsDir() {
			dirs = append(dirs, filepath.Join(cgroupRoot, e.Name()))
		}
	}
	return dirs
}

// cgroupFolder is where a cgroup is; where there are several hierarchies, that of memory.
func cgroupFolder(path string) string {
	if cgroupV2() {
		return filepath.Join(cgroupRoot, path)
	}
	return filepath.Join(cgroupRoot, "memory", path)
}

// SetCPUs implements runtime.CPUSetter.
func (e *Engine) SetCPUs(_ context.Context, id, cpus, nodes string) error {
	x := e.get(id)
	if x == nil {
		return fmt.Errorf("set the CPUs of container %s: %w", id, runtime.ErrNotFound)
	}
	dir := filepath.Join(cgroupRoot, x.Cgroup)
	if !cgroupV2() {
		dir = filepath.Join(cgroupRoot, "cpuset", x.Cgroup)
	}
	for file, list := range map[string]string{"cpuset.cpus": cpus, "cpuset.mems": nodes} {
		if list == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, file), []byte(list), 0); err != nil {
			return fmt.Errorf("set the CPUs of container %s: %w", id, err)
		}
	}
	return nil
}

// ResizeContainer implements runtime.Resizer. It writes the cgroup itself, as SetCPUs does: an update by runc would
// bring back the CPUs that the container was made with.
func (e *Engine) ResizeContainer(_ context.Context, id string, r runtime.Resources) error {
	x := e.get(id)
	if x == nil {
		return fmt.Errorf("resize container %s: %w", id, runtime.ErrNotFound)
	}
	x.op.Lock() // it can't end and take its cgroup with it meanwhile
	defer x.op.Unlock()
	if x.gone || x.State != runtime.Running {
		return fmt.Errorf("resize container %s: it isn't running: %w", id, runtime.ErrNotFound)
	}
	if err := setCgroup(x.Cgroup, r); err != nil {
		return fmt.Errorf("resize container %s: %w", id, err)
	}
	e.mu.Lock()
	r.CPUSet, r.MemSet, r.HugePages, r.OOMScoreAdj = x.Spec.Resources.CPUSet, x.Spec.Resources.MemSet, x.Spec.Resources.HugePages, x.Spec.Resources.OOMScoreAdj
	x.Spec.Resources = r
	e.mu.Unlock()
	return e.save(x)
}

// ResizeSandbox implements runtime.Resizer.
func (e *Engine) ResizeSandbox(_ context.Context, id string, r runtime.Resources) error {
	e.mu.Lock()
	s := e.sandboxes[id]
	e.mu.Unlock()
	if s == nil {
		return fmt.Errorf("resize sandbox %s: %w", id, runtime.ErrNotFound)
	}
	s.op.Lock()
	defer s.op.Unlock()
	if s.Spec.CgroupPath == "" {
		return nil
	}
	if err := setCgroup(e.podCgroup(s.Spec.CgroupPath), r); err != nil {
		return fmt.Errorf("resize sandbox %s: %w", id, err)
	}
	return nil
}

// setCgroup changes the limits of a cgroup that is there.
func setCgroup(path string, r runtime.Resources) error {
	if _, err := os.Stat(cgroupFolder(path)); err != nil {
		return fmt.Errorf("find its cgroup: %w", err)
	}
	return makePodCgroup(path, r)
}

// makePodCgroup creates the pod's cgroup with its sums as limits. runc makes the containers' below it.
func makePodCgroup(path string, r runtime.Resources) error {
	if cgroupV2() {
		return makePodCgroupV2(path, r)
	}
	set := func(ctrl string, files ...[2]string) error {
		dir := filepath.Join(cgroupRoot, ctrl, path)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("create pod cgroup: %w", err)
		}
		for _, f := range files {
			if f[1] == "0" {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, f[0]), []byte(f[1]), 0); err != nil {
				return fmt.Errorf("set pod cgroup: %w", err)
			}
		}
		return nil
	}
	if r.CPUShares != 0 || r.CPUQuota != 0 {
		if err := set("cpu", [2]string{"cpu.shares", strconv.FormatUint(r.CPUShares, 10)},
			[2]string{"cpu.cfs_period_us", strconv.FormatUint(r.CPUPeriod, 10)},
			[2]string{"cpu.cfs_quota_us", strconv.FormatInt(r.CPUQuota, 10)}); err != nil {
			return err
		}
	}
	if r.MemoryLimit != 0 {
		return set("memory", [2]string{"memory.limit_in_bytes", strconv.FormatInt(r.MemoryLimit, 10)})
	}
	return nil
}

func makePodCgroupV2(path string, r runtime.Resources) error {
	dir := cgroupRoot
	for _, part := range strings.Split(strings.Trim(path, "/"), "/") {
		// A controller must be handed down at each level before the next one can use it.
		for _, c := range []string{"+cpu", "+memory", "+pids", "+cpuset", "+io", "+hugetlb"} {
			os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte(c), 0) //nolint:errcheck // not each kernel has each
		}
		dir = filepath.Join(dir, part)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("create pod cgroup: %w", err)
		}
	}
	if r.CPUShares != 0 {
		w := 1 + (min(max(r.CPUShares, 2), 262144)-2)*9999/262142
		if err := os.WriteFile(filepath.Join(dir, "cpu.weight"), []byte(strconv.FormatUint(w, 10)), 0); err != nil {
			return fmt.Errorf("set pod cgroup: %w", err)
		}
	}
	if r.CPUQuota > 0 {
		period := r.CPUPeriod
		if period == 0 {
			period = 100000
		}
		if err := os.WriteFile(filepath.Join(dir, "cpu.max"), fmt.Appendf(nil, "%d %d", r.CPUQuota, period), 0); err != nil {
			return fmt.Errorf("set pod cgroup: %w", err)
		}
	}
	if r.MemoryLimit != 0 {
		if err := os.WriteFile(filepath.Join(dir, "memory.max"), []byte(strconv.FormatInt(r.MemoryLimit, 10)), 0); err != nil {
			return fmt.Errorf("set pod cgroup: %w", err)
		}
	}
	return nil
}

// removeCgroup removes a cgroup and those below it in every hierarchy. Processes that were just
// killed keep a cgroup busy for a moment.
func removeCgroup(path string) error {
	if strings.Trim(path, "/.") == "" {
		return nil
	}
	var first error
	for _, h := range cgroupHierarchies() {
		root := filepath.Join(h, path)
		var dirs []string
		filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error { //nolint:errcheck // what is gone is gone
			if err == nil && d.IsDir() {
				dirs = append(dirs, p)
			}
			return nil
		})
		for i := len(dirs) - 1; i >= 0; i-- {
			var err error
			for range 100 {
				if err = syscall.Rmdir(dirs[i]); !errors.Is(err, syscall.EBUSY) {
					break
				}
				time.Sleep(5 * time.Millisecond)
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) && first == nil {
				first = fmt.Errorf("remove cgroup %s: %w", dirs[i], err)
			}
		}
	}
	return first
}

// oomKilled reads the kernel's own count, which unlike the event can't be late.
func oomKilled(path string) bool {
	file := filepath.Join(cgroupRoot, "memory", path, "memory.oom_control")
	if cgroupV2() {
		file = filepath.Join(cgroupRoot, path, "memory.events")
	}
	n, _ := cgroupField(file, "oom_kill")
	return n > 0
}

func cgroupStats(path string) (runtime.Stats, error) {
	s := runtime.Stats{Time: time.Now()}
	var usage, inactive uint64
	var err error
	if cgroupV2() {
		dir := filepath.Join(cgroupRoot, path)
		if usage, err = cgroupNumber(filepath.Join(dir, "memory.current")); err != nil {
			return s, err
		}
		us, err := cgroupField(filepath.Join(dir, "cpu.stat"), "usage_usec")
		if err != nil {
			return s, err
		}
		s.CPUNanos = us * 1000
		inactive, _ = cgroupField(filepath.Join(dir, "memory.stat"), "inactive_file")
		s.MemoryRSS, _ = cgroupField(filepath.Join(dir, "memory.stat"), "anon")
	} else {
		mem := filepath.Join(cgroupRoot, "memory", path)
		if usage, err = cgroupNumber(filepath.Join(mem, "memory.usage_in_bytes")); err != nil {
			return s, err
		}
		if s.CPUNanos, err = cgroupNumber(filepath.Join(cgroupRoot, "cpuacct", path, "cpuacct.usage")); err != nil {
			return s, err
		}
		inactive, _ = cgroupField(filepath.Join(mem, "memory.stat"), "total_inactive_file")
		s.MemoryRSS, _ = cgroupField(filepath.Join(mem, "memory.stat"), "total_rss")
	}
	if usage > inactive {
		s.MemoryBytes = usage - inactive
	}
	return s, nil
}

func cgroupNumber(file string) (uint64, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("read cgroup: %w", err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read cgroup %s: %w", file, err)
	}
	return n, nil
}

func cgroupField(file, key string) (uint64, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, fmt.Errorf("read cgroup: %w", err)
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		k, v, ok := strings.Cut(sc.Text(), " ")
		if ok && k == key {
			return strconv.ParseUint(strings.TrimSpace(v), 10, 64)
		}
	}
	return 0, fmt.Errorf("read cgroup %s: no field %s", file, key)
}
