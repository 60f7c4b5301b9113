package containerd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	apievents "github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/log"
	"github.com/containerd/typeurl/v2"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/pintle/pintle/runtime"
)

// Engine runs pods on containerd. Make one with New.
type Engine struct {
	cfg         Config
	names       names
	daemon      *daemon // nil with Config.Address
	net         *network
	quiet       *log.Entry
	snapshotter string
	images      sync.Map // digest → *resolved
	users       sync.Map // image and user → specs.User
	ready       chan struct{}
	readyOnce   sync.Once

	natMu sync.Mutex // one writer of the nft table
	runMu sync.Mutex // held by Run, StopDaemon and Teardown

	mu         sync.Mutex // guards what follows, and the changing fields of sandboxes and containers
	client     *client.Client
	version    string
	sandboxes  map[string]*sandbox
	containers map[string]*ctr
	subs       map[chan runtime.ContainerEvent]struct{}
}

var (
	_ runtime.Engine  = (*Engine)(nil)
	_ runtime.Resizer = (*Engine)(nil)
)

// New checks cfg and that the machine has what is needed. It starts and changes nothing.
func New(cfg Config) (*Engine, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("containerd: this engine needs root")
	}
	for _, p := range []string{"bridge", "host-local"} {
		if err := cfg.plugin(p); err != nil {
			return nil, err
		}
	}
	silent := logrus.New()
	silent.SetOutput(io.Discard)
	e := &Engine{cfg: cfg, names: namesOf(cfg.Name), ready: make(chan struct{}), quiet: logrus.NewEntry(silent)}
	if cfg.Address == "" {
		bin, err := exec.LookPath(cmpOr(cfg.ContainerdPath, "containerd"))
		if err != nil {
			return nil, fmt.Errorf("containerd: find the daemon: %w", err)
		}
		if _, err := exec.LookPath("runc"); err != nil {
			return nil, fmt.Errorf("containerd: find runc: %w", err)
		}
		e.daemon = &daemon{bin: bin, dir: filepath.Join(cfg.DataDir, "containerd"),
			socket: filepath.Join(e.names.run, "containerd.sock"), log: cfg.Logger}
	}
	return e, nil
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// Name implements runtime.Engine.
func (e *Engine) Name() string { return "containerd" }

// Ready implements runtime.Engine.
func (e *Engine) Ready() <-chan struct{} { return e.ready }

// Version implements runtime.Engine.
func (e *Engine) Version() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return "containerd://" + e.version
}

// with puts our containerd namespace into ctx, and a logger that keeps containerd's client quiet.
func (e *Engine) with(ctx context.Context) context.Context {
	return log.WithLogger(namespaces.WithNamespace(ctx, e.names.namespace), e.quiet)
}

func (e *Engine) conn() (*client.Client, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.client == nil {
		return nil, errors.New("containerd: the engine isn't running")
	}
	return e.client, nil
}

