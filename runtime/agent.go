package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pintle/pintle/runtime/cpus"
	"github.com/pintle/pintle/runtime/csi"
	"github.com/pintle/pintle/runtime/internal/mirror"
	"github.com/pintle/pintle/runtime/localpath"
)

// Labels by which a restarted agent knows its sandboxes and containers again.
const (
	labelPodUID    = "io.kubernetes.pod.uid"
	labelPodName   = "io.kubernetes.pod.name"
	labelPodNS     = "io.kubernetes.pod.namespace"
	labelContainer = "io.kubernetes.container.name"
	labelImage     = "pintle.dev/image" // the spec's image when the container was made
	labelNode      = "pintle.dev/node"
	labelMessage   = "pintle.dev/termination-message" // file, on the host
	labelGrace     = "pintle.dev/grace"               // termination grace period in seconds, for pods that vanish
)

// Agent runs the pods of one node. Make it with New.
type Agent struct {
	cfg         Config
	log         *slog.Logger
	dir         string
	ready       chan struct{}
	events      *recorder
	metrics     *metrics
	volumeStats *volumeStats
	objects     *objectCache
	pods        *mirror.Mirror[*corev1.Pod]
	svcs        *mirror.Mirror[*corev1.Service]
	handler     http.Handler
	sharing     sync.Mutex // one shares the kubelet's folder at a time
	reporting   sync.Mutex // one writes status.volumesInUse at a time
	turns       turns      // of starting pods
	pins        *pins      // nil: CPUs are shared by all

	resizing sync.Mutex // held while resizes are judged; before mu and those of workers

	mu      sync.Mutex
	running bool
	workers map[types.UID]*worker
	wg      sync.WaitGroup // workers
	cleaned bool           // orphans were removed once
	node    *corev1.Node   // as last written
	alloc   corev1.ResourceList
	known   chan struct{} // closed when the workers of all pods are there, since Run began
	claims  chan struct{} // closed when devices may be claimed, since Run began

	folders   *localpath.Provisioner  // since Run began
	csi       *csi.Manager            // since Run began
	exclusive map[types.UID]types.UID // claims with ReadWriteOncePod → the pod that has them

	sick map[string]string // devices that are unhealthy, as last said; runNode's alone
}

// New checks the configuration and starts nothing.
func New(cfg Config) (*Agent, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	a := &Agent{cfg: cfg, log: cfg.Logger, ready: make(chan struct{}), metrics: m, workers: map[types.UID]*worker{},
		turns: turns{free: max(4, 2*goruntime.NumCPU())}}
	if cfg.CPUManagerPolicy == CPUStatic {
		machine := cfg.machine
		if machine == nil {
			if machine, err = cpus.Read("/sys"); err != nil {
				return nil, fmt.Errorf("runtime: Config.CPUManagerPolicy: %w", err)
			}
		}
		if a.pins, err = newPins(machine, cfg.ReservedCPUs, cfg.Logger); err != nil {
			return nil, fmt.Errorf("runtime: Config.CPUManagerPolicy: %w", err)
		}
	}
	a.volumeStats = newVolumeStats(a)
	if r := cfg.Metrics; r != nil {
		if err := r.Register(a.volumeStats); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	a.events = newRecorder(cfg.Client, cfg.NodeName, cfg.Clock, cfg.Logger)
	a.objects = newObjectCache(cfg.Client)
	a.handler = a.routes()
	c := cfg.Client.CoreV1()
	sel := fields.OneTermEqualSelector("spec.nodeName", cfg.NodeName).String()
	a.pods = &mirror.Mirror[*corev1.Pod]{What: "pods", Log: a.log,
		List: func(ctx context.Context, o metav1.ListOptions) (kruntime.Object, error) {
			o.FieldSelector = sel
			return c.Pods("").List(ctx, o)
		},
		Watch: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = sel
			return c.Pods("").Watch(ctx, o)
		},
		Keep:   func(p *corev1.Pod) bool { return p.Spec.NodeName == cfg.NodeName },
		Change: a.podChanged,
		Synced: a.podsSynced,
	}
	a.svcs = &mirror.Mirror[*corev1.Service]{What: "services", Log: a.log,
		List: func(ctx context.Context, o metav1.ListOptions) (kruntime.Object, error) {
			return c.Services("").List(ctx, o)
		},
		Watch: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return c.Services("").Watch(ctx, o)
		},
	}
	return a, nil
}

