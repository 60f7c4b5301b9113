package guest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/guest/internal/meter"
)

// PoolConfig says how instances are made and what their calls may use.
type PoolConfig struct {
	Limits     abi.Limits
	StackBytes int // of one call, about; default 1 MiB, at most 8 MiB. Only functions that may recurse count

	// Init prepares an instance, once, before its first call; the module's start function has run. Its fuel and
	// time are InitFuel and InitTime: languages with a runtime need much more for their start than for a call.
	Init     func(ctx context.Context, in *Instance) error
	InitFuel uint64        // default 20 × Limits.Fuel, at least 1 billion
	InitTime time.Duration // default 10 × Limits.Timeout, at least 10 s

	MaxIdle   int          // instances that are kept while nobody needs them; default GOMAXPROCS
	SingleUse bool         // every call gets an instance of its own, as a WASI command needs
	Logger    *slog.Logger // takes what guests write to stdout and stderr; nil: the Runtime's
}

// Pool lends instances of one module, prepared alike, to calls.
type Pool struct {
	module *Module
	cfg    PoolConfig
	limits limits
	log    *slog.Logger

	mu     sync.Mutex
	idle   []*Instance // the last one used last, and first to be used again
	calls  int         // that run
	closed bool
	quiet  chan struct{} // closed when closed and no call runs
}

// NewPool makes a pool. It makes no instance: Warm does, and says whether one can be made.
func (m *Module) NewPool(cfg PoolConfig) (*Pool, error) {
	l := limits{
		fuel: 50_000_000, memory: 64 << 20, output: 4 << 20, hostCalls: 10_000, timeout: time.Second,
		stack: 1 << 20 / meter.StackUnit,
	}
	if cfg.Limits.Fuel > 0 {
		l.fuel = int64(min(cfg.Limits.Fuel, meter.FuelMost))
	}
	if cfg.Limits.MemoryBytes > 0 {
		l.memory = cfg.Limits.MemoryBytes
	}
	if cfg.Limits.OutputBytes != 0 {
		l.output = cfg.Limits.OutputBytes
	}
	if cfg.Limits.HostCalls != 0 {
		l.hostCalls = cfg.Limits.HostCalls
	}
	if cfg.Limits.Timeout != 0 {
		l.timeout = cfg.Limits.Timeout
	}
	if cfg.StackBytes != 0 {
		l.stack = min(int64(cfg.StackBytes)/meter.StackUnit, meter.StackMost)
	}
	if l.output < 0 || l.hostCalls < 0 || l.timeout < 0 || l.stack < 0 || cfg.InitTime < 0 || cfg.MaxIdle < 0 {
		return nil, errors.New("guest: a limit can't be negative")
	}
	if m.MinMemory > l.memory {
		return nil, fmt.Errorf("%w: it begins with %d bytes, %d are allowed", ErrMemory, m.MinMemory, l.memory)
	}
	if cfg.InitFuel == 0 {
		cfg.InitFuel = max(1e9, uint64(l.fuel)*20)
	}
	cfg.InitFuel = min(cfg.InitFuel, meter.FuelMost)
	if cfg.InitTime == 0 {
		cfg.InitTime = max(10*time.Second, 10*l.timeout)
	}
	if cfg.MaxIdle == 0 {
		cfg.MaxIdle = runtime.GOMAXPROCS(0)
	}
	p := &Pool{module: m, cfg: cfg, limits: l, log: cfg.Logger, quiet: make(chan struct{})}
	if p.log == nil {
		p.log = m.runtime.log
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	m.pools[p] = struct{}{}
	return p, nil
}

// Warm makes one instance and keeps it, if there is none: so that a module which can't start shows when it is
// loaded, and the first call is as fast as the others.
func (p *Pool) Warm(ctx context.Context) error {
	in, err := p.take(ctx)
	if err != nil {
		return err
	}
	p.give(in)
	return nil
}

// Do calls fn with an instance that nobody else uses meanwhile. When fn returns an error the instance is thrown away;
// and if the guest failed (*Trap, ErrFuel, ErrStack, ErrMemory) in an instance that had served calls before, fn is
// called once more with a fresh one. Whatever is done with the instance must be over when fn returns. Spent sums up
// both tries, also when they failed; making an instance isn't counted.
func (p *Pool) Do(ctx context.Context, fn func(ctx context.Context, in *Instance) error) (abi.Spent, error) {
	in, err := p.take(ctx)
	if err != nil {
		return abi.Spent{}, err
	}
	warm := in.warm
	spent, err := p.run(ctx, in, fn)
	if err == nil || !warm || !guestFailed(err) || ctx.Err() != nil {
		return spent, err
	}
	first := spent
	if in, err = p.fresh(ctx); err != nil {
		return first, err
	}
	spent, err = p.run(ctx, in, fn)
	spent.Time += first.Time
	spent.Fuel += first.Fuel
	return spent, err
}

func guestFailed(err error) bool {
	var trap *Trap
	return errors.As(err, &trap) || errors.Is(err, ErrFuel) || errors.Is(err, ErrStack) || errors.Is(err, ErrMemory)
}

// run makes one try, and takes the instance back.
func (p *Pool) run(ctx context.Context, in *Instance, fn func(ctx context.Context, in *Instance) error) (spent abi.Spent, err error) {
	keep := false
	defer func() { // also when fn panics
		in.ctx.end()
		in.dead = in.dead || !keep
		p.give(in)
	}()
	start := in.begin(ctx, p.limits.fuel)
	err = fn(&in.ctx, in)
	if err == nil && in.left() < 0 {
		err = ErrFuel
	}
	keep = err == nil && !in.dead && !in.discard
	in.warm = true
	return abi.Spent{Time: time.Since(in.ctx.epoch) - start, Fuel: in.Fuel(), Memory: in.MemoryBytes()}, err
}

// take returns a warm instance or makes one, and counts a call that give ends.
func (p *Pool) take(ctx context.Context) (*Instance, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, ErrClosed
	}
	p.calls++
	if n := len(p.idle); n > 0 {
		in := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return in, nil
	}
	p.mu.Unlock()
	return p.make(ctx)
}

