package wasm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pintle/pintle/runtime"
)

// container is one guest, before, while and after it runs.
type container struct {
	spec  runtime.ContainerSpec
	image *image
	tmp   string // folder of its tmpfs mounts

	// Guarded by Engine.mu.
	state    runtime.Container
	starting bool
	guest    *guest
	memory   *boundedMemory
	log      *containerLog

	done    chan struct{} // closed when the guest must end
	code    atomic.Uint32 // its exit code then
	signal  atomic.Int32
	endOnce sync.Once
	drained sync.Once
	exited  chan struct{} // closed when it has ended
}

// refusal names the first field that a guest cannot honour.
func refusal(s *runtime.ContainerSpec) error {
	for _, r := range []struct {
		asked bool
		field string
	}{
		{s.TTY, "tty"}, {s.Stdin, "stdin"}, {len(s.Devices) > 0 || len(s.CDIDevices) > 0, "devices"},
		{s.Security.Privileged, "securityContext.privileged"}, {len(s.Security.AddCaps) > 0, "securityContext.capabilities.add"},
		{s.Resources.CPUSet != "", "cpuset"}, {len(s.Resources.HugePages) > 0, "resources.limits hugepages"},
	} {
		if r.asked {
			return fmt.Errorf("%s: %w", r.field, ErrUnsupported)
		}
	}
	for _, m := range s.Mounts {
		if m.Propagation == "Bidirectional" {
			return fmt.Errorf("volumeMounts.mountPropagation of %s: %w", m.ContainerPath, ErrUnsupported)
		}
		if m.HostVolume && (s.Security.User != "" || len(s.Security.SupplementalGroups) > 0) {
			return fmt.Errorf("securityContext.runAsUser, runAsGroup, supplementalGroups and fsGroup beside the hostPath volume at %s, "+
				"which a guest opens with the host program's rights: %w", m.ContainerPath, ErrUnsupported)
		}
		if m.HostPath == "" && m.SizeLimit > 0 {
			return fmt.Errorf("size limit of the memory volume at %s: %w", m.ContainerPath, ErrUnsupported)
		}
	}
	return nil
}

// CreateContainer implements runtime.Engine.
func (e *Engine) CreateContainer(_ context.Context, spec runtime.ContainerSpec) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.containers[spec.ID] != nil {
		return nil
	}
	if e.sandboxes[spec.SandboxID] == nil {
		return fmt.Errorf("create container %s: sandbox %s: %w", spec.ID, spec.SandboxID, runtime.ErrNotFound)
	}
	if err := refusal(&spec); err != nil {
		return fmt.Errorf("create container %s: %w", spec.ID, err)
	}
	m, err := e.images.find(spec.Image)
	if err != nil {
		return fmt.Errorf("create container %s: %w", spec.ID, err)
	}
	c := &container{
		spec: spec, image: m, done: make(chan struct{}), exited: make(chan struct{}),
		tmp: filepath.Join(e.dir, "tmpfs", digestOf([]byte(spec.ID))[len("sha256:"):]),
		state: runtime.Container{
			ID: spec.ID, SandboxID: spec.SandboxID, Name: spec.Name, Attempt: spec.Attempt, CreatedAt: e.now(), ImageID: m.ID, Labels: spec.Labels,
		},
	}
	c.spec.Mounts = slices.Clone(spec.Mounts)
	for i, mount := range c.spec.Mounts {
		if mount.HostPath == "" {
			c.spec.Mounts[i].HostPath = filepath.Join(c.tmp, fmt.Sprint(i))
			if err := os.MkdirAll(c.spec.Mounts[i].HostPath, 0o700); err != nil {
				return fmt.Errorf("create container %s: %w", spec.ID, err)
			}
		}
	}
	e.containers[spec.ID] = c
	return nil
}

// argv is the guest's arguments and the file of its module.
func (e *Engine) argv(c *container) (args []string, module string, err error) {
	args = slices.Clone(c.image.Entrypoint)
	rest := c.image.Cmd
	if c.spec.Command != nil {
		args, rest = slices.Clone(c.spec.Command), nil
	}
	if c.spec.Args != nil {
		rest = c.spec.Args
	}
	if c.image.Module == "" { // the image is the module; argv[0] is only its name
		if len(args) == 0 {
			args = []string{"module.wasm"}
		}
		return append(args, rest...), e.images.modulePath(c.image), nil
	}
	if args = append(args, rest...); len(args) == 0 {
		return nil, "", errors.New("no command")
	}
	name := commandPath(c.workingDir(), args[0])
	if name == c.image.Module {
		return args, e.images.modulePath(c.image), nil
	}
	f, err := os.OpenInRoot(e.images.rootfs(c.image), name)
	if err != nil {
		return nil, "", fmt.Errorf("command %s: %w", args[0], err)
	}
	defer f.Close()
	if !startsWithModule(f) {
		return nil, "", fmt.Errorf("command %s is no WebAssembly module: %w", args[0], runtime.ErrImageFormat)
	}
	return args, f.Name(), nil
}

