package guest_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/guest"
	"github.com/pintle/pintle/policies/internal/asm"
)

// The zoo: guests that mean harm, and how each ends. A beast's call must fail with its error and leave nothing behind,
// and the next caller must get a sound instance.
var i32, i64, none = asm.Types{asm.I32}, asm.Types{asm.I64}, asm.Types(nil)

type beast struct {
	name  string
	wasm  func() []byte
	cfg   guest.PoolConfig
	hosts []guest.HostModule
	want  error  // of errors.Is; or
	trap  string // the reason of a *Trap
}

// pool gives a beast what it may use: little, so that it is soon over.
func (b beast) pool(t *testing.T, r *guest.Runtime) *guest.Pool {
	t.Helper()
	cfg := b.cfg
	if cfg.Limits.Fuel == 0 {
		cfg.Limits.Fuel = 3_000_000
	}
	cfg.Limits.MemoryBytes = 8 << 20
	if cfg.Limits.Timeout == 0 {
		cfg.Limits.Timeout = time.Minute // not what ends it
	}
	return newPool(t, compile(t, r, b.wasm(), b.hosts...), cfg)
}

func isolated(m *asm.Module) func() []byte { return m.Bytes }

var zoo = []beast{
	{name: "an infinite loop", want: guest.ErrFuel,
		wasm: isolated(one(none, none, none, "loop br 0 end"))},
	{name: "an infinite loop of branches only", want: guest.ErrFuel,
		wasm: isolated(one(none, none, none, "loop i32.const 1 br_if 0 end"))},
	{name: "a loop that branches by table", want: guest.ErrFuel,
		wasm: isolated(one(none, none, none, "loop i32.const 9 br_table 1 0 0 end"))},
	{name: "loops in loops", want: guest.ErrFuel,
		wasm: isolated(one(none, none, none, "loop loop loop br 0 end br 0 end br 0 end"))},
	{name: "an infinite recursion", want: guest.ErrStack,
		wasm: isolated(one(none, none, none, "call 0"))},
	{name: "two that call each other", want: guest.ErrStack, wasm: func() []byte {
		m := one(none, none, none, "call 1")
		m.Func(none, none, none, "call 0")
		return m.Bytes()
	}},
	{name: "a recursion through the table", want: guest.ErrStack, wasm: func() []byte {
		m := one(none, none, none, "i32.const 0 call_indirect 0 0")
		m.Table(asm.FuncRef, 1, -1)
		m.Elem(0, 0)
		return m.Bytes()
	}},
	{name: "a recursion with many locals", want: guest.ErrStack, wasm: func() []byte {
		locals := make(asm.Types, 2000)
		for i := range locals {
			locals[i] = asm.I64
		}
		return one(none, none, locals, "call 0").Bytes()
	}},
	{name: "a recursion that calls twice", want: guest.ErrStack,
		wasm: isolated(one(i32, none, none, "local.get 0 i32.const 1 i32.add call 0 local.get 0 call 0"))},
	{name: "a recursion that is wide and not deep", want: guest.ErrFuel,
		wasm: isolated(one(i32, none, none, "local.get 0 i32.const 100 i32.lt_s if local.get 0 i32.const 1 i32.add call 0 local.get 0 i32.const 1 i32.add call 0 end"))},
	{name: "tail calls without end", want: guest.ErrFuel,
		wasm: isolated(one(none, none, none, "return_call 0"))},
	{name: "tail calls through the table without end", want: guest.ErrFuel, wasm: func() []byte {
		m := one(none, none, none, "i32.const 0 return_call_indirect 0 0")
		m.Table(asm.FuncRef, 1, -1)
		m.Elem(0, 0)
		return m.Bytes()
	}},
	{name: "a memory bomb that insists", want: guest.ErrFuel,
		wasm: isolated(one(none, none, none, "loop i32.const 1 memory.grow drop br 0 end"))},
	{name: "a memory bomb that gives up", want: guest.ErrMemory, trap: "unreachable",
		wasm: isolated(one(none, none, none, "loop i32.const 16 memory.grow i32.const -1 i32.ne br_if 0 end unreachable"))},
	{name: "a memory bomb in one go", want: guest.ErrMemory, trap: "unreachable",
		wasm: isolated(one(none, none, none, "i32.const 65000 memory.grow i32.const -1 i32.eq if unreachable end"))},
	{name: "a table bomb", want: guest.ErrFuel, wasm: func() []byte {
		m := one(none, none, none, "loop ref.null.func i32.const 1000 table.grow 0 drop br 0 end")
		m.Table(asm.FuncRef, 1, -1)
		return m.Bytes()
	}},
	{name: "filling memory for ever", want: guest.ErrFuel,
		wasm: isolated(one(none, none, none, "loop i32.const 0 i32.const 1 i32.const 65536 memory.fill br 0 end"))},
	{name: "copying memory for ever", want: guest.ErrFuel,
		wasm: isolated(one(none, none, none, "loop i32.const 0 i32.const 1 i32.const 65535 memory.copy br 0 end"))},
	{name: "copying more than there is", trap: "out of bounds memory access",
		wasm: isolated(one(none, none, none, "i32.const 0 i32.const 1 i32.const 65536 memory.copy"))},
	{name: "copying a length that lies", want: guest.ErrFuel, cfg: guest.PoolConfig{Limits: abi.Limits{Fuel: 1000}},
		wasm: isolated(one(none, none, none, "i32.const 0 i32.const 1 i32.const -1 memory.copy"))},
	{name: "division by zero", trap: "integer divide by zero",
		wasm: isolated(one(none, none, none, "i32.const 1 i32.const 0 i32.div_s drop"))},
	{name: "a call through an empty table", trap: "invalid table access", wasm: func() []byte {
		m := one(none, none, none, "i32.const 0 call_indirect 0 0")
		m.Table(asm.FuncRef, 1, -1)
		return m.Bytes()
	}},
	{name: "a call of another type", trap: "indirect call type mismatch", wasm: func() []byte {
		m := one(none, none, none, "i32.const 5 i32.const 0 call_indirect 1 0")
		m.Table(asm.FuncRef, 1, -1)
		m.Elem(0, 0)
		m.Type(i32, none)
		return m.Bytes()
	}},
	{name: "spinning in host calls", want: guest.ErrHostCalls, wasm: func() []byte {
		m := &asm.Module{}
		f := m.ImportFunc("env", "nothing", none, none)
		m.Memory(1, -1)
		m.Export("run", 0, m.Func(none, none, none, "loop call 0 br 0 end"))
		_ = f
		return m.Bytes()
	}, hosts: []guest.HostModule{{Name: "env", Funcs: []guest.HostFunc{{Name: "nothing",
		Call: func(context.Context, *guest.Instance, []uint64) error { return nil }}}}}},
	{name: "a host call that sleeps", want: guest.ErrTimeout, cfg: guest.PoolConfig{Limits: abi.Limits{Timeout: 20 * time.Millisecond}},
		wasm: func() []byte {
			m := &asm.Module{}
			m.ImportFunc("env", "sleep", none, none)
			m.Memory(1, -1)
			m.Export("run", 0, m.Func(none, none, none, "call 0"))
			return m.Bytes()
		}, hosts: []guest.HostModule{{Name: "env", Funcs: []guest.HostFunc{{Name: "sleep",
			Call: func(ctx context.Context, _ *guest.Instance, _ []uint64) error {
				<-ctx.Done()
				return context.Cause(ctx)
			}}}}}},
	{name: "a host call that takes long, again and again", want: guest.ErrTimeout, cfg: guest.PoolConfig{Limits: abi.Limits{Timeout: 20 * time.Millisecond}},
		wasm: func() []byte {
			m := &asm.Module{}
			m.ImportFunc("env", "sleep", none, none)
			m.Memory(1, -1)
			m.Export("run", 0, m.Func(none, none, none, "loop call 0 br 0 end"))
			return m.Bytes()
		}, hosts: []guest.HostModule{{Name: "env", Funcs: []guest.HostFunc{{Name: "sleep",
			Call: func(context.Context, *guest.Instance, []uint64) error { time.Sleep(time.Millisecond); return nil }}}}}},
	{name: "sleeping through WASI for ever", want: guest.ErrHostCalls, wasm: func() []byte {
		m := &asm.Module{}
		m.ImportFunc("wasi_snapshot_preview1", "poll_oneoff", asm.Types{asm.I32, asm.I32, asm.I32, asm.I32}, i32)
		m.Memory(1, -1)
		m.Data(24, []byte{0, 0, 0, 0, 0, 1, 0, 0})
		m.Export("run", 0, m.Func(none, none, none, "loop i32.const 0 i32.const 64 i32.const 1 i32.const 128 call 0 drop br 0 end"))
		return m.Bytes()
	}},
	{name: "writing the log full", want: guest.ErrHostCalls, wasm: func() []byte {
		m := &asm.Module{}
		m.ImportFunc("wasi_snapshot_preview1", "fd_write", asm.Types{asm.I32, asm.I32, asm.I32, asm.I32}, i32)
		m.Memory(1, -1)
		m.Data(0, []byte{16, 0, 0, 0, 255, 0, 0, 0})
		m.Export("run", 0, m.Func(none, none, none, "loop i32.const 1 i32.const 0 i32.const 1 i32.const 8 call 0 drop br 0 end"))
		return m.Bytes()
	}},
	{name: "asking for more random bytes than memory", want: guest.ErrFuel, cfg: guest.PoolConfig{Limits: abi.Limits{Fuel: 1e6}}, wasm: func() []byte {
		m := &asm.Module{}
		m.ImportFunc("wasi_snapshot_preview1", "random_get", asm.Types{asm.I32, asm.I32}, i32)
		m.Memory(1, -1)
		m.Export("run", 0, m.Func(none, none, none, "loop i32.const 0 i32.const 65536 call 0 drop br 0 end"))
		return m.Bytes()
	}},
}

