package wasm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"

	"github.com/pintle/pintle/runtime"
)

// ErrNotRunning says that Run has not begun or has ended.
var ErrNotRunning = errors.New("wasm engine is not running")

// ErrUnsupported says that a guest cannot have what a spec asks for; the message names the field.
var ErrUnsupported = errors.New("not supported by the wasm engine")

// ListenAnnotation on a ContainerSpec names the TCP port that the guest gets as descriptor 3.
const ListenAnnotation = "pintle.dev/listen"

// Config says where the engine keeps its files and which addresses its pods get.
type Config struct {
	// DataDir holds images and compiled code. "" is a temporary folder that New makes and Run removes.
	DataDir string
	// PodAddresses is the IPv4 loopback prefix that pods get addresses from. Zero means 127.64.0.0/10
	// on Linux and 127.0.0.1/32 elsewhere. In a prefix of one address all pods share it, each listener
	// has a port that the system chose, and only Dial knows it.
	PodAddresses netip.Prefix
	// Logger nil discards.
	Logger *slog.Logger
	// Clock stamps containers and log lines; nil is time.Now. Limits and timers use real time.
	Clock func() time.Time
}

// Engine runs WASI modules in this process. It satisfies runtime.Engine.
type Engine struct {
	log       *slog.Logger
	now       func() time.Time
	dir       string
	temporary bool
	addresses netip.Prefix
	images    *imageStore
	ready     chan struct{}

	mu         sync.Mutex // guards all below; never held while a guest is called or waited for
	running    bool
	ended      bool
	cache      wazero.CompilationCache
	compiler   *compiler
	sandboxes  map[string]*sandbox
	containers map[string]*container
	watchers   map[*watcher]struct{}
	guests     sync.WaitGroup
}

var (
	_ runtime.Engine   = (*Engine)(nil)
	_ runtime.Preparer = (*Engine)(nil)
	_ runtime.Resizer  = (*Engine)(nil)
)

type sandbox struct {
	runtime.Sandbox
	hostNetwork bool
	listeners   map[uint16]netip.AddrPort // by container port: where it really listens
}

type watcher struct{ events chan runtime.ContainerEvent }

// New checks the configuration and opens the image store; it starts nothing.
func New(c Config) (*Engine, error) {
	e := &Engine{
		log: c.Logger, now: c.Clock, dir: c.DataDir, addresses: c.PodAddresses, ready: make(chan struct{}),
		sandboxes: map[string]*sandbox{}, containers: map[string]*container{}, watchers: map[*watcher]struct{}{},
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	if e.now == nil {
		e.now = time.Now
	}
	if !e.addresses.IsValid() {
		e.addresses = netip.MustParsePrefix("127.0.0.1/32")
		if goruntime.GOOS == "linux" {
			e.addresses = netip.MustParsePrefix("127.64.0.0/10")
		}
	}
	if !e.addresses.Addr().Is4() || !e.addresses.Addr().IsLoopback() || e.addresses.Bits() < 8 {
		return nil, fmt.Errorf("wasm: PodAddresses %s is no prefix of IPv4 loopback addresses", e.addresses)
	}
	e.addresses = e.addresses.Masked()
	var err error
	if e.dir == "" {
		e.temporary = true
		e.dir, err = os.MkdirTemp("", "pintle-wasm-")
	} else {
		e.dir, err = filepath.Abs(e.dir)
	}
	if err != nil {
		return nil, fmt.Errorf("wasm: %w", err)
	}
	if e.images, err = openImages(filepath.Join(e.dir, "images")); err != nil {
		return nil, fmt.Errorf("wasm: %w", err)
	}
	return e, nil
}

// Name implements runtime.Engine.
func (e *Engine) Name() string { return "wasm" }

// Version implements runtime.Engine.
func (e *Engine) Version() string { return "wasm://wazero-1.12.0" }

// Ready implements runtime.Engine.
func (e *Engine) Ready() <-chan struct{} { return e.ready }

// Run implements runtime.Engine. When ctx ends every guest is ended and waited for: they live in
// this process. An Engine runs once.
func (e *Engine) Run(ctx context.Context) error {
	cache, err := wazero.NewCompilationCacheWithDir(filepath.Join(e.dir, "cache"))
	if err != nil {
		return fmt.Errorf("wasm: open compilation cache: %w", err)
	}
	e.mu.Lock()
	if e.running || e.ended {
		e.mu.Unlock()
		return errors.Join(errors.New("wasm: Run called twice"), cache.Close(context.WithoutCancel(ctx)))
	}
	e.running, e.cache = true, cache
	e.compiler = newCompiler(compileInto(cache), ctx.Done(), &e.guests, e.log.Debug)
	e.mu.Unlock()
	close(e.ready)
	<-ctx.Done()

	e.mu.Lock()
	e.running, e.ended = false, true
	for _, c := range e.containers {
		c.stop("SIGKILL")
	}
	e.mu.Unlock()
	e.guests.Wait()
	e.mu.Lock()
	for w := range e.watchers {
		e.dropLocked(w)
	}
	e.mu.Unlock()
	err = cache.Close(context.WithoutCancel(ctx))
	if e.temporary {
		err = errors.Join(err, os.RemoveAll(e.dir))
	}
	if err != nil {
		return fmt.Errorf("wasm: close: %w", err)
	}
	return nil
}

// Image implements runtime.Engine.
func (e *Engine) Image(_ context.Context, ref string) (runtime.Image, error) {
	m, err := e.images.find(ref)
	if err != nil {
		return runtime.Image{}, err
	}
	return m.public(), nil
}

// Images implements runtime.Engine.
func (e *Engine) Images(context.Context) ([]runtime.Image, error) { return e.images.list(), nil }

// Module reads the module of an image in the store.
func (e *Engine) Module(_ context.Context, ref string) ([]byte, error) {
	m, err := e.images.find(ref)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(e.images.modulePath(m))
}

// ImportImages implements runtime.Engine. An image without a module is runtime.ErrImageFormat, and
// then none of the archive is taken. While the engine runs it returns when the modules are compiled,
// which takes seconds for large ones the first time; when ctx ends before that, the images are in the
// store nevertheless, and importing them again waits for the rest.
func (e *Engine) ImportImages(ctx context.Context, archive io.Reader) ([]runtime.Image, error) {
	images, err := e.images.load(ctx, archive)
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(images))
	for i := range images {
		ids[i] = images[i].ID
	}
	return images, e.compileImages(ctx, ids)
}

