// Package runtimetest is an Engine without containers, for tests of the agent and of what stands on it.
package runtimetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pintle/pintle/runtime"
)

// FakeEngine keeps sandboxes and containers in memory. The zero value isn't ready: use NewFakeEngine.
// Its containers run until they are signalled or a test calls Exit. Safe for concurrent use; it may
// be given to one agent after another, as a daemon that outlives them.
type FakeEngine struct {
	// OnExec answers Exec; nil: exit code 0. OnDial answers Dial; nil: a connection refused.
	OnExec func(id string, cmd []string, s runtime.Streams) (int, error)
	OnDial func(sandbox string, port uint16) (net.Conn, error)
	// IgnoreTerm makes containers survive SIGTERM.
	IgnoreTerm bool
	// Memory is what Stats says that each container uses, in bytes; 0: 1 MiB.
	Memory atomic.Uint64

	name string

	mu         sync.Mutex
	images     map[string]runtime.Image
	sandboxes  map[string]runtime.Sandbox
	containers map[string]runtime.Container
	specs      map[string]runtime.ContainerSpec
	boxSpecs   map[string]runtime.SandboxSpec
	subs       []chan runtime.ContainerEvent
	calls      []string
	fail       map[string]error
	next       byte
}

var _ runtime.Engine = (*FakeEngine)(nil)

// NewFakeEngine returns an engine of that name ("containerd" if empty) with the given images in its store.
func NewFakeEngine(name string, images ...string) *FakeEngine {
	if name == "" {
		name = "containerd"
	}
	f := &FakeEngine{name: name, images: map[string]runtime.Image{}, sandboxes: map[string]runtime.Sandbox{}, containers: map[string]runtime.Container{},
		specs: map[string]runtime.ContainerSpec{}, boxSpecs: map[string]runtime.SandboxSpec{}, fail: map[string]error{}}
	for _, i := range images {
		f.AddImage(runtime.Image{ID: "sha256:" + i, Names: []string{i}, Size: 1})
	}
	return f
}

// AddImage puts an image into the store.
func (f *FakeEngine) AddImage(i runtime.Image) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range i.Names {
		f.images[n] = i
	}
}

// Fail makes every call of a method ("CreateSandbox") fail with err, until err is nil.
func (f *FakeEngine) Fail(method string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail[method] = err
}

// Calls are the changes made so far, in order: "StartContainer <id>".
func (f *FakeEngine) Calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// Spec is what a container was created with.
func (f *FakeEngine) Spec(id string) (runtime.ContainerSpec, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.specs[id]
	return s, ok
}

// SandboxSpec is what a sandbox was created with.
func (f *FakeEngine) SandboxSpec(id string) (runtime.SandboxSpec, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.boxSpecs[id]
	return s, ok
}

// Exit ends a running container.
func (f *FakeEngine) Exit(id string, code int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.exitLocked(id, code)
}

func (f *FakeEngine) exitLocked(id string, code int) {
	c, ok := f.containers[id]
	if !ok || c.State != runtime.Running {
		return
	}
	c.State, c.ExitCode, c.FinishedAt = runtime.Exited, code, time.Now()
	f.containers[id] = c
	f.publishLocked(runtime.ContainerEvent{ContainerID: id, SandboxID: c.SandboxID, Type: "exit"})
}

func (f *FakeEngine) publishLocked(ev runtime.ContainerEvent) {
	for _, ch := range f.subs {
		select {
		case ch <- ev:
		default:
		}
	}
}

func (f *FakeEngine) call(method, id string) error {
	if err := f.fail[method]; err != nil {
		return err
	}
	if id != "" {
		f.calls = append(f.calls, method+" "+id)
	}
	return nil
}

// Name implements runtime.Engine.
func (f *FakeEngine) Name() string { return f.name }

// Version implements runtime.Engine.
func (f *FakeEngine) Version() string { return f.name + "://fake" }

// Run waits for ctx; containers stay.
func (f *FakeEngine) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Ready is closed from the start.
func (f *FakeEngine) Ready() <-chan struct{} {
	ch := make(chan struct{})
	close(ch)
	return ch
}

