package guest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/pintle/pintle/policies/guest/internal/meter"
)

// Config says how a Runtime works. The zero value is useful.
type Config struct {
	CacheDir       string        // compiled code is kept here; "": in memory. Whoever may write here may run code in this process
	MaxModuleBytes int           // default 32 MiB
	CompileTime    time.Duration // of one module; default 3 min
	Logger         *slog.Logger  // nil discards
}

// Runtime compiles modules. The same bytes are compiled once, and with CacheDir once for all processes.
type Runtime struct {
	cfg   Config
	log   *slog.Logger
	cache wazero.CompilationCache
	slot  chan struct{} // held by the one compilation that runs
	stray chan struct{} // held instead by one that took too long, until it ends: another may run beside it
	begun func(*Info)   // for tests: a compilation holds the slot; nil: nobody waits

	mu      sync.Mutex
	closed  bool
	modules map[*Module]struct{}
	working sync.WaitGroup // compilations, those included that nobody waits for any more
}

// features is what a module may use: WebAssembly 2.0, tail calls and extended constants. Threads can't be made
// deterministic, and wazero's exceptions copy the stack at every try: both are refused by name (internal/meter).
const features = api.CoreFeaturesV2 | experimental.CoreFeaturesTailCall | experimental.CoreFeaturesExtendedConst

// New checks the configuration and opens the cache.
func New(cfg Config) (*Runtime, error) {
	if cfg.MaxModuleBytes == 0 {
		cfg.MaxModuleBytes = 32 << 20
	}
	if cfg.CompileTime == 0 {
		cfg.CompileTime = 3 * time.Minute
	}
	if cfg.MaxModuleBytes < 0 || cfg.CompileTime < 0 {
		return nil, errors.New("guest: MaxModuleBytes and CompileTime can't be negative")
	}
	r := &Runtime{cfg: cfg, log: cfg.Logger, slot: make(chan struct{}, 1), stray: make(chan struct{}, 1), modules: map[*Module]struct{}{}}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if cfg.CacheDir == "" {
		r.cache = wazero.NewCompilationCache()
		return r, nil
	}
	var err error
	if r.cache, err = wazero.NewCompilationCacheWithDir(cfg.CacheDir); err != nil {
		return nil, fmt.Errorf("guest: open the cache of compiled modules: %w", err)
	}
	return r, nil
}

// Close closes every module. It waits until calls and compilations have ended, or ctx has.
func (r *Runtime) Close(ctx context.Context) error {
	r.mu.Lock()
	r.closed = true
	var open []*Module
	for m := range r.modules {
		open = append(open, m)
	}
	r.mu.Unlock()
	var errs []error
	for _, m := range open {
		errs = append(errs, m.Close(ctx))
	}
	ended := make(chan struct{})
	go func() { r.working.Wait(); close(ended) }()
	select {
	case <-ended:
		errs = append(errs, r.cache.Close(ctx))
	case <-ctx.Done():
		errs = append(errs, fmt.Errorf("guest: a module is still compiling: %w", context.Cause(ctx)))
	}
	return errors.Join(errs...)
}

