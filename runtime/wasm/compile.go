package wasm

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
)

// compiler turns modules into machine code, which lies in the cache on disk from then on: each module
// once, however many images and containers hold it, and one at a time, so that guests, their probes
// and the rest of the host's program keep the other cores. (wazero itself compiles a module as often as
// it is asked to while its cache does not hold it yet.) The thread that compiles keeps its priority:
// lowered, it would hold up every stop of the world, and with it all guests, until it had its turn.
type compiler struct {
	compile func(ctx context.Context, module []byte) error
	ending  <-chan struct{} // closed when nothing more is to begin
	running *sync.WaitGroup // counts what compiles; callers of ensure hold it above zero
	slot    chan struct{}   // capacity 1
	said    func(msg string, args ...any)

	mu      sync.Mutex                         // guards modules
	modules map[[sha256.Size]byte]*compilation // done and under way, never failed ones
}

type compilation struct {
	done chan struct{} // closed at the end
	err  error         // valid then
}

func newCompiler(compile func(context.Context, []byte) error, ending <-chan struct{}, running *sync.WaitGroup, said func(string, ...any)) *compiler {
	return &compiler{compile: compile, ending: ending, running: running, slot: make(chan struct{}, 1), said: said, modules: map[[sha256.Size]byte]*compilation{}}
}

// ensure returns when the module's code is in the cache. A caller that gives up leaves the compilation
// to the others: it can't be stopped halfway, and is not for nothing.
func (c *compiler) ensure(ctx context.Context, module []byte) error {
	sum := sha256.Sum256(module)
	c.mu.Lock()
	m := c.modules[sum]
	if m == nil {
		m = &compilation{done: make(chan struct{})}
		c.modules[sum] = m
		c.running.Add(1)
		go func() {
			defer c.running.Done()
			defer close(m.done)
			if m.err = c.run(context.WithoutCancel(ctx), module); m.err != nil {
				c.mu.Lock()
				delete(c.modules, sum) // the next caller tries again
				c.mu.Unlock()
			}
		}()
	}
	c.mu.Unlock()
	select {
	case <-m.done:
		return m.err
	case <-ctx.Done():
		return fmt.Errorf("compile module: %w", context.Cause(ctx))
	}
}

// compiled says whether ensure would return at once.
func (c *compiler) compiled(module []byte) bool {
	sum := sha256.Sum256(module)
	c.mu.Lock()
	m := c.modules[sum]
	c.mu.Unlock()
	if m == nil {
		return false
	}
	select {
	case <-m.done:
		return m.err == nil
	default:
		return false
	}
}

// Preparing implements runtime.Preparer.
func (e *Engine) Preparing(containerID string) string {
	e.mu.Lock()
	c, compiler := e.containers[containerID], e.compiler
	e.mu.Unlock()
	if c == nil || compiler == nil {
		return ""
	}
	_, file, err := e.argv(c)
	if err != nil {
		return "" // StartContainer says it
	}
	module, err := os.ReadFile(file)
	if err != nil || compiler.compiled(module) {
		return ""
	}
	return fmt.Sprintf("compiling the module of image %q", c.spec.Image)
}

// run waits for its turn and compiles. No panic leaves it.
func (c *compiler) run(ctx context.Context, module []byte) (err error) {
	select {
	case c.slot <- struct{}{}:
		defer func() { <-c.slot }()
	case <-c.ending:
		return fmt.Errorf("compile module: %w", ErrNotRunning)
	}
	select {
	case <-c.ending: // both were ready
		return fmt.Errorf("compile module: %w", ErrNotRunning)
	default:
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("compile module: the compiler panicked: %v\n%s", r, debug.Stack())
		}
	}()
	began := time.Now()
	if err := c.compile(ctx, module); err != nil {
		return fmt.Errorf("compile module: %w", err)
	}
	c.said("compiled a module", "bytes", len(module), "took", time.Since(began))
	return nil
}

// runtimeConfig is one for all, since compiled code fits only the settings that it was made for.
func runtimeConfig(cache wazero.CompilationCache) wazero.RuntimeConfig {
	return wazero.NewRuntimeConfig().WithCompilationCache(cache).WithCloseOnContextDone(true)
}

// compileInto compiles for the cache on disk alone: what nobody runs takes no memory.
func compileInto(cache wazero.CompilationCache) func(context.Context, []byte) error {
	return func(ctx context.Context, module []byte) error {
		r := wazero.NewRuntimeWithConfig(ctx, runtimeConfig(cache))
		defer r.Close(ctx)
		m, err := r.CompileModule(ctx, module)
		if err != nil {
			return err
		}
		return m.Close(ctx)
	}
}

// compileImages makes imported images ready to start. A module that does not compile is an image like
// any other: its containers fail to start, and say why.
func (e *Engine) compileImages(ctx context.Context, ids []string) error {
	e.mu.Lock()
	if !e.running { // the first container's start compiles
		e.mu.Unlock()
		return nil
	}
	e.guests.Add(1)
	compiler := e.compiler
	e.mu.Unlock()
	defer e.guests.Done()
	for _, id := range ids {
		m, err := e.images.find(id)
		if err != nil {
			continue // replaced meanwhile
		}
		module, err := os.ReadFile(e.images.modulePath(m))
		if err != nil {
			return fmt.Errorf("import images: read module: %w", err)
		}
		if err := compiler.ensure(ctx, module); err != nil {
			if ctx.Err() != nil {
				return fmt.Errorf("import images: %w", err)
			}
			e.log.Warn("an imported image's module does not compile", "image", id, "error", err)
		}
	}
	return nil
}
