package containerd

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/pintle/pintle/internal/containertest"
	"github.com/pintle/pintle/runtime"
)

// BenchmarkFiftyPodsAtOnce starts fifty pods at the same time, by the engine and by hand, in turns on
// the same daemon: by hand is a network namespace, CNI add, containerd's create and start and no
// more. It reports the time from the call to the running process, p50 and p99, of both, and their
// ratios. Run it with -benchtime=1x or so: one iteration is fifty pods of each kind.
//
// They start busybox, or what the image in the OCI archive that PINTLE_BENCH_IMAGE names starts: so make bench compares
// its pods with bare containers of the same image.
func BenchmarkFiftyPodsAtOnce(b *testing.B) {
	containertest.Need(b)
	ctx := b.Context()
	e := start(b, Config{Name: fmt.Sprintf("b%d", os.Getpid()), DataDir: b.TempDir(), PodCIDR: netip.MustParsePrefix("10.234.0.0/22")})
	b.Cleanup(func() { e.stop(); e.Teardown(context.Background()) })
	archive, args := containertest.Busybox(b, "box:1", "FROM=image"), []string{"exec busybox sleep 1000"}
	if file := os.Getenv("PINTLE_BENCH_IMAGE"); file != "" {
		var err error
		archive, err = os.ReadFile(file)
		must(b, err)
		args = nil
	}
	imported, err := e.ImportImages(ctx, bytes.NewReader(archive))
	must(b, err)
	image := imported[0].Names[0]
	const pods = 50
	run := func(round string, one func(id string) error) []time.Duration {
		took := make([]time.Duration, pods)
		begin := time.Now()
		var wg sync.WaitGroup
		for i := range pods {
			wg.Go(func() {
				if err := one(fmt.Sprintf("%s-%d", round, i)); err != nil {
					b.Error(err)
				}
				took[i] = time.Since(begin)
			})
		}
		wg.Wait()
		return took
	}
	byEngine := func(id string) error {
		if _, err := e.CreateSandbox(ctx, runtime.SandboxSpec{ID: id, Hostname: id, CgroupPath: "pod" + id}); err != nil {
			return err
		}
		c := runtime.ContainerSpec{ID: id, SandboxID: id, Image: image, CgroupPath: "pod" + id,
			LogPath: filepath.Join(e.cfg.DataDir, "logs", id, "0.log"), Args: args}
		if err := e.CreateContainer(ctx, c); err != nil {
			return err
		}
		return e.StartContainer(ctx, id)
	}
	bare := &byHand{args: args, e: e.Engine, dir: filepath.Join(e.names.run, "bare"), tasks: map[string]client.Task{}}
	c, err := e.conn()
	must(b, err)
	imgs, err := c.ListImages(e.with(ctx))
	must(b, err)
	bare.image = imgs[0]
	b.Cleanup(func() { bare.clear(b) })
	// The first containers pay for caches and unpacked layers: both kinds run once unmeasured.
	must(b, byEngine("warm-e"))
	must(b, bare.start(ctx, "warm-b"))
	must(b, e.RemoveSandbox(ctx, "warm-e"))
	bare.clear(b)
	var ours, theirs []time.Duration
	for n := 0; b.Loop(); n++ {
		first, second := &ours, &theirs
		kinds := []func(string) error{byEngine, func(id string) error { return bare.start(ctx, id) }}
		if n%2 == 1 { // whoever comes first finds a quieter machine
			first, second = second, first
			slices.Reverse(kinds)
		}
		*first = append(*first, run(fmt.Sprintf("x%d", n), kinds[0])...)
		removeAll(b, e)
		bare.clear(b)
		*second = append(*second, run(fmt.Sprintf("y%d", n), kinds[1])...)
		removeAll(b, e)
		bare.clear(b)
	}
	at := func(d []time.Duration, q float64) float64 {
		slices.Sort(d)
		return d[min(int(q*float64(len(d))), len(d)-1)].Seconds() * 1000
	}
	for _, q := range []struct {
		name string
		q    float64
	}{{"p50", 0.5}, {"p99", 0.99}} {
		o, t := at(ours, q.q), at(theirs, q.q)
		b.ReportMetric(o, "pintle-"+q.name+"-ms")
		b.ReportMetric(t, "bare-"+q.name+"-ms")
		b.ReportMetric(o/t, "ratio-"+q.name)
	}
	b.ReportMetric(0, "ns/op") // both kinds and their removal: it says nothing
}

func removeAll(b *testing.B, e *running) {
	b.Helper()
	boxes, err := e.Sandboxes(b.Context())
	must(b, err)
	var wg sync.WaitGroup
	for _, s := range boxes {
		wg.Go(func() {
			if err := e.RemoveSandbox(context.WithoutCancel(b.Context()), s.ID); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
}

// byHand does with containerd's client and the CNI plugins the least that makes a pod.
type byHand struct {
	e     *Engine
	dir   string
	image client.Image
	args  []string // of the image's entrypoint; nil: its own

	mu    sync.Mutex
	tasks map[string]client.Task
}

func (h *byHand) netns(id string) string { return filepath.Join(h.dir, id) }

func (h *byHand) start(ctx context.Context, id string) error {
	c, err := h.e.conn()
	if err != nil {
		return err
	}
	ctx = h.e.with(ctx)
	if err := os.MkdirAll(h.dir, 0o700); err != nil {
		return err
	}
	path := h.netns(id)
	err = onFreshThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			return err
		}
		return unix.Mount(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), path, "", unix.MS_BIND, "")
	})
	if err != nil {
		return fmt.Errorf("namespace: %w", err)
	}
	if _, err := h.e.net.add(ctx, id, path); err != nil {
		return err
	}
	ctr, err := c.NewContainer(ctx, id, client.WithSnapshotter(h.e.snapshotter), client.WithNewSnapshot(id, h.image),
		client.WithNewSpec(oci.WithImageConfigArgs(h.image, h.args),
			oci.WithLinuxNamespace(specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: path}), oci.WithCgroup(h.e.podCgroup("bare-"+id))))
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	task, err := ctr.NewTask(ctx, cio.NullIO)
	if err != nil {
		return fmt.Errorf("task: %w", err)
	}
	h.mu.Lock()
	h.tasks[id] = task
	h.mu.Unlock()
	if err := task.Start(ctx); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	return nil
}

func (h *byHand) clear(b *testing.B) {
	b.Helper()
	h.mu.Lock()
	tasks := h.tasks
	h.tasks = map[string]client.Task{}
	h.mu.Unlock()
	c, err := h.e.conn()
	if err != nil {
		return // torn down
	}
	ctx := h.e.with(context.Background())
	var wg sync.WaitGroup
	for id, task := range tasks {
		wg.Go(func() {
			if _, err := task.Delete(ctx, client.WithProcessKill); err != nil {
				b.Error(err)
			}
			if ctr, err := c.LoadContainer(ctx, id); err == nil {
				if err := ctr.Delete(ctx, client.WithSnapshotCleanup); err != nil {
					b.Error(err)
				}
			}
			if err := h.e.net.del(ctx, id, h.netns(id)); err != nil {
				b.Error(err)
			}
			if err := unmount(h.netns(id)); err != nil {
				b.Error(err)
			}
			_ = os.Remove(h.netns(id))
			_ = removeCgroup(h.e.podCgroup("bare-" + id))
		})
	}
	wg.Wait()
}
