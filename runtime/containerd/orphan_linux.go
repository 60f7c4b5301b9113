package containerd

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"golang.org/x/sys/unix"
)

// orphanGrace is what containerd gets to finish or undo a create whose caller went away.
const orphanGrace = 500 * time.Millisecond

// endOrphan ends what a cut-off start may have left. When the caller of a task's create goes away,
// containerd drops the task, and sometimes forgets the shim that it had started: no list shows it,
// it keeps the container's processes and cgroup for good, and it may still be on its way when the
// list is read.
func (e *Engine) endOrphan(ctx context.Context, t tasks.TasksClient, x *ctr) error {
	for begin := time.Now(); ; {
		shims := shimsOf(e.names.namespace, x.CID)
		procs := cgroupProcs(x.Cgroup)
		if len(shims) == 0 && len(procs) == 0 {
			return nil
		}
		if _, err := t.Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: x.CID}); err == nil {
			return nil // it was a task after all
		}
		if time.Since(begin) > orphanGrace {
			// Not by pid alone: between the look and the signal it could be another's.
			for _, pid := range shims {
				killIf(pid, func() bool { return slices.Contains(shimsOf(e.names.namespace, x.CID), pid) })
			}
			for _, pid := range procs {
				killIf(pid, func() bool { return slices.Contains(cgroupProcs(x.Cgroup), pid) })
			}
		}
		if time.Since(begin) > 10*orphanGrace {
			return fmt.Errorf("a process of a cut-off start stays: shims %v, processes %v", shims, procs)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// killIf kills a process if still holds once the process can't be mistaken any more.
func killIf(pid int, still func() bool) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return // it ended
	}
	defer unix.Close(fd)
	if still() {
		unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) //nolint:errcheck // it ended
	}
}

// shimsOf finds the shims of one container by their arguments.
func shimsOf(namespace, cid string) []int {
	var pids []int
	entries, _ := os.ReadDir("/proc")
	for _, d := range entries {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", d.Name(), "cmdline"))
		if err != nil || !bytes.Contains(line, []byte("containerd-shim")) {
			continue
		}
		args := strings.Split(string(line), "\x00")
		value := func(flag string) string {
			if i := slices.Index(args, flag); i >= 0 && i+1 < len(args) {
				return args[i+1]
			}
			return ""
		}
		if value("-namespace") == namespace && value("-id") == cid {
			pids = append(pids, pid)
		}
	}
	return pids
}

// cgroupProcs lists the processes of a cgroup in any hierarchy.
func cgroupProcs(path string) []int {
	if path == "" {
		return nil
	}
	var pids []int
	for _, dir := range cgroupHierarchies() {
		data, _ := os.ReadFile(filepath.Join(dir, path, "cgroup.procs")) // gone is empty
		for _, s := range strings.Fields(string(data)) {
			if pid, err := strconv.Atoi(s); err == nil && pid > 0 && !slices.Contains(pids, pid) {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