// Image implements runtime.Engine.
func (f *FakeEngine) Image(_ context.Context, ref string) (runtime.Image, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.call("Image", ""); err != nil {
		return runtime.Image{}, err
	}
	i, ok := f.images[ref]
	if !ok {
		return i, fmt.Errorf("%s: %w", ref, runtime.ErrImageNotFound)
	}
	return i, nil
}

// Images implements runtime.Engine.
func (f *FakeEngine) Images(context.Context) ([]runtime.Image, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []runtime.Image
	for _, i := range f.images {
		out = append(out, i)
	}
	return out, nil
}

// ImportImages takes the archive's whole text for an image's name.
func (f *FakeEngine) ImportImages(_ context.Context, r io.Reader) ([]runtime.Image, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	i := runtime.Image{ID: "sha256:" + string(b), Names: []string{string(b)}}
	f.AddImage(i)
	return []runtime.Image{i}, nil
}

// CreateSandbox implements runtime.Engine.
func (f *FakeEngine) CreateSandbox(_ context.Context, spec runtime.SandboxSpec) (runtime.Sandbox, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s, ok := f.sandboxes[spec.ID]; ok {
		return s, nil
	}
	if err := f.call("CreateSandbox", spec.ID); err != nil {
		return runtime.Sandbox{}, err
	}
	f.next++
	s := runtime.Sandbox{ID: spec.ID, Name: spec.Name, Namespace: spec.Namespace, Ready: true, CreatedAt: time.Now(), Labels: spec.Labels,
		IPs: []netip.Addr{netip.AddrFrom4([4]byte{127, 77, 0, f.next})}}
	if spec.HostNetwork {
		s.IPs = nil
	}
	f.sandboxes[spec.ID], f.boxSpecs[spec.ID] = s, spec
	return s, nil
}

// RemoveSandbox implements runtime.Engine.
func (f *FakeEngine) RemoveSandbox(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.call("RemoveSandbox", id); err != nil {
		return err
	}
	for cid, c := range f.containers {
		if c.SandboxID == id {
			delete(f.containers, cid)
		}
	}
	delete(f.sandboxes, id)
	return nil
}

// Sandboxes implements runtime.Engine.
func (f *FakeEngine) Sandboxes(context.Context) ([]runtime.Sandbox, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.call("Sandboxes", ""); err != nil {
		return nil, err
	}
	var out []runtime.Sandbox
	for _, s := range f.sandboxes {
		out = append(out, s)
	}
	return out, nil
}

// CreateContainer implements runtime.Engine.
func (f *FakeEngine) CreateContainer(_ context.Context, spec runtime.ContainerSpec) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.containers[spec.ID]; ok {
		return nil
	}
	if err := f.call("CreateContainer", spec.ID); err != nil {
		return err
	}
	if _, ok := f.sandboxes[spec.SandboxID]; !ok {
		return fmt.Errorf("sandbox %s: %w", spec.SandboxID, runtime.ErrNotFound)
	}
	f.specs[spec.ID] = spec
	f.containers[spec.ID] = runtime.Container{ID: spec.ID, SandboxID: spec.SandboxID, Name: spec.Name, Attempt: spec.Attempt,
		CreatedAt: time.Now(), Labels: spec.Labels, ImageID: "sha256:" + spec.Image}
	return nil
}

// SetCPUs implements runtime.CPUSetter.
func (f *FakeEngine) SetCPUs(_ context.Context, id, cpus, nodes string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.specs[id]
	if !ok {
		return runtime.ErrNotFound
	}
	s.Resources.CPUSet = cpus
	if nodes != "" {
		s.Resources.MemSet = nodes
	}
	f.specs[id] = s
	return nil
}

// ResizeContainer implements runtime.Resizer.
func (f *FakeEngine) ResizeContainer(_ context.Context, id string, r runtime.Resources) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.call("ResizeContainer", id); err != nil {
		return err
	}
	s, ok := f.specs[id]
	if !ok {
		return runtime.ErrNotFound
	}
	r.CPUSet, r.MemSet = s.Resources.CPUSet, s.Resources.MemSet
	s.Resources = r
	f.specs[id] = s
	return nil
}

