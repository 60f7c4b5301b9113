package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"time"

	"github.com/tetratelabs/wazero/api"

	"github.com/pintle/pintle/policies/guest/internal/meter"
)

// Instance is one running module: its memory, and what its current call may still spend. It belongs to the function
// that Pool.Do gave it to, and to the host functions that the guest calls meanwhile.
type Instance struct {
	State any // the adapter's: set by PoolConfig.Init, kept as long as the instance lives

	// What a WASI command is given. Whoever sets them unsets them. Stdout and Stderr nil: output goes to the log; else it
	// counts against Limits.OutputBytes.
	Args           []string
	Stdin          []byte
	Stdout, Stderr io.Writer

	module *Module
	mod    api.Module
	memory *linearMemory
	fuel   api.MutableGlobal
	funcs  map[string]*function
	ctx    callContext
	limits limits

	warm    bool // has ended a call well
	dead    bool // trapped: what is in its memory can't be trusted
	discard bool
	nests   int // calls into the guest that are open: a host function may call back

	budget    int64 // fuel at the beginning of the call, or at Renew
	spent     int64 // before Renew
	hostCalls int
	output    int
	system    system
}

// limits is abi.Limits with defaults, in the units that are compared.
type limits struct {
	fuel      int64
	memory    uint64
	output    int
	hostCalls int
	stack     int64 // units
	timeout   time.Duration
}

// maxNests bounds guest → host → guest → …: each turn takes a stack of the host's own.
const maxNests = 8

// function is an export that was called before.
type function struct {
	call            api.Function
	params, results int // slots
	stack           []uint64
	busy            bool
}

// begin starts a call and returns when that was, counted from the context's epoch.
func (in *Instance) begin(ctx context.Context, fuel int64) time.Duration {
	start := time.Since(in.ctx.epoch)
	in.ctx.begin(ctx, start+in.limits.timeout)
	in.budget, in.spent, in.hostCalls, in.output = fuel, 0, 0, 0
	in.system.logged, in.system.stdin = 0, 0
	in.memory.denied = false
	in.set(fuel, in.limits.stack)
	return start
}

// set and the two below know how the guest's global holds fuel and stack. Fuel below zero is used up.
func (in *Instance) set(fuel, stack int64) { in.fuel.Set(uint64(fuel<<meter.FuelShift | stack)) }

func (in *Instance) left() int64 { return int64(in.fuel.Get()) >> meter.FuelShift }

func (in *Instance) stack() int64 { return int64(in.fuel.Get()) & (1<<meter.FuelShift - 1) }

// Fuel is what the call has spent so far. After a trap it may lack the last few instructions of each function that
// was being run.
func (in *Instance) Fuel() uint64 {
	return uint64(in.spent + min(in.budget, max(0, in.budget-in.left())))
}

// Renew gives the call its fuel and its calls to the host anew, for an adapter that makes many calls into the guest
// where the limits mean one. The time limit stays that of the whole.
func (in *Instance) Renew() {
	left := in.left()
	if left < 0 || in.nests > 0 {
		return
	}
	in.spent += in.budget - left
	in.budget, in.hostCalls = in.limits.fuel, 0
	in.set(in.limits.fuel, in.limits.stack)
}

// Discard lets Do throw the instance away when fn has returned, without an error.
func (in *Instance) Discard() { in.discard = true }

// Charge spends fuel for work that the host does: as much as a guest would need for it, roughly.
func (in *Instance) Charge(fuel uint64) error {
	left := in.left()
	if left < 0 || fuel > uint64(left) {
		in.set(-1, 0)
		return ErrFuel
	}
	in.set(left-int64(fuel), in.stack())
	return nil
}

// CountOutput adds to the bytes that the call has answered.
func (in *Instance) CountOutput(n int) error {
	if n < 0 || n > in.limits.output-in.output {
		return ErrOutput
	}
	in.output += n
	return nil
}

// Warm says whether the instance has served a call before.
func (in *Instance) Warm() bool { return in.warm }

// MemoryBytes is the size of the guest's memory.
func (in *Instance) MemoryBytes() uint64 { return uint64(len(in.memory.bytes)) }

// Memory is the whole of the guest's memory, to read and to write. A call into the guest may move it: ask again after each.
func (in *Instance) Memory() []byte { return in.memory.bytes }

// Read returns n bytes at ptr: a view, which is valid until the next call into the guest.
func (in *Instance) Read(ptr, n uint32) ([]byte, error) {
	m := in.memory.bytes
	if uint64(ptr)+uint64(n) > uint64(len(m)) {
		return nil, fmt.Errorf("%w: %d bytes at %#x of %d", ErrBounds, n, ptr, len(m))
	}
	return m[ptr : uint64(ptr)+uint64(n) : uint64(ptr)+uint64(n)], nil
}

// ReadAnswer is Read for what the guest answers: the bytes count against Limits.OutputBytes.
func (in *Instance) ReadAnswer(ptr, n uint32) ([]byte, error) {
	if err := in.CountOutput(int(n)); err != nil {
		return nil, err
	}
	return in.Read(ptr, n)
}