// Compile checks a module, makes it count, and compiles it. It may import functions of hosts and of WASI; anything
// else is refused by name. wasm is not kept. It takes time, about 0.3 s of a core per MiB (less from the cache); other
// compilations wait meanwhile, calls don't. An error of type *Refused is the module's fault.
func (r *Runtime) Compile(ctx context.Context, wasm []byte, hosts []HostModule) (*Module, error) {
	if len(wasm) > r.cfg.MaxModuleBytes {
		return nil, &Refused{fmt.Errorf("it has %d bytes, %d are allowed: strip it, or raise MaxModuleBytes", len(wasm), r.cfg.MaxModuleBytes)}
	}
	metered, info, err := inspect(wasm, true)
	if err != nil {
		return nil, err
	}
	imports, err := link(info, hosts)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil, ErrClosed
	}
	r.working.Add(1)
	r.mu.Unlock()

	select {
	case r.slot <- struct{}{}:
	case <-ctx.Done():
		r.working.Done()
		return nil, context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, r.cfg.CompileTime,
		&Refused{fmt.Errorf("it took longer than %s to compile", r.cfg.CompileTime)})
	defer cancel()
	// wazero can't be interrupted. A compilation that takes too long goes on, and nobody waits for it. The first one lets
	// others compile meanwhile; a second one keeps its slot, so that at most two cores are lost to such modules.
	held := make(chan chan struct{}, 1) // what the compilation holds
	held <- r.slot
	type result struct {
		m   *Module
		err error
	}
	done := make(chan result) // not buffered: who stops waiting lets the compiler see it
	go func() {
		defer r.working.Done()
		defer func() { <-<-held }()
		// On this goroutine alone, since a panic on one of wazero's own would end the process.
		if r.begun != nil {
			r.begun(info)
		}
		own := experimental.WithCompilationWorkers(context.WithoutCancel(ctx), 1)
		m, err := r.compile(own, metered, info, imports)
		select {
		case done <- result{m, err}:
		case <-ctx.Done():
			if m != nil {
				r.log.Warn("a module was compiled too late to be used", "digest", info.Digest, "time", m.CompileTime)
				_ = m.Close(context.Background())
			}
		}
	}()
	select {
	case res := <-done:
		return res.m, res.err
	case <-ctx.Done():
		select {
		case h := <-held: // else it has just ended
			select {
			case r.stray <- struct{}{}:
				<-h
				held <- r.stray
			default:
				held <- h
			}
		default:
		}
		return nil, context.Cause(ctx)
	}
}

// compile takes the bytes that count.
func (r *Runtime) compile(ctx context.Context, wasm []byte, info *Info, imports []HostModule) (m *Module, err error) {
	start := time.Now()
	m = &Module{Info: info, runtime: r, pools: map[*Pool]struct{}{}}
	defer func() {
		if p := recover(); p != nil { // of wazero, over a module that it can't handle
			err = &Refused{fmt.Errorf("it can't be compiled: %v", p)}
		}
		if err != nil {
			m.release(ctx)
			m = nil
		}
	}()
	if err := m.build(ctx, r.cache, wasm, imports); err != nil {
		if r.cfg.CacheDir == "" {
			return m, &Refused{err}
		}
		// The folder may be full or damaged: that is no reason to refuse a module.
		m.release(ctx)
		if again := m.build(ctx, wazero.NewCompilationCache(), wasm, imports); again != nil {
			return m, &Refused{again}
		}
		r.log.Warn("the cache of compiled modules can't be used; a module was compiled without it", "error", err)
	}
	m.CompileTime = time.Since(start)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return m, ErrClosed
	}
	r.modules[m] = struct{}{}
	return m, nil
}

// build makes a wazero runtime of the module's own: its types, its host functions and its instances go with it.
func (m *Module) build(ctx context.Context, cache wazero.CompilationCache, wasm []byte, imports []HostModule) error {
	m.wazero = wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().
		WithCoreFeatures(features).WithDebugInfoEnabled(false).WithCompilationCache(cache))
	for _, h := range imports {
		b := m.wazero.NewHostModuleBuilder(h.Name)
		for _, f := range h.Funcs {
			b.NewFunctionBuilder().WithGoModuleFunction(f.wrap(), f.Params, f.Results).Export(f.Name)
		}
		code, err := b.Compile(ctx)
		if err != nil {
			return fmt.Errorf("host functions of %q: %w", h.Name, err)
		}
		m.code = append(m.code, code)
		if _, err := m.wazero.InstantiateModule(ctx, code, wazero.NewModuleConfig()); err != nil {
			return fmt.Errorf("host functions of %q: %w", h.Name, err)
		}
	}
	code, err := m.wazero.CompileModule(ctx, wasm)
	if err != nil {
		return err
	}
	m.code = append(m.code, code)
	return nil
}

// inspect reads a module; with rewrite it returns the bytes that count.
func inspect(wasm []byte, rewrite bool) ([]byte, *Info, error) {
	parsed, err := meter.Parse(wasm)
	if err != nil {
		return nil, nil, &Refused{err}
	}
	var out []byte
	if rewrite {
		if out, err = parsed.Rewrite(meter.Options{}); err != nil {
			return nil, nil, &Refused{err}
		}
	}
	return out, newInfo(wasm, parsed), nil
}