// Ready is closed once the node is registered, the engines are ready and the pods are known.
func (a *Agent) Ready() <-chan struct{} { return a.ready }

// Handler serves the kubelet's paths: /containerLogs, /exec, /attach, /portForward, /healthz,
// /pods, /stats/summary and /metrics/resource. It authenticates nobody: whoever serves it does.
func (a *Agent) Handler() http.Handler { return a.handler }

// Run serves until ctx ends, and returns when everything it started has ended. Containers of an
// engine that keeps them run on. It returns an error if an engine failed.
func (a *Agent) Run(ctx context.Context) error {
	a.mu.Lock()
	if a.running {
		a.mu.Unlock()
		return errors.New("runtime: Run is already running")
	}
	a.running = true
	a.known, a.claims = make(chan struct{}), make(chan struct{})
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		a.running = false
		a.mu.Unlock()
	}()
	a.dir = a.cfg.DataDir
	if a.dir == "" {
		dir, err := os.MkdirTemp("", "pintle-node-")
		if err != nil {
			return fmt.Errorf("make a data folder: %w", err)
		}
		a.dir = dir
		defer removeTree(dir)
	}
	for _, d := range []string{"pods", "logs"} {
		if err := os.MkdirAll(filepath.Join(a.dir, d), 0o750); err != nil {
			return fmt.Errorf("make a data folder: %w", err)
		}
	}
	if a.pins != nil {
		if err := a.pins.load(a.dir); err != nil {
			return err
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, e := range a.cfg.Engines {
		g.Go(func() error {
			if err := e.Run(ctx); err != nil && ctx.Err() == nil {
				return fmt.Errorf("engine %s: %w", e.Name(), err)
			}
			return nil
		})
	}
	g.Go(func() error { a.events.run(ctx); return nil })
	g.Go(func() error { a.svcs.Run(ctx); return nil })
	g.Go(func() error { a.runNode(ctx); return nil })
	g.Go(func() error { a.provisionFolders(ctx); return nil })
	drivers, err := a.newDrivers()
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.csi = drivers
	a.mu.Unlock()
	g.Go(func() error { return drivers.Run(ctx) })
	g.Go(func() error { a.volumeStats.run(ctx); return nil })
	g.Go(func() error { a.tellOverCapacity(ctx); return nil })
	if a.pins != nil {
		g.Go(func() error { a.runPins(ctx); return nil })
	}
	if d := a.cfg.Devices; d != nil {
		g.Go(func() error {
			if err := d.Run(ctx); err != nil && ctx.Err() == nil {
				return fmt.Errorf("devices: %w", err)
			}
			return nil
		})
		g.Go(func() error { a.runDevices(ctx); return nil })
		if s, ok := d.(SliceDevices); ok {
			g.Go(func() error { a.publishSlices(ctx, s); return nil })
		}
	}
	g.Go(func() error {
		for _, e := range a.cfg.Engines {
			select {
			case <-e.Ready():
			case <-ctx.Done():
				return nil
			}
		}
		for _, e := range a.cfg.Engines {
			g.Go(func() error { a.followEvents(ctx, e); return nil })
		}
		a.pods.Run(ctx)
		return nil
	})
	err = g.Wait()
	// Nothing adds workers any more: the mirror has ended.
	a.wg.Wait()
	a.mu.Lock()
	clear(a.workers)
	a.cleaned = false
	a.mu.Unlock()
	return err
}

// followEvents wakes the worker of each container that changed. A broken stream wakes all of them,
// because they look at the engine's list and so see what was missed.
func (a *Agent) followEvents(ctx context.Context, e Engine) {
	for ctx.Err() == nil {
		ch, err := e.Events(ctx)
		if err == nil {
			a.wakeAll()
			for ev := range ch {
				a.mu.Lock()
				w := a.workers[types.UID(ev.SandboxID)]
				a.mu.Unlock()
				if w != nil {
					w.wake()
				}
			}
		} else {
			a.log.Warn("engine events", "engine", e.Name(), "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(250 * time.Millisecond):
		}
	}
}

func (a *Agent) wakeAll() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.workers {
		w.wake()
	}
}

func (a *Agent) podChanged(ctx context.Context, pod *corev1.Pod, deleted bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	// A pod of the same name but another UID replaces one whose deletion we didn't see.
	for uid, w := range a.workers {
		if uid != pod.UID && w.namespace == pod.Namespace && w.name == pod.Name {
			w.setGone()
		}
	}
	w := a.workers[pod.UID]
	if w == nil {
		if deleted {
			return
		}
		w = newWorker(a, pod)
		a.startLocked(ctx, w)
	}
	if deleted {
		w.setGone()
		return
	}
	w.setDesired(pod)
}

// startLocked runs a worker until it is finished or ctx, which is Run's, ends.
func (a *Agent) startLocked(ctx context.Context, w *worker) {
	a.workers[w.uid] = w
	a.wg.Add(1)
	go func() {
		defer a.wg.Done()
		w.run(ctx)
		if ctx.Err() == nil {
			a.mu.Lock()
			if a.workers[w.uid] == w {
				delete(a.workers, w.uid)
			}
			a.mu.Unlock()
			a.retryResizes()
		}
	}()
}

// podsSynced removes, once and only after a complete list, what belongs to pods that are gone.
func (a *Agent) podsSynced(ctx context.Context) {
	a.mu.Lock()
	first := !a.cleaned
	a.cleaned = true
	a.mu.Unlock()
	if !first {
		return
	}
	complete := true
	for _, e := range a.cfg.Engines {
		boxes, err := e.Sandboxes(ctx)
		if err != nil {
			complete = false
			a.log.Warn("list sandboxes", "engine", e.Name(), "error", err)
			continue
		}
		for _, s := range boxes {
			a.mu.Lock()
			if _, ok := a.workers[types.UID(s.ID)]; !ok && s.Labels[labelNode] == a.cfg.NodeName {
				w := orphanWorker(a, e, s)
				a.startLocked(ctx, w)
			}
			a.mu.Unlock()
		}
	}
	a.mu.Lock()
	close(a.known)
	var running []types.UID
	for uid := range a.workers {
		running = append(running, uid)
	}
	a.mu.Unlock()
	if a.pins != nil && complete {
		if err := a.pins.keep(running); err != nil {
			a.log.Warn("release CPUs of pods that are gone", "error", err)
		}
	}
	dirs, _ := os.ReadDir(filepath.Join(a.dir, "pods"))
	for _, d := range dirs {
		a.mu.Lock()
		_, ok := a.workers[types.UID(d.Name())]
		a.mu.Unlock()
		if !ok {
			a.removePodDir(types.UID(d.Name()))
		}
	}
	logs, _ := os.ReadDir(filepath.Join(a.dir, "logs"))
	for _, d := range logs {
		a.mu.Lock()
		_, ok := a.workers[types.UID(d.Name())]
		a.mu.Unlock()
		if !ok {
			_ = os.RemoveAll(filepath.Join(a.dir, "logs", d.Name()))
		}
	}
}

// podsKnown is closed when there are workers for all pods and for what earlier ones left.
func (a *Agent) podsKnown() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.known
}