// Write copies b to ptr.
func (in *Instance) Write(ptr uint32, b []byte) error {
	m := in.memory.bytes
	if uint64(ptr)+uint64(len(b)) > uint64(len(m)) {
		return fmt.Errorf("%w: %d bytes at %#x of %d", ErrBounds, len(b), ptr, len(m))
	}
	copy(m[ptr:], b)
	return nil
}

// Call calls an exported function and returns its first result, or 0. ctx is the one that Do, or a host function, was
// given, or one made from it. After an error other than *Exit the instance is of no use; return the error from Do.
func (in *Instance) Call(ctx context.Context, export string, args ...uint64) (uint64, error) {
	f, err := in.function(export)
	if err != nil {
		return 0, err
	}
	if len(args) != f.params {
		return 0, fmt.Errorf("guest: %q takes %d values, not %d", export, f.params, len(args))
	}
	switch {
	case instanceOf(ctx) != in:
		return 0, fmt.Errorf("guest: %q is called with a context that isn't of this call", export)
	case in.dead:
		return 0, fmt.Errorf("guest: %q is called in an instance that has failed", export)
	case in.nests >= maxNests:
		return 0, fmt.Errorf("guest: %q is called by the host %d calls deep", export, maxNests)
	case in.left() < 0:
		return 0, ErrFuel
	}
	if f.busy { // it is on the stack already, beneath the host function that calls it now
		f = &function{call: in.mod.ExportedFunction(export), params: f.params, results: f.results, stack: make([]uint64, len(f.stack))}
	}
	f.busy = true
	in.nests++
	copy(f.stack, args)
	stack := in.stack()
	err = f.call.CallWithStack(ctx, f.stack)
	in.nests--
	f.busy = false
	switch {
	case err != nil:
		return 0, in.failed(err, stack)
	case in.left() < 0: // spent by the last instructions, which didn't look
		in.dead = true
		return 0, ErrFuel
	case f.results == 0:
		return 0, nil
	}
	return f.stack[0], nil
}

// Exports says whether the module exports a function.
func (in *Instance) Exports(name string) bool {
	e, ok := in.module.Export(name)
	return ok && e.Kind == "func"
}

func (in *Instance) function(export string) (*function, error) {
	if f, ok := in.funcs[export]; ok {
		return f, nil
	}
	e, ok := in.module.Export(export)
	if !ok || e.Kind != "func" {
		return nil, fmt.Errorf("guest: the module exports no function %q", export)
	}
	return in.resolve(export, slots(e.Params), slots(e.Results)), nil
}

func (in *Instance) resolve(export string, params, results int) *function {
	f := &function{call: in.mod.ExportedFunction(export), params: params, results: results, stack: make([]uint64, max(params, results))}
	in.funcs[export] = f
	return f
}

func slots(types []ValueType) int {
	n := 0
	for _, t := range types {
		n++
		if t == V128 {
			n++
		}
	}
	return n
}

// enterHost is asked before each host function.
func (in *Instance) enterHost() error {
	in.hostCalls++
	if in.hostCalls > in.limits.hostCalls {
		return ErrHostCalls
	}
	if in.hostCalls%16 != 0 { // reading the clock takes as long as the call itself
		return context.Cause(in.ctx.parent)
	}
	return in.timely()
}

// timely returns an error when the call's time is over.
func (in *Instance) timely() error {
	if err := context.Cause(in.ctx.parent); err != nil {
		return err
	}
	if time.Since(in.ctx.epoch) >= in.ctx.deadline {
		return ErrTimeout
	}
	return nil
}

// failed says in our terms why a call ended.
func (in *Instance) failed(err error, stack int64) error {
	var host *hostError
	var exit *Exit
	var bug runtime.Error
	if errors.As(err, &host) {
		if errors.As(host.err, &exit) {
			in.set(in.left(), stack) // the frames that it left didn't give back theirs
		} else {
			in.dead = true
		}
		if errors.Is(host.err, context.DeadlineExceeded) && in.timely() == ErrTimeout {
			return ErrTimeout // the host function says what it saw of the context
		}
		return host.err
	}
	in.dead = true
	switch {
	case int64(in.fuel.Get()) == meter.OutOfStack:
		return ErrStack
	case in.left() < 0:
		return ErrFuel
	}
	if errors.As(err, &bug) {
		return fmt.Errorf("guest: a host function failed: %w", err)
	}
	text := err.Error()
	reason, trace, _ := strings.Cut(text, "\nwasm stack trace:\n")
	reason = strings.TrimPrefix(reason, "wasm error: ")
	if reason == "stack overflow" {
		return ErrStack
	}
	trap := &Trap{Reason: reason, Stack: shorten(strings.ReplaceAll(trace, "\t", ""), 4<<10)}
	if in.memory.denied {
		trap.Cause = ErrMemory
	}
	return trap
}

func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

// GrowMemory makes the guest's memory at least size bytes, before the guest asks for it.
func (in *Instance) GrowMemory(size uint64) error {
	pages := (size + 1<<16 - 1) >> 16
	have := in.MemoryBytes() >> 16
	if pages <= have {
		return nil
	}
	memory := in.mod.Memory()
	if memory == nil {
		return ErrMemory
	}
	if _, ok := memory.Grow(uint32(pages - have)); !ok {
		return ErrMemory
	}
	return nil
}
