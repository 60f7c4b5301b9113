package csi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/pintle/pintle/runtime/csi/internal/registration"
)

// Config is what a Manager works with. Client, NodeName and Dir are required.
type Config struct {
	Client   kubernetes.Interface
	NodeName string
	Dir      string // what manifests call /var/lib/kubelet
	// Token issues a token for the service account of a pod, bound to the pod.
	Token func(ctx context.Context, pod *corev1.Pod, audience string, seconds *int64) (token string, expires time.Time, err error)
	// Pods are the node's; nil: none are known, so no sidecar is.
	Pods func() []*corev1.Pod
	// Known reports whether a pod may have volumes still; nil: all may. Volumes of others are taken down.
	Known func(podUID string) bool
	// Report writes InUse into the Node's status, before a volume is staged and when it is no more: who detaches volumes reads it
	// there. nil: somebody else does.
	Report func(ctx context.Context) error
	// Event writes an event about an object; nil: nobody is told.
	Event func(about corev1.ObjectReference, kind, reason, message string)
	// Period is how often the registration folder is looked at; 0: 1 s.
	Period time.Duration
	Logger *slog.Logger // nil discards
}

// Manager knows the node's drivers and volumes. Make it with New. Safe for concurrent use.
type Manager struct {
	cfg   Config
	log   *slog.Logger
	paths paths
	locks keyed // by volume: its calls come one after the other

	mu      sync.Mutex
	plugins map[string]*plugin // by socket
	drivers map[string]*driver // by name
	staged  map[string]bool    // folders of staging that were confirmed since this Manager began
	said    map[string]bool    // failures that were logged
	changed chan struct{}      // closed when the drivers change
}

// plugin is a socket in the registration folder.
type plugin struct {
	identity string // of the socket: a new one at the same place is another plugin
	driver   string // "" until it is registered
	pause    time.Duration
	until    time.Time
}