func (c *container) workingDir() string {
	if c.spec.WorkingDir != "" {
		return c.spec.WorkingDir
	}
	return c.image.WorkingDir
}

// environment is the image's variables, then the spec's. WASI has no working directory, so PWD says it.
func (c *container) environment() []string {
	env := slices.Concat(c.image.Env, c.spec.Env)
	if dir := c.workingDir(); dir != "" && !slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, "PWD=") }) {
		env = append(env, "PWD="+dir)
	}
	return env
}

// stop asks a guest to end. SIGTERM, SIGINT and SIGQUIT let one that serves finish what it is
// answering; all others end it at once. The caller holds Engine.mu.
func (c *container) stop(signal string) {
	number := signalNumber(signal)
	if g := c.guest; g != nil && (signal == "SIGTERM" || signal == "SIGINT" || signal == "SIGQUIT") {
		c.drained.Do(func() {
			g.wg.Go(func() { // ends with the guest at the latest
				g.drain()
				c.end(uint32(128+number), number)
			})
		})
		return
	}
	c.end(uint32(128+number), number)
}

func (c *container) end(code uint32, signal int) {
	c.endOnce.Do(func() {
		c.code.Store(code)
		c.signal.Store(int32(signal))
		close(c.done)
	})
}

// signalNumber is a signal's number on Linux, whatever the host; unknown names count as SIGTERM.
func signalNumber(name string) int {
	n, ok := map[string]int{"SIGHUP": 1, "SIGINT": 2, "SIGQUIT": 3, "SIGABRT": 6, "SIGKILL": 9, "SIGUSR1": 10, "SIGUSR2": 12, "SIGTERM": 15}[name]
	if !ok {
		return 15
	}
	return n
}

// SignalContainer implements runtime.Engine. A guest sees no signals; see doc.go for what each does.
func (e *Engine) SignalContainer(_ context.Context, id, signal string) error {
	if !strings.HasPrefix(signal, "SIG") {
		signal = "SIG" + signal
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.containers[id]
	if c == nil {
		return fmt.Errorf("signal container %s: %w", id, runtime.ErrNotFound)
	}
	if c.state.State == runtime.Running {
		c.stop(signal)
	}
	return nil
}

// RemoveContainer implements runtime.Engine.
func (e *Engine) RemoveContainer(ctx context.Context, id string) error {
	e.mu.Lock()
	c := e.containers[id]
	if c == nil {
		e.mu.Unlock()
		return nil
	}
	wait := c.starting || c.state.State == runtime.Running
	c.stop("SIGKILL")
	e.mu.Unlock()
	if wait {
		select {
		case <-c.exited:
		case <-ctx.Done():
			return fmt.Errorf("remove container %s: %w", id, context.Cause(ctx))
		}
	}
	if err := os.RemoveAll(c.tmp); err != nil {
		return fmt.Errorf("remove container %s: %w", id, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.containers[id] == c {
		delete(e.containers, id)
	}
	return nil
}

// Containers implements runtime.Engine. None survives a restart of the process.
func (e *Engine) Containers(context.Context) ([]runtime.Container, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make([]runtime.Container, 0, len(e.containers))
	for _, c := range e.containers {
		out = append(out, c.state)
	}
	slices.SortFunc(out, func(a, b runtime.Container) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

// Exec implements runtime.Engine: a module has one entry, so there is nothing to execute beside it.
func (e *Engine) Exec(context.Context, string, []string, runtime.Streams) (int, error) {
	return 0, fmt.Errorf("exec: a WASI module runs no second command: %w", ErrUnsupported)
}

// Attach implements runtime.Engine for output; stdin is refused.
func (e *Engine) Attach(ctx context.Context, id string, s runtime.Streams) error {
	if s.Stdin != nil || s.TTY {
		return fmt.Errorf("attach: stdin and tty: %w", ErrUnsupported)
	}
	e.mu.Lock()
	c := e.containers[id]
	if c == nil || c.state.State != runtime.Running {
		e.mu.Unlock()
		return fmt.Errorf("attach: running container %s: %w", id, runtime.ErrNotFound)
	}
	log := c.log
	e.mu.Unlock()
	sub := &subscriber{stdout: s.Stdout, stderr: s.Stderr}
	log.attach(sub)
	defer log.detach(sub)
	select {
	case <-c.exited:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Stats implements runtime.Engine. CPUNanos is the time spent in the guest's code, measured by the
// wall clock between host calls: on an overloaded machine it is more than the CPU time.
func (e *Engine) Stats(_ context.Context, id string) (runtime.Stats, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.containers[id]
	if c == nil {
		return runtime.Stats{}, fmt.Errorf("stats of container %s: %w", id, runtime.ErrNotFound)
	}
	out := runtime.Stats{Time: e.now()}
	if c.guest != nil {
		out.CPUNanos = uint64(c.guest.meter.total(time.Now()))
		out.MemoryBytes = c.memory.size.Load()
		out.MemoryRSS = out.MemoryBytes
	}
	return out, nil
}