func TestTheZooIsContained(t *testing.T) {
	for _, b := range zoo {
		t.Run(b.name, func(t *testing.T) {
			r := newRuntime(t, guest.Config{})
			p := b.pool(t, r)
			for range 2 {
				start := time.Now()
				args := []uint64{}
				if e, _ := p.Module().Export("run"); len(e.Params) == 1 {
					args = append(args, 0)
				}
				_, spent, err := call(p, "run", args...)
				if b.want != nil && !errors.Is(err, b.want) {
					t.Fatalf("ended with %v, not with %v", err, b.want)
				}
				var trap *guest.Trap
				if b.trap != "" && (!errors.As(err, &trap) || !strings.Contains(trap.Reason, b.trap)) {
					t.Fatalf("ended with %v, not with the trap %q", err, b.trap)
				}
				if spent.Memory > 8<<20 {
					t.Errorf("took %d bytes of memory", spent.Memory)
				}
				if took := time.Since(start); took > 20*time.Second {
					t.Errorf("took %v", took)
				}
			}
			if n, _ := p.Idle(); n != 0 {
				t.Errorf("%d instances that failed are kept", n)
			}
		})
	}
}

func TestAfterTheZooTheHostHasLostNothing(t *testing.T) {
	measure := func() (uint64, int) {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse, runtime.NumGoroutine()
	}
	feed := func() {
		for _, b := range zoo {
			r, err := guest.New(guest.Config{})
			if err != nil {
				t.Fatal(err)
			}
			p := b.pool(t, r)
			_, _, _ = call(p, "run")
			_, _, _ = call(p, "run", 0)
			if err := r.Close(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	feed()
	heap, goroutines := measure()
	feed()
	after, goroutinesAfter := measure()
	if goroutinesAfter > goroutines {
		t.Errorf("%d goroutines before, %d after", goroutines, goroutinesAfter)
	}
	if after > heap+8<<20 {
		t.Errorf("%d bytes of heap before, %d after", heap, after)
	}
}

func TestModulesThatCannotBeMeteredAreRefused(t *testing.T) {
	shared := &asm.Module{}
	shared.Import("env", "memory", 2, 3, 1, 2)
	atomics := &asm.Module{}
	atomics.Memory(1, -1)
	atomics.FuncBytes(none, none, none, []byte{0xfe, 0x03, 0x00, 0x0b})
	throws := &asm.Module{}
	throws.FuncBytes(none, none, none, []byte{0x08, 0x00, 0x0b})
	locals := &asm.Module{}
	locals.FuncBody(locals.Type(none, none), append(append([]byte{1}, asm.U32(1<<31)...), asm.I64, 0x0b))
	fuel := one(none, none, none, "i64.const 99 global.set 0")
	local := one(none, none, none, "loop i64.const 99 local.set 0 end")
	reserved := one(none, none, none, "")
	reserved.Export("pintle:fuel", 0, 0)
	twice := one(none, none, none, "")
	twice.Export("run", 0, 0)
	tables := &asm.Module{}
	for range 20 {
		tables.Table(asm.FuncRef, 1, -1)
	}
	table := &asm.Module{}
	table.Table(asm.FuncRef, 10_000_000, -1)
	unknown := &asm.Module{}
	unknown.ImportFunc("env", "launch", i32, none)
	unknown.ImportFunc("wasi_snapshot_preview1", "fd_write", i32, none)
	global := &asm.Module{}
	global.Import("env", "g", 3, asm.I32, 0)
	lies := append([]byte("\x00asm\x01\x00\x00\x00"), 1, 0xff, 0xff, 0xff, 0x7f, 0)
	types := append([]byte("\x00asm\x01\x00\x00\x00"), asm.Section(1, []byte{1, 0x60, 0xff, 0xff, 0xff, 0xff, 0x0f})...)
	data := append([]byte("\x00asm\x01\x00\x00\x00"), asm.Section(11, []byte{1, 0, 0x41, 0, 0x0b, 0xff, 0xff, 0xff, 0x7f})...)

	for name, c := range map[string]struct {
		wasm []byte
		says string
	}{
		"nothing":                              {nil, "isn't WebAssembly"},
		"text":                                 {[]byte("(module)"), "isn't WebAssembly"},
		"a component":                          {[]byte("\x00asm\x0d\x00\x01\x00"), "component"},
		"a header alone, cut":                  {[]byte("\x00asm\x01\x00"), "version"},
		"threads":                              {shared.Bytes(), "threads"},
		"atomics":                              {atomics.Bytes(), "threads"},
		"exceptions":                           {throws.Bytes(), "exceptions"},
		"two billion locals":                   {locals.Bytes(), "locals"},
		"one that sets its own fuel":           {fuel.Bytes(), "global 0"},
		"one that sets its own fuel in a loop": {local.Bytes(), "local 0"},
		"an export with a reserved name":       {reserved.Bytes(), "reserved"},
		"an export twice":                      {twice.Bytes(), "twice"},
		"too many tables":                      {tables.Bytes(), "20 tables"},
		"a giant table":                        {table.Bytes(), "10000000 entries"},
		"imports that nobody offers":           {unknown.Bytes(), "env.launch, wasi_snapshot_preview1.fd_write with type (i32) → ()"},
		"an imported global":                   {global.Bytes(), "global env.g"},
		"a section that is too long":           {lies, "what is there"},
		"types that are too many":              {types, "what is there"},
		"data that isn't there":                {data, "what is there"},
		"too large":                            {make([]byte, 1<<20+1), "bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRuntime(t, guest.Config{MaxModuleBytes: 1 << 20})
			_, err := r.Compile(context.Background(), c.wasm, nil)
			var refused *guest.Refused
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v; want a refusal that says %q", err, c.says)
			}
		})
	}
}

// Code that is made to keep the compiler busy is refused at once; giant code that isn't runs.
func TestGiantCodeRunsOrIsRefused(t *testing.T) {
	locals := func(n int) asm.Types {
		l := make(asm.Types, n)
		for i := range l {
			l[i] = asm.I64
		}
		return l
	}
	sets := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "local.get %d i64.const 1 i64.add local.set %d ", i, i)
		}
		return b.String()
	}
	table := func(n int) string {
		return fmt.Sprint("loop i32.const 3 br_table ", n, " ", strings.Repeat("0 ", n+1), "end")
	}
	again := strings.Repeat
	for name, c := range map[string]struct {
		m       *asm.Module
		refused bool
	}{
		"2,000 blocks, each in the next":  {one(none, none, none, again("block ", 2000)+again("end ", 2000)), false},
		"50,000 blocks, each in the next": {one(none, none, none, again("block ", 50_000)+again("end ", 50_000)), true},
		"a branch of 3,000 labels":        {one(none, none, none, table(3000)), false},
		"a branch of 100,000 labels":      {one(none, none, none, table(100_000)), true},
		"50,000 branches to one place":    {one(none, none, none, "block "+again("i32.const 1 br_if 0 ", 50_000)+"end"), true},
		"3,000 locals in 1,000 loops":     {one(none, none, locals(3000), again("loop ", 1000)+sets(3000)+again("i32.const 1 br_if 0 end ", 1000)), true},
		"10,000 additions in a row":       {one(none, i32, none, "i32.const 1 "+again("i32.const 1 i32.add memory.size i32.add ", 10_000)), false},
		"10,000 calls in a row":           {one(none, none, none, "i32.const 0 if "+again("call 0 ", 10_000)+"end"), false},
		"20,000 values on the stack":      {one(none, i32, none, again("memory.size ", 20_000)+again("i32.add ", 19_999)), false},
	} {
		t.Run(name, func(t *testing.T) {
			mod, err := newRuntime(t, guest.Config{}).Compile(context.Background(), c.m.Bytes(), nil)
			if c.refused {
				if err == nil || !strings.Contains(err.Error(), "too long to compile") {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := call(newPool(t, mod, guest.PoolConfig{}), "run"); err != nil && !errors.Is(err, guest.ErrFuel) {
				t.Error(err)
			}
		})
	}
}

func TestACompilationThatTakesTooLongIsGivenUp(t *testing.T) {
	m := one(none, i32, none, "i32.const 1 "+strings.Repeat("i32.const 1 i32.add memory.size i32.add ", 20_000))
	r := newRuntime(t, guest.Config{CompileTime: time.Millisecond})
	_, err := r.Compile(context.Background(), m.Bytes(), nil)
	var refused *guest.Refused
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "took longer") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	mine := errors.New("mine")
	cancel(mine)
	if _, err := r.Compile(ctx, one(none, none, none, "").Bytes(), nil); err != mine {
		t.Errorf("got %v", err)
	}
}
