package wasm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/experimental/sysfs"
	"github.com/tetratelabs/wazero/sys"

	"github.com/pintle/pintle/runtime"
)

// trapped is the exit code of a guest that trapped, as of a process that SIGABRT ended.
const trapped = 134

// StartContainer implements runtime.Engine. It returns when the module is compiled and its listener
// is open, so that what cannot run is the caller's error.
func (e *Engine) StartContainer(ctx context.Context, id string) error {
	e.mu.Lock()
	c := e.containers[id]
	switch {
	case c == nil:
		e.mu.Unlock()
		return fmt.Errorf("start container %s: %w", id, runtime.ErrNotFound)
	case !e.running:
		e.mu.Unlock()
		return fmt.Errorf("start container %s: %w", id, ErrNotRunning)
	case c.starting || c.state.State != runtime.Created:
		e.mu.Unlock()
		return nil
	}
	c.starting = true
	e.guests.Add(1)
	cache, compiler := e.cache, e.compiler
	e.mu.Unlock()

	p, err := e.prepare(ctx, c, cache, compiler)
	e.mu.Lock()
	defer e.mu.Unlock()
	c.starting = false
	if err != nil {
		c.state.State, c.state.FinishedAt, c.state.ExitCode, c.state.Message = runtime.Exited, e.now(), 128, err.Error()
		close(c.exited)
		e.guests.Done()
		return fmt.Errorf("start container %s: %w", id, err)
	}
	c.state.State, c.state.StartedAt = runtime.Running, e.now()
	c.guest, c.memory, c.log = p.guest, p.memory, p.log
	e.publishLocked(runtime.ContainerEvent{ContainerID: id, SandboxID: c.spec.SandboxID, Type: "start"})
	go func() {
		defer e.guests.Done()
		e.finish(c, p, p.run(c))
	}()
	return nil
}

// prepared is a guest with everything open, ready to run.
type prepared struct {
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
	config   wazero.ModuleConfig
	guest    *guest
	memory   *boundedMemory
	log      *containerLog
	stdout   *logStream
	stderr   *logStream
	port     uint16
}

func (e *Engine) prepare(ctx context.Context, c *container, cache wazero.CompilationCache, compiler *compiler) (p *prepared, err error) {
	p = &prepared{memory: &boundedMemory{}}
	p.memory.limit.Store(uint64(max(c.spec.Resources.MemoryLimit, 0)))
	args, file, err := e.argv(c)
	if err != nil {
		return nil, err
	}
	code, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read module: %w", err)
	}
	env := c.environment()
	if p.port, err = listenPort(&c.spec, env); err != nil {
		return nil, err
	}
	tree, err := newHostFS(e.images.rootfs(c.image), c.spec.Mounts)
	if err != nil {
		return nil, fmt.Errorf("mount: %w", err)
	}
	if err := compiler.ensure(ctx, code); err != nil {
		return nil, err
	}
	// One runtime for each guest, since wasi and limits are per runtime; the cache shares the code.
	p.runtime = wazero.NewRuntimeWithConfig(context.WithoutCancel(ctx), runtimeConfig(cache))
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if p.compiled, err = p.runtime.CompileModule(ctx, code); err != nil {
		return nil, fmt.Errorf("compile module: %w", err)
	}
	for _, m := range p.compiled.ExportedMemories() {
		if least, limit := uint64(m.Min())<<16, p.memory.limit.Load(); limit > 0 && least > limit {
			return nil, fmt.Errorf("resources.limits.memory: the module needs %d bytes to start, the limit is %d", least, limit)
		}
	}
	if p.compiled.ExportedFunctions()["_start"] == nil {
		return nil, fmt.Errorf("the module exports no _start, so it is no WASI command: %w", runtime.ErrImageFormat)
	}
	if p.log, err = openLog(c.spec.LogPath, c.spec.LogMaxBytes, c.spec.LogMaxFiles, e.now); err != nil {
		return nil, err
	}
	var l net.Listener
	mounts := wazero.NewFSConfig().(sysfs.FSConfig)
	if p.port != 0 {
		if l, err = e.listen(ctx, c.spec.SandboxID, p.port); err != nil {
			return nil, err
		}
		mounts = mounts.WithSysFSMount(noFS{}, "/.listener").(sysfs.FSConfig)
	}
	period := time.Duration(c.spec.Resources.CPUPeriod) * time.Microsecond
	p.guest = newGuest(c.done, c.code.Load, l, time.Duration(c.spec.Resources.CPUQuota)*time.Microsecond, period)
	defer func() {
		if err != nil {
			p.guest.end(true)
			if l != nil {
				e.unlisten(c.spec.SandboxID, p.port)
			}
		}
	}()
	if err = exportWASI(ctx, p.runtime, p.guest); err != nil {
		return nil, err
	}
	p.stdout, p.stderr = p.log.stream("stdout"), p.log.stream("stderr")
	began := p.guest.started
	p.config = wazero.NewModuleConfig().WithName("").WithStartFunctions().WithArgs(args...).
		WithStdout(p.stdout).WithStderr(p.stderr).WithRandSource(rand.Reader).
		WithWalltime(func() (int64, int32) { t := time.Now(); return t.Unix(), int32(t.Nanosecond()) }, 1).
		WithNanotime(func() int64 { return int64(time.Since(began)) }, 1).
		WithFSConfig(mounts.WithSysFSMount(tree, "/"))
	for _, kv := range env {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" || strings.Contains(kv, "\x00") {
			return nil, fmt.Errorf("env: %q is no variable", k)
		}
		p.config = p.config.WithEnv(k, v)
	}
	return p, nil
}