// fresh is take, but never a warm one.
func (p *Pool) fresh(ctx context.Context) (*Instance, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, ErrClosed
	}
	p.calls++
	p.mu.Unlock()
	return p.make(ctx)
}

func (p *Pool) make(ctx context.Context) (*Instance, error) {
	in, err := p.instantiate(ctx)
	if err != nil {
		p.give(in)
		return nil, err
	}
	return in, nil
}

// give ends a call. It keeps the instance if there is room and use for it.
func (p *Pool) give(in *Instance) {
	p.mu.Lock()
	p.calls--
	if in != nil && !in.dead && !p.closed && !p.cfg.SingleUse && len(p.idle) < p.cfg.MaxIdle {
		p.idle = append(p.idle, in)
		in = nil
	}
	if p.closed && p.calls == 0 {
		close(p.quiet)
	}
	p.mu.Unlock()
	if in != nil {
		in.close()
	}
}

// Close lets no new call begin, throws idle instances away, and waits until running calls have ended or ctx has. It
// may be called again.
func (p *Pool) Close(ctx context.Context) error {
	p.mu.Lock()
	idle := p.idle
	p.idle = nil
	if !p.closed {
		p.closed = true
		if p.calls == 0 {
			close(p.quiet)
		}
	}
	p.mu.Unlock()
	for _, in := range idle {
		in.close()
	}
	select {
	case <-p.quiet:
	case <-ctx.Done():
		return fmt.Errorf("guest: calls still run: %w", context.Cause(ctx))
	}
	p.module.mu.Lock()
	delete(p.module.pools, p)
	p.module.mu.Unlock()
	return nil
}

// Module is the module whose instances the pool lends.
func (p *Pool) Module() *Module { return p.module }

// Idle is the number of instances that wait for a call, and the bytes of memory that they hold, their own memory
// included.
func (p *Pool) Idle() (instances int, bytes uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, in := range p.idle {
		bytes += uint64(cap(in.memory.bytes))
	}
	return len(p.idle), bytes
}

// instantiate makes an instance and prepares it. The instance is nil or to be closed when there is an error.
func (p *Pool) instantiate(ctx context.Context) (in *Instance, err error) {
	m := p.module
	in = &Instance{
		module: m, memory: &linearMemory{limit: p.limits.memory}, funcs: map[string]*function{}, limits: p.limits, dead: true,
	}
	in.ctx.in, in.ctx.epoch = in, time.Now()
	in.system.log = p.log
	in.limits.timeout = p.cfg.InitTime
	defer func() {
		if bug := recover(); bug != nil {
			err = fmt.Errorf("guest: make an instance: %v", bug)
		}
	}()
	in.mod, err = m.wazero.InstantiateModule(experimental.WithMemoryAllocator(ctx, in.memory), m.code[len(m.code)-1],
		wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		return in, fmt.Errorf("guest: make an instance: %w", err)
	}
	in.fuel = in.mod.ExportedGlobal(meter.FuelExport).(api.MutableGlobal)

	in.begin(ctx, int64(p.cfg.InitFuel))
	in.dead = false
	if m.starts {
		in.resolve(meter.StartExport, 0, 0)
		if _, err = in.Call(&in.ctx, meter.StartExport); err != nil {
			err = fmt.Errorf("start function: %w", err)
		}
	}
	if err == nil && p.cfg.Init != nil {
		err = p.cfg.Init(&in.ctx, in)
	}
	in.ctx.end()
	in.limits = p.limits
	if err == nil && in.dead {
		err = errors.New("guest: the instance failed while it was prepared")
	}
	in.dead = err != nil
	return in, err
}

func (in *Instance) close() {
	if in.mod != nil {
		_ = in.mod.Close(context.Background())
	}
}
