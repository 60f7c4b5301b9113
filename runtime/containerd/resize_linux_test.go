package containerd

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pintle/pintle/internal/containertest"
	"github.com/pintle/pintle/runtime"
)

// limitsOf reads what the kernel enforces for a cgroup: CPU in µs per period, memory in bytes.
func limitsOf(t *testing.T, path string) (quota, memory string) {
	t.Helper()
	read := func(parts ...string) string {
		raw, err := os.ReadFile(filepath.Join(append([]string{cgroupRoot}, parts...)...))
		must(t, err)
		return strings.TrimSpace(string(raw))
	}
	if cgroupV2() {
		quota, _, _ = strings.Cut(read(path, "cpu.max"), " ")
		return quota, read(path, "memory.max")
	}
	return read("cpu", path, "cpu.cfs_quota_us"), read("memory", path, "memory.limit_in_bytes")
}

func TestARunningContainersCgroupIsResized(t *testing.T) {
	containertest.Need(t)
	ctx := t.Context()
	e := start(t, Config{Name: fmt.Sprintf("r%d", os.Getpid()), DataDir: t.TempDir(), PodCIDR: netip.MustParsePrefix("10.233.0.0/24")})
	t.Cleanup(func() { e.stop(); e.Teardown(context.Background()) })
	_, err := e.ImportImages(ctx, bytes.NewReader(containertest.Busybox(t, "box:1")))
	must(t, err)
	size := func(cpu, memory int64) runtime.Resources {
		return runtime.Resources{CPUShares: 512, CPUQuota: cpu, CPUPeriod: 100000, MemoryLimit: memory << 20}
	}
	_, err = e.CreateSandbox(ctx, runtime.SandboxSpec{ID: "pod-r", CgroupPath: "burstable/pod-r", Resources: size(50000, 64)})
	must(t, err)
	must(t, e.CreateContainer(ctx, runtime.ContainerSpec{ID: "c", SandboxID: "pod-r", Name: "c", Image: "box:1", Args: []string{"exec busybox sleep 100"},
		LogPath: filepath.Join(t.TempDir(), "0.log"), CgroupPath: "burstable/pod-r", Resources: size(50000, 64)}))
	must(t, e.StartContainer(ctx, "c"))
	x := e.get("c")
	started, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", x.PID))
	must(t, err)
	began := func(stat []byte) string { // field 22, in clock ticks since boot
		f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		return f[19]
	}
	type pair struct{ cpu, memory int64 }
	has := pair{50000, 64}
	for _, to := range []pair{{150000, 128}, {20000, 32}} {
		want := size(to.cpu, to.memory)
		outer := size(max(to.cpu, has.cpu), max(to.memory, has.memory)) // wide enough for both, as the agent does it
		must(t, e.ResizeSandbox(ctx, "pod-r", outer))
		must(t, e.ResizeContainer(ctx, "c", want))
		must(t, e.ResizeSandbox(ctx, "pod-r", want))
		has = to
		for _, cgroup := range []string{x.Cgroup, e.podCgroup("burstable/pod-r")} {
			if quota, memory := limitsOf(t, cgroup); quota != fmt.Sprint(to.cpu) || memory != fmt.Sprint(to.memory<<20) {
				t.Errorf("%s has a quota of %s and %s bytes, want %+v", cgroup, quota, memory, to)
			}
		}
	}
	now, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", x.PID))
	must(t, err)
	if e.get("c").State != runtime.Running || began(now) != began(started) {
		t.Errorf("the process was restarted: %s, then %s", started, now)
	}
	must(t, e.SignalContainer(ctx, "c", "SIGKILL"))
	e.exit(t, "c")
	if err := e.ResizeContainer(ctx, "c", size(50000, 64)); err == nil {
		t.Error("an ended container was resized")
	}
}