func (a *Agent) removePodDir(uid types.UID) {
	if err := removeTree(a.podDir(uid)); err != nil {
		a.log.Warn("remove pod folder", "uid", uid, "error", err)
	}
	_ = os.RemoveAll(a.logDir(uid))
}

func (a *Agent) podDir(uid types.UID) string { return filepath.Join(a.dir, "pods", string(uid)) }
func (a *Agent) logDir(uid types.UID) string { return filepath.Join(a.dir, "logs", string(uid)) }

// RemoveAll kills and removes every pod of this node from its engines, with their volumes. The
// API isn't told: it is for the orderly end of an appliance, after Run has returned or while the
// engines still run. Engines whose methods need Run are given ctx to finish.
func (a *Agent) RemoveAll(ctx context.Context) error {
	a.mu.Lock()
	for _, w := range a.workers {
		w.abandon()
	}
	a.mu.Unlock()
	var errs []error
	for _, e := range a.cfg.Engines {
		boxes, err := e.Sandboxes(ctx)
		if err != nil {
			errs = append(errs, fmt.Errorf("list sandboxes of %s: %w", e.Name(), err))
			continue
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		for _, s := range boxes {
			if s.Labels[labelNode] != a.cfg.NodeName {
				continue
			}
			wg.Go(func() {
				if err := e.RemoveSandbox(ctx, s.ID); err != nil {
					mu.Lock()
					errs = append(errs, fmt.Errorf("remove sandbox %s: %w", s.ID, err))
					mu.Unlock()
				}
			})
		}
		wg.Wait()
	}
	if d := a.cfg.Devices; d != nil && len(errs) == 0 {
		if err := d.Reconcile(nil); err != nil {
			a.log.Debug("release devices", "error", err) // without a driver: the next start does it
		}
	}
	dir := a.dir
	if dir == "" {
		dir = a.cfg.DataDir
	}
	if dir != "" {
		errs = append(errs, removeTree(filepath.Join(dir, "pods")))
		// What drivers in pods had mounted went with them, and the folder that they shared is shared no more. What is in it stays.
		errs = append(errs, unmountBelow(filepath.Join(dir, "kubelet")))
		_ = os.MkdirAll(filepath.Join(dir, "pods"), 0o750)
	}
	return errors.Join(errs...)
}

// ImportImages offers an OCI or Docker archive (a tar, optionally gzipped) to every engine and
// returns what they took. It is an error if none took anything. Pods that wait for an image try again at once.
func (a *Agent) ImportImages(ctx context.Context, archive io.Reader) ([]Image, error) {
	f, err := os.CreateTemp("", "pintle-import-")
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := io.Copy(f, archive); err != nil {
		return nil, fmt.Errorf("import: read archive: %w", err)
	}
	var all []Image
	var errs []error
	for _, e := range a.cfg.Engines {
		select {
		case <-e.Ready():
		case <-ctx.Done():
			return all, context.Cause(ctx)
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return all, fmt.Errorf("import: %w", err)
		}
		imgs, err := e.ImportImages(ctx, io.NopCloser(f))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", e.Name(), err))
		}
		all = append(all, imgs...)
	}
	if len(all) == 0 {
		return nil, errors.Join(append(errs, errors.New("import: no engine took the archive"))...)
	}
	a.wakeAll()
	return all, nil
}