// ResizeSandbox implements runtime.Resizer.
func (f *FakeEngine) ResizeSandbox(_ context.Context, id string, r runtime.Resources) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.call("ResizeSandbox", id); err != nil {
		return err
	}
	s, ok := f.boxSpecs[id]
	if !ok {
		return runtime.ErrNotFound
	}
	s.Resources = r
	f.boxSpecs[id] = s
	return nil
}

// StartContainerIn implements runtime.CgroupStarter: the cgroup's folder is /cgroup/ID.
func (f *FakeEngine) StartContainerIn(ctx context.Context, id string, before func(cgroup string) error) error {
	if err := before("/cgroup/" + id); err != nil {
		return err
	}
	return f.StartContainer(ctx, id)
}

// StartContainer implements runtime.Engine.
func (f *FakeEngine) StartContainer(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.call("StartContainer", id); err != nil {
		return err
	}
	c, ok := f.containers[id]
	if !ok {
		return fmt.Errorf("container %s: %w", id, runtime.ErrNotFound)
	}
	c.State, c.StartedAt = runtime.Running, time.Now()
	f.containers[id] = c
	f.publishLocked(runtime.ContainerEvent{ContainerID: id, SandboxID: c.SandboxID, Type: "start"})
	return nil
}

// SignalContainer implements runtime.Engine.
func (f *FakeEngine) SignalContainer(_ context.Context, id, signal string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.call("SignalContainer", id+" "+signal); err != nil {
		return err
	}
	switch {
	case signal == "SIGKILL":
		f.exitLocked(id, 137)
	case !f.IgnoreTerm:
		f.exitLocked(id, 0)
	}
	return nil
}

// RemoveContainer implements runtime.Engine.
func (f *FakeEngine) RemoveContainer(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.call("RemoveContainer", id); err != nil {
		return err
	}
	delete(f.containers, id)
	return nil
}

// Containers implements runtime.Engine.
func (f *FakeEngine) Containers(context.Context) ([]runtime.Container, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.call("Containers", ""); err != nil {
		return nil, err
	}
	var out []runtime.Container
	for _, c := range f.containers {
		out = append(out, c)
	}
	return out, nil
}

// Events implements runtime.Engine.
func (f *FakeEngine) Events(ctx context.Context) (<-chan runtime.ContainerEvent, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ch := make(chan runtime.ContainerEvent, 1024)
	f.subs = append(f.subs, ch)
	context.AfterFunc(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if i := slices.Index(f.subs, ch); i >= 0 {
			f.subs = slices.Delete(f.subs, i, i+1)
			close(ch)
		}
	})
	return ch, nil
}

// BreakEvents ends all event streams, as a lost connection does.
func (f *FakeEngine) BreakEvents() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, ch := range f.subs {
		close(ch)
	}
	f.subs = nil
}

// Log appends a line in CRI format to a container's log.
func (f *FakeEngine) Log(id, stream, text string) error {
	spec, ok := f.Spec(id)
	if !ok {
		return runtime.ErrNotFound
	}
	w, err := os.OpenFile(spec.LogPath, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s %s F %s\n", time.Now().Format(time.RFC3339Nano), stream, text)
	return errors.Join(err, w.Close())
}

// Exec implements runtime.Engine.
func (f *FakeEngine) Exec(_ context.Context, id string, cmd []string, s runtime.Streams) (int, error) {
	if f.OnExec == nil {
		return 0, nil
	}
	return f.OnExec(id, cmd, s)
}

// Attach implements runtime.Engine: it waits for ctx.
func (f *FakeEngine) Attach(ctx context.Context, _ string, _ runtime.Streams) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// Dial implements runtime.Engine.
func (f *FakeEngine) Dial(_ context.Context, sandbox string, port uint16) (net.Conn, error) {
	if f.OnDial == nil {
		return nil, errors.New("connection refused")
	}
	return f.OnDial(sandbox, port)
}

// Stats implements runtime.Engine.
func (f *FakeEngine) Stats(context.Context, string) (runtime.Stats, error) {
	return runtime.Stats{Time: time.Now(), CPUNanos: 1e9, MemoryBytes: cmp.Or(f.Memory.Load(), 1<<20)}, nil
}