// Run implements runtime.Engine. It adopts what an earlier Run left and starts containerd again
// when it ends. When ctx ends everything on the host stays; see StopDaemon and Teardown.
func (e *Engine) Run(ctx context.Context) error {
	if !e.runMu.TryLock() {
		return errors.New("containerd: the engine runs already")
	}
	defer e.runMu.Unlock()
	unlock, err := e.open(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	defer e.disconnect()
	if err := acquireForwarding(e.cfg.Name); err != nil {
		return err
	}
	if err := e.net.ensureBridge(); err != nil {
		return err
	}
	if err := e.syncNAT(); err != nil {
		return err
	}
	for ctx.Err() == nil {
		if err := e.serve(ctx); err != nil && ctx.Err() == nil {
			e.cfg.Logger.Warn("containerd connection lost", "err", err)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			if err := e.connect(ctx); err != nil && ctx.Err() == nil {
				e.cfg.Logger.Error("containerd does not come back", "err", err)
			}
		}
	}
	return nil
}

// open takes the cluster's lock, reads the records and connects.
func (e *Engine) open(ctx context.Context) (unlock func(), err error) {
	for _, d := range []string{"sandboxes", "containers"} {
		if err := os.MkdirAll(filepath.Join(e.cfg.DataDir, d), 0o711); err != nil {
			return nil, fmt.Errorf("create data folder: %w", err)
		}
	}
	lock, err := os.OpenFile(filepath.Join(e.cfg.DataDir, "engine.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("containerd: another process runs the engine in %s: %w", e.cfg.DataDir, err)
	}
	unlock = func() { lock.Close() }
	defer func() {
		if err != nil {
			unlock()
		}
	}()
	for _, d := range []string{"sandboxes", "containers"} { // records of a process that was killed while it wrote
		torn, _ := filepath.Glob(filepath.Join(e.cfg.DataDir, d, "*.tmp"))
		for _, f := range torn {
			os.Remove(f) //nolint:errcheck // the next start tries again
		}
	}
	if err := os.MkdirAll(filepath.Join(e.names.run, "sandboxes"), 0o711); err != nil {
		return nil, fmt.Errorf("create run folder: %w", err)
	}
	if e.net, err = newNetwork(e.cfg, e.names); err != nil {
		return nil, err
	}
	e.mu.Lock()
	e.sandboxes, e.containers = map[string]*sandbox{}, map[string]*ctr{}
	e.subs = map[chan runtime.ContainerEvent]struct{}{}
	err = errors.Join(e.loadSandboxes(), e.loadContainers())
	e.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return unlock, e.connect(ctx)
}

// connect makes sure that the daemon runs and that the client speaks to it.
func (e *Engine) connect(ctx context.Context) error {
	address := e.cfg.Address
	if e.daemon != nil {
		address = e.daemon.socket
		fd, err := e.daemon.ensure(ctx)
		if err != nil {
			return err
		}
		unix.Close(fd)
	}
	e.mu.Lock()
	old := e.client
	e.mu.Unlock()
	c, err := client.New(address, client.WithDefaultNamespace(e.names.namespace), client.WithTimeout(10*time.Second))
	if err != nil {
		return fmt.Errorf("connect to containerd at %s: %w", address, err)
	}
	v, err := c.Version(e.with(ctx))
	if err != nil {
		c.Close()
		return fmt.Errorf("ask containerd at %s for its version: %w", address, err)
	}
	if err := e.chooseSnapshotter(ctx, c); err != nil {
		c.Close()
		return err
	}
	e.mu.Lock()
	e.client, e.version = c, v.Version
	e.mu.Unlock()
	if old != nil {
		old.Close()
	}
	return nil
}

// chooseSnapshotter keeps the first choice for good: containers' layers live in it.
func (e *Engine) chooseSnapshotter(ctx context.Context, c *client.Client) error {
	if e.snapshotter != "" {
		return nil
	}
	file := filepath.Join(e.cfg.DataDir, "snapshotter")
	if data, err := os.ReadFile(file); err == nil && (string(data) == "overlayfs" || string(data) == "native") {
		e.snapshotter = string(data)
		return nil
	}
	choice := e.cfg.Snapshotter
	if choice == "" {
		choice = "overlayfs"
		// containerd doesn't load overlayfs where it can't mount one.
		if err := c.SnapshotService(choice).Walk(e.with(ctx), func(context.Context, snapshots.Info) error { return nil }); err != nil {
			choice = "native"
		}
	}
	e.snapshotter = choice
	return writeFile(file, []byte(choice))
}

func (e *Engine) disconnect() {
	e.mu.Lock()
	c := e.client
	e.client = nil
	var pumps []*pump
	for _, x := range e.containers {
		if x.pump != nil {
			pumps = append(pumps, x.pump)
		}
	}
	for ch := range e.subs {
		close(ch)
	}
	e.subs = map[chan runtime.ContainerEvent]struct{}{}
	e.mu.Unlock()
	for _, p := range pumps {
		p.stop()
	}
	if c != nil {
		c.Close()
	}
}

// serve subscribes first and lists then, so that no exit falls in between; it returns when the
// connection broke.
func (e *Engine) serve(ctx context.Context) error {
	c, err := e.conn()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(e.with(ctx))
	defer cancel()
	envelopes, errs := c.EventService().Subscribe(ctx, `namespace=="`+e.names.namespace+`",topic~="^/tasks/"`)
	if err := e.reconcile(ctx, c); err != nil {
		return err
	}
	e.readyOnce.Do(func() { close(e.ready) })
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		select {
		case err := <-errs:
			if err == nil {
				err = errors.New("the event stream ended")
			}
			e.closeSubs()
			return err
		case env := <-envelopes:
			if env == nil || env.Event == nil {
				continue
			}
			v, err := typeurl.UnmarshalAny(env.Event)
			if err != nil {
				continue
			}
			switch ev := v.(type) {
			case *apievents.TaskExit:
				if ev.ID == ev.ContainerID {
					if x := e.byContainerd(ev.ContainerID); x != nil {
						wg.Go(func() { e.exited(ctx, x, ev.ExitStatus, ev.ExitedAt.AsTime()) })
					}
				}
			case *apievents.TaskOOM:
				if x := e.byContainerd(ev.ContainerID); x != nil {
					e.mu.Lock()
					x.OOMKilled = true
					e.mu.Unlock()
					e.publish(runtime.ContainerEvent{ContainerID: x.Spec.ID, SandboxID: x.Spec.SandboxID, Type: "oom"})
				}
			}
		}
	}
}

// closeSubs tells listeners that they may have missed something: they list and subscribe again.
func (e *Engine) closeSubs() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for ch := range e.subs {
		close(ch)
		delete(e.subs, ch)
	}
}

func (e *Engine) publish(ev runtime.ContainerEvent) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for ch := range e.subs {
		select {
		case ch <- ev:
		default: // too slow: it must list anew
			close(ch)
			delete(e.subs, ch)
		}
	}
}

// Events implements runtime.Engine.
func (e *Engine) Events(ctx context.Context) (<-chan runtime.ContainerEvent, error) {
	if _, err := e.conn(); err != nil {
		return nil, err
	}
	ch := make(chan runtime.ContainerEvent, 1024)
	e.mu.Lock()
	e.subs[ch] = struct{}{}
	e.mu.Unlock()
	context.AfterFunc(ctx, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if _, ok := e.subs[ch]; ok {
			delete(e.subs, ch)
			close(ch)
		}
	})
	return ch, nil
}

// reconcile compares the records with containerd's tasks: exits that were missed are recorded,
// the output of what runs is read again.
func (e *Engine) reconcile(ctx context.Context, c *client.Client) error {
	e.mu.Lock()
	var all []*ctr
	for _, x := range e.containers {
		all = append(all, x)
	}
	e.mu.Unlock()
	var g errgroup.Group
	for _, x := range all {
		g.Go(func() error { return e.adopt(ctx, c, x) })
	}
	return g.Wait()
}