// CreateSandbox implements runtime.Engine.
func (e *Engine) CreateSandbox(_ context.Context, spec runtime.SandboxSpec) (runtime.Sandbox, error) {
	for _, r := range []struct {
		asked bool
		field string
	}{
		{spec.HostPID, "hostPID"}, {spec.HostIPC, "hostIPC"}, {spec.SharePID, "shareProcessNamespace"},
		{len(spec.Sysctls) > 0, "securityContext.sysctls"}, {len(spec.PortMaps) > 0, "ports.hostPort"},
	} {
		if r.asked {
			return runtime.Sandbox{}, fmt.Errorf("sandbox %s: %s: %w", spec.ID, r.field, ErrUnsupported)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if s := e.sandboxes[spec.ID]; s != nil {
		return s.Sandbox, nil
	}
	if !e.running {
		return runtime.Sandbox{}, fmt.Errorf("sandbox %s: %w", spec.ID, ErrNotRunning)
	}
	s := &sandbox{
		Sandbox:     runtime.Sandbox{ID: spec.ID, Name: spec.Name, Namespace: spec.Namespace, Ready: true, CreatedAt: e.now(), Labels: spec.Labels},
		hostNetwork: spec.HostNetwork, listeners: map[uint16]netip.AddrPort{},
	}
	if !spec.HostNetwork {
		ip, err := e.addressLocked(spec.ID)
		if err != nil {
			return runtime.Sandbox{}, fmt.Errorf("sandbox %s: %w", spec.ID, err)
		}
		s.IPs = []netip.Addr{ip}
	}
	e.sandboxes[spec.ID] = s
	return s.Sandbox, nil
}

// RemoveSandbox implements runtime.Engine.
func (e *Engine) RemoveSandbox(ctx context.Context, id string) error {
	e.mu.Lock()
	var members []string
	for _, c := range e.containers {
		if c.spec.SandboxID == id {
			members = append(members, c.spec.ID)
		}
	}
	e.mu.Unlock()
	var errs []error
	for _, m := range members {
		errs = append(errs, e.RemoveContainer(ctx, m))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove sandbox %s: %w", id, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.sandboxes, id)
	return nil
}

// Sandboxes implements runtime.Engine. None survives a restart of the process.
func (e *Engine) Sandboxes(context.Context) ([]runtime.Sandbox, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make([]runtime.Sandbox, 0, len(e.sandboxes))
	for _, s := range e.sandboxes {
		out = append(out, s.Sandbox)
	}
	slices.SortFunc(out, func(a, b runtime.Sandbox) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

// Events implements runtime.Engine. A listener that falls 1024 events behind is closed.
func (e *Engine) Events(ctx context.Context) (<-chan runtime.ContainerEvent, error) {
	w := &watcher{events: make(chan runtime.ContainerEvent, 1024)}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended {
		return nil, fmt.Errorf("events: %w", ErrNotRunning)
	}
	e.watchers[w] = struct{}{}
	context.AfterFunc(ctx, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.dropLocked(w)
	})
	return w.events, nil
}

func (e *Engine) dropLocked(w *watcher) {
	if _, ok := e.watchers[w]; ok {
		delete(e.watchers, w)
		close(w.events)
	}
}

func (e *Engine) publishLocked(ev runtime.ContainerEvent) {
	for w := range e.watchers {
		select {
		case w.events <- ev:
		default:
			e.dropLocked(w)
		}
	}
}