// find returns the worker of a pod by name.
func (a *Agent) find(namespace, name string) *worker {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.workers {
		if w.namespace == namespace && w.name == name && !w.isGone() {
			return w
		}
	}
	return nil
}

func (a *Agent) allWorkers() []*worker {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Collect(maps.Values(a.workers))
}

// pickEngine chooses the engine that runs the pod.
func (a *Agent) pickEngine(ctx context.Context, pod *corev1.Pod) (Engine, error) {
	if n := pod.Spec.RuntimeClassName; n != nil && *n != "" {
		rc, err := a.cfg.Client.NodeV1().RuntimeClasses().Get(ctx, *n, metav1.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("failed to get sandbox runtime: RuntimeClass %q: %w", *n, err)
		}
		for _, e := range a.cfg.Engines {
			if e.Name() == rc.Handler {
				return e, nil
			}
		}
		return nil, fmt.Errorf("failed to get sandbox runtime: no runtime for %q is configured", rc.Handler)
	}
	def := a.cfg.Engines[0]
	for _, e := range a.cfg.Engines[1:] {
		if e.Name() != "wasm" {
			continue
		}
		for _, c := range pod.Spec.Containers {
			if img, err := e.Image(ctx, c.Image); err == nil && img.Wasm {
				return e, nil
			}
		}
	}
	return def, nil
}