// run calls the guest's _start and returns how it ended. No panic leaves it.
func (p *prepared) run(c *container) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("guest panicked: %v\n%s", r, debug.Stack())
		}
	}()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-c.done:
			cancel()
		case <-ended:
		}
	}()
	m, err := p.runtime.InstantiateModule(experimental.WithMemoryAllocator(ctx, p.memory), p.compiled, p.config)
	if err != nil {
		return err
	}
	p.guest.leave()
	_, err = m.ExportedFunction("_start").Call(ctx)
	p.guest.meter.stop(time.Now())
	return err
}

func (p *prepared) close() {
	if p.log != nil {
		p.log.close()
	}
	_ = p.runtime.Close(context.Background())
	p.memory.release()
}

// finish records the end and says so once everything of the guest is closed.
func (e *Engine) finish(c *container, p *prepared, err error) {
	code, message := 0, ""
	killed := false
	select {
	case <-c.done:
		killed = true
	default:
	}
	var exit *sys.ExitError
	switch {
	case err == nil:
		killed = false
	case errors.As(err, &exit) && exit.ExitCode() != sys.ExitCodeContextCanceled && !(killed && exit.ExitCode() == c.code.Load()):
		code, killed = int(exit.ExitCode()), false
	case killed:
		code = int(c.code.Load())
	default:
		code, message = trapped, err.Error()
	}
	c.end(0, 0) // ends a drain that still waits
	p.guest.end(killed)
	p.stdout.flush()
	p.stderr.flush()
	refused := p.memory.refused.Load()
	p.close()
	if p.port != 0 {
		e.unlisten(c.spec.SandboxID, p.port)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	c.state.State, c.state.FinishedAt, c.state.ExitCode, c.state.Message = runtime.Exited, e.now(), code, message
	if killed {
		c.state.Signal = int(c.signal.Load())
	}
	if c.state.OOMKilled = refused && code != 0 && !killed; c.state.OOMKilled {
		e.publishLocked(runtime.ContainerEvent{ContainerID: c.spec.ID, SandboxID: c.spec.SandboxID, Type: "oom"})
	}
	close(c.exited)
	e.publishLocked(runtime.ContainerEvent{ContainerID: c.spec.ID, SandboxID: c.spec.SandboxID, Type: "exit"})
	e.log.Debug("guest ended", "container", c.spec.ID, "code", code, "message", message)
}