// New checks the configuration and starts nothing.
func New(cfg Config) (*Manager, error) {
	if cfg.Client == nil || cfg.NodeName == "" || !filepath.IsAbs(cfg.Dir) {
		return nil, errors.New("csi: Config.Client, NodeName and an absolute Dir are required")
	}
	if cfg.Pods == nil {
		cfg.Pods = func() []*corev1.Pod { return nil }
	}
	if cfg.Known == nil {
		cfg.Known = func(string) bool { return true }
	}
	if cfg.Report == nil {
		cfg.Report = func(context.Context) error { return nil }
	}
	if cfg.Event == nil {
		cfg.Event = func(corev1.ObjectReference, string, string, string) {}
	}
	if cfg.Period == 0 {
		cfg.Period = time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Manager{cfg: cfg, log: cfg.Logger, paths: paths{filepath.Clean(cfg.Dir)}, plugins: map[string]*plugin{}, drivers: map[string]*driver{},
		staged: map[string]bool{}, said: map[string]bool{}, changed: make(chan struct{})}, nil
}

// Run registers drivers and takes down volumes of pods that are gone, until ctx ends. Volumes stay as they are.
func (m *Manager) Run(ctx context.Context) error {
	defer m.closeAll()
	t := time.NewTicker(m.cfg.Period)
	defer t.Stop()
	control := m.newControl()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { control.run(ctx) })
	wg.Go(func() { m.tidy(ctx) })
	for {
		m.scan(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

func (m *Manager) closeAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.drivers {
		_ = d.conn.Close()
	}
	clear(m.drivers)
	clear(m.plugins)
	clear(m.staged)
}

// scan registers the sockets that came, and forgets those that went.
func (m *Manager) scan(ctx context.Context) {
	sockets := m.sockets()
	m.mu.Lock()
	var came []string
	lost := map[string]string{}
	for path, p := range m.plugins {
		if sockets[path] != p.identity {
			delete(m.plugins, path)
			if p.driver != "" {
				lost[p.driver] = path
			}
		}
	}
	now := time.Now()
	for path, identity := range sockets {
		p := m.plugins[path]
		if p == nil {
			p = &plugin{identity: identity}
			m.plugins[path] = p
		}
		if p.driver == "" && !now.Before(p.until) {
			came = append(came, path)
		}
	}
	m.mu.Unlock()
	slices.Sort(came)
	for _, path := range came {
		name, err := m.register(ctx, path)
		if ctx.Err() != nil {
			return
		}
		m.mu.Lock()
		p := m.plugins[path]
		if err != nil {
			p.pause = min(max(2*p.pause, 500*time.Millisecond), time.Minute)
			p.until = time.Now().Add(p.pause)
		} else {
			p.driver = name
			delete(lost, name)
		}
		m.mu.Unlock()
		if err != nil {
			m.once(path, err)
		}
	}
	for name, path := range lost {
		m.unregister(ctx, name, path)
	}
}

// once logs a failure the first time.
func (m *Manager) once(what string, err error) {
	key := what + ": " + err.Error()
	m.mu.Lock()
	said := m.said[key]
	if len(m.said) > 1000 {
		clear(m.said)
	}
	m.said[key] = true
	m.mu.Unlock()
	if !said {
		m.log.Warn("storage driver", "of", what, "error", err)
	}
}

// sockets are those in the registration folder, with what tells them from others of the same name.
func (m *Manager) sockets() map[string]string {
	out := map[string]string{}
	_ = filepath.WalkDir(m.paths.registry(), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if strings.HasPrefix(d.Name(), ".") {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.Type()&fs.ModeSocket == 0 {
			return nil
		}
		if info, err := os.Lstat(path); err == nil {
			out[path] = identity(info)
		}
		return nil
	})
	return out
}

// register asks who is behind a socket, and tells it whether it is registered.
func (m *Manager) register(ctx context.Context, path string) (name string, err error) {
	conn, err := dial(path)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	info, err := registration.Ask(ctx, conn)
	if err != nil {
		return "", err
	}
	err = m.add(ctx, &info, path)
	status := registration.Status{Registered: err == nil}
	if err != nil {
		status.Error = err.Error()
	}
	if told := registration.Tell(ctx, conn, status); err == nil {
		err = told
	}
	return info.Name, err
}

func (m *Manager) add(ctx context.Context, info *registration.Info, path string) error {
	switch {
	case info.Type != "CSIPlugin":
		return fmt.Errorf("no handler registered for plugin type: %s at socket %s", info.Type, path)
	case info.Name == "":
		return errors.New("the driver gives no name")
	case !slices.ContainsFunc(info.Versions, func(v string) bool { return strings.HasPrefix(strings.TrimPrefix(v, "v"), "1.") }):
		return fmt.Errorf("none of the CSI versions %q is supported: 1.x is", info.Versions)
	}
	endpoint := info.Endpoint
	if endpoint == "" {
		endpoint = path
	}
	d, err := connect(ctx, info.Name, endpoint, m.paths.host(endpoint))
	if err != nil {
		return err
	}
	if err := m.publishDriver(ctx, d); err != nil {
		_ = d.conn.Close()
		return err
	}
	m.mu.Lock()
	old := m.drivers[d.name]
	m.drivers[d.name] = d
	m.announceLocked()
	m.mu.Unlock()
	if old != nil {
		_ = old.conn.Close()
	}
	m.log.Info("storage driver is registered", "driver", d.name, "node", d.nodeID, "controller", d.controller)
	return nil
}

func (m *Manager) unregister(ctx context.Context, name, path string) {
	m.mu.Lock()
	d := m.drivers[name]
	for other, p := range m.plugins {
		if other != path && p.driver == name {
			d = nil // it is registered at another place, too
		}
	}
	if d != nil {
		delete(m.drivers, name)
		m.announceLocked()
	}
	m.mu.Unlock()
	if d == nil {
		return
	}
	_ = d.conn.Close()
	m.log.Info("storage driver is gone", "driver", name)
	if err := m.withdrawDriver(ctx, name); err != nil && ctx.Err() == nil {
		m.once(name, err)
	}
}

func (m *Manager) announceLocked() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// driver returns a registered driver.
func (m *Manager) driver(name string) (*driver, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.drivers[name]
	return d, ok
}

// all returns the registered drivers, and what closes when there are others.
func (m *Manager) all() ([]*driver, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.drivers)), m.changed
}

// tidy takes down volumes of pods that are gone, again and again until the driver has done so.
func (m *Manager) tidy(ctx context.Context) {
	for {
		_, changed := m.all()
		pods, _ := os.ReadDir(m.paths.pods())
		for _, p := range pods {
			if m.cfg.Known(p.Name()) {
				continue
			}
			if err := m.Unmount(ctx, p.Name()); err != nil && ctx.Err() == nil {
				m.once("pod "+p.Name(), err)
			}
		}
		if err := m.unstageUnused(ctx); err != nil && ctx.Err() == nil {
			m.once("staged volumes", err)
		}
		t := time.NewTimer(15 * time.Second)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-changed:
		case <-t.C:
		}
		t.Stop()
	}
}

func hash(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

// keyed are locks by name. The zero value is ready.
type keyed struct {
	mu    sync.Mutex
	locks map[string]*keyedLock
}

type keyedLock struct {
	ch   chan struct{}
	refs int
}

// lock waits for the lock of a name, or until ctx ends.
func (k *keyed) lock(ctx context.Context, name string) (unlock func(), err error) {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = map[string]*keyedLock{}
	}
	l := k.locks[name]
	if l == nil {
		l = &keyedLock{ch: make(chan struct{}, 1)}
		k.locks[name] = l
	}
	l.refs++
	k.mu.Unlock()
	release := func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if l.refs--; l.refs == 0 {
			delete(k.locks, name)
		}
	}
	select {
	case l.ch <- struct{}{}:
		return func() { <-l.ch; release() }, nil
	case <-ctx.Done():
		release()
		return nil, context.Cause(ctx)
	}
}
