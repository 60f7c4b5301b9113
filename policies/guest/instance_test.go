package guest_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/guest"
	"github.com/pintle/pintle/policies/internal/asm"
)

func do(t *testing.T, p *guest.Pool, fn func(ctx context.Context, in *guest.Instance) error) error {
	t.Helper()
	_, err := p.Do(context.Background(), fn)
	return err
}

func TestReadsAndWritesOutsideTheMemoryAreErrors(t *testing.T) {
	p := pool(t, one(none, none, none, ""), guest.PoolConfig{Limits: abi.Limits{OutputBytes: 100}})
	err := do(t, p, func(_ context.Context, in *guest.Instance) error {
		for _, c := range []struct{ at, n uint32 }{{0, 65537}, {65536, 1}, {65535, 2}, {1<<32 - 1, 1}, {1<<32 - 1, 1<<32 - 1}, {0, 1<<32 - 1}} {
			if _, err := in.Read(c.at, c.n); !errors.Is(err, guest.ErrBounds) {
				t.Errorf("read %d at %d: %v", c.n, c.at, err)
			}
			if c.n > 1<<20 {
				continue
			}
			if err := in.Write(c.at, make([]byte, c.n)); !errors.Is(err, guest.ErrBounds) {
				t.Errorf("write %d at %d: %v", c.n, c.at, err)
			}
		}
		if err := in.Write(65534, []byte("ok")); err != nil {
			t.Error(err)
		}
		if b, err := in.Read(65534, 2); err != nil || string(b) != "ok" {
			t.Errorf("read %q, %v", b, err)
		}
		if b, err := in.Read(65536, 0); err != nil || len(b) != 0 {
			t.Errorf("reading nothing at the end: %v", err)
		}
		if _, err := in.ReadAnswer(0, 60); err != nil {
			t.Error(err)
		}
		if _, err := in.ReadAnswer(0, 60); !errors.Is(err, guest.ErrOutput) {
			t.Errorf("120 bytes of answers: %v", err)
		}
		if _, err := in.ReadAnswer(0, 1<<32-1); !errors.Is(err, guest.ErrOutput) {
			t.Errorf("4 GiB of an answer: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestCallsThatCannotBeMadeAreErrorsAndNothingElse(t *testing.T) {
	m := one(i32, i32, none, "local.get 0")
	m.Table(asm.FuncRef, 1, -1)
	m.Export("table", 1, 0)
	p := pool(t, m, guest.PoolConfig{})
	err := do(t, p, func(ctx context.Context, in *guest.Instance) error {
		for name, args := range map[string][]uint64{"missing": nil, "memory": nil, "table": {1}, "run": {1, 2}, "pintle:fuel": nil} {
			if _, err := in.Call(ctx, name, args...); err == nil {
				t.Errorf("%q was called with %v", name, args)
			}
		}
		if _, err := in.Call(context.Background(), "run", 1); err == nil {
			t.Error("a call took a context that isn't of this call")
		}
		got, err := in.Call(ctx, "run", 5)
		if got != 5 {
			t.Errorf("returned %d", got)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// echo imports env.back, which calls back into the guest.
func echo(code string) *asm.Module {
	m := &asm.Module{}
	m.ImportFunc("env", "back", i32, i32)
	m.Memory(1, -1)
	m.Export("run", 0, m.Func(i32, i32, none, code))
	m.Export("double", 0, m.Func(i32, i32, none, "local.get 0 local.get 0 i32.add"))
	return m
}

func back(export string) guest.HostModule {
	return guest.HostModule{Name: "env", Funcs: []guest.HostFunc{{
		Name: "back", Params: []guest.ValueType{guest.I32}, Results: []guest.ValueType{guest.I32},
		Call: func(ctx context.Context, in *guest.Instance, stack []uint64) (err error) {
			stack[0], err = in.Call(ctx, export, uint64(uint32(stack[0])))
			return err
		}}}}
}

func TestAHostFunctionMayCallBack(t *testing.T) {
	p := pool(t, echo("local.get 0 call 0 i32.const 1 i32.add"), guest.PoolConfig{}, back("double"))
	if got, _, err := call(p, "run", 20); err != nil || got != 41 {
		t.Errorf("returned %d, %v", got, err)
	}
	// Into the export that runs already: 5 → 4 → … → 0.
	p = pool(t, echo("local.get 0 if i32 local.get 0 i32.const 1 i32.sub call 0 i32.const 1 i32.add else i32.const 100 end"), guest.PoolConfig{}, back("run"))
	if got, _, err := call(p, "run", 5); err != nil || got != 105 {
		t.Errorf("returned %d, %v", got, err)
	}
	if _, _, err := call(p, "run", 500); err == nil || !strings.Contains(err.Error(), "deep") {
		t.Errorf("500 calls deep: %v", err)
	}
}

func TestTheErrorOfAHostFunctionComesBackAsItIs(t *testing.T) {
	mine := errors.New("mine")
	fails := guest.HostModule{Name: "env", Funcs: []guest.HostFunc{{
		Name: "back", Params: []guest.ValueType{guest.I32}, Results: []guest.ValueType{guest.I32},
		Call: func(context.Context, *guest.Instance, []uint64) error { return mine }}}}
	if _, _, err := call(pool(t, echo("local.get 0 call 0"), guest.PoolConfig{}, fails), "run", 1); err != mine {
		t.Errorf("got %v", err)
	}
	panics := guest.HostModule{Name: "env", Funcs: []guest.HostFunc{{
		Name: "back", Params: []guest.ValueType{guest.I32}, Results: []guest.ValueType{guest.I32},
		Call: func(_ context.Context, _ *guest.Instance, s []uint64) error { s[len(s)+1] = 0; return nil }}}}
	if _, _, err := call(pool(t, echo("local.get 0 call 0"), guest.PoolConfig{}, panics), "run", 1); err == nil || !strings.Contains(err.Error(), "a host function failed") {
		t.Errorf("got %v", err)
	}
}

func TestHostFunctionsSpendFuelAndRenewGivesItAnew(t *testing.T) {
	charges := guest.HostModule{Name: "env", Funcs: []guest.HostFunc{{
		Name: "back", Params: []guest.ValueType{guest.I32}, Results: []guest.ValueType{guest.I32},
		Call: func(_ context.Context, in *guest.Instance, s []uint64) error { return in.Charge(uint64(uint32(s[0]))) }}}}
	p := pool(t, echo("local.get 0 call 0"), guest.PoolConfig{Limits: abi.Limits{Fuel: 1000, HostCalls: 3}}, charges)
	if _, spent, err := call(p, "run", 500); err != nil || spent.Fuel < 500 || spent.Fuel > 700 {
		t.Errorf("spent %d, %v", spent.Fuel, err)
	}
	if _, _, err := call(p, "run", 1000); !errors.Is(err, guest.ErrFuel) {
		t.Errorf("got %v", err)
	}
	if _, _, err := call(p, "run", 1<<32-1); !errors.Is(err, guest.ErrFuel) {
		t.Errorf("got %v", err)
	}
	spent, err := p.Do(context.Background(), func(ctx context.Context, in *guest.Instance) error {
		for range 10 {
			if _, err := in.Call(ctx, "run", 700); err != nil {
				return err
			}
			in.Renew()
		}
		return nil
	})
	if err != nil || spent.Fuel < 7000 {
		t.Errorf("ten times: spent %d, %v", spent.Fuel, err)
	}
}

func TestAnExitEndsTheCallAndLeavesTheInstanceUsable(t *testing.T) {
	m := &asm.Module{}
	m.ImportFunc("wasi_snapshot_preview1", "proc_exit", i32, none)
	m.Memory(1, -1)
	m.Global(asm.I32, "i32.const 0")
	// _start recurses a little before it exits: what it took from the stack must come back.
	m.Export("_start", 0, m.Func(none, none, none, "global.get 0 i32.const 1 i32.add global.set 0 global.get 0 i32.const 10 i32.lt_s if call 1 end i32.const 0 call 0 unreachable"))
	m.Export("run", 0, m.Func(none, i32, none, "global.get 0"))
	p := pool(t, m, guest.PoolConfig{Init: func(ctx context.Context, in *guest.Instance) error {
		_, err := in.Call(ctx, "_start")
		var exit *guest.Exit
		if !errors.As(err, &exit) || exit.Code != 0 {
			t.Errorf("_start: %v", err)
		}
		return nil
	}})
	for range 3 {
		if got, _, err := call(p, "run"); err != nil || got != 10 {
			t.Errorf("returned %d, %v", got, err)
		}
	}
	if n, _ := p.Idle(); n != 1 {
		t.Errorf("%d idle instances", n)
	}
}

func TestTheStartFunctionRunsOnceAndIsMetered(t *testing.T) {
	m := one(none, i32, none, "i32.const 0 i32.load 0")
	m.Start(m.Func(none, none, none, "i32.const 0 i32.const 0 i32.load 0 i32.const 5 i32.add i32.store 0"))
	p := pool(t, m, guest.PoolConfig{})
	for range 2 {
		if got, _, err := call(p, "run"); err != nil || got != 5 {
			t.Errorf("returned %d, %v", got, err)
		}
	}
	for name, c := range map[string]struct {
		code string
		want error
	}{"a trap": {"unreachable", nil}, "a loop": {"loop br 0 end", guest.ErrFuel}} {
		m := one(none, none, none, "")
		m.Start(m.Func(none, none, none, c.code))
		p := pool(t, m, guest.PoolConfig{Limits: abi.Limits{Fuel: 1000}})
		if err := p.Warm(context.Background()); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s in the start function: %v", name, err)
		}
	}
}

func TestMemoryLimits(t *testing.T) {
	big := &asm.Module{}
	big.Memory(100, -1)
	mod := compile(t, newRuntime(t, guest.Config{}), big.Bytes())
	if _, err := mod.NewPool(guest.PoolConfig{Limits: abi.Limits{MemoryBytes: 1 << 20}}); !errors.Is(err, guest.ErrMemory) {
		t.Errorf("a module that begins larger than allowed: %v", err)
	}
	p := pool(t, one(i32, i32, none, "local.get 0 memory.grow"), guest.PoolConfig{Limits: abi.Limits{MemoryBytes: 10 << 16}})
	for _, c := range []struct{ grow, want uint64 }{{0, 1}, {9, 1}, {0, 10}, {1, 1<<32 - 1}, {1<<32 - 1, 1<<32 - 1}, {0, 10}} {
		if got, _, err := call(p, "run", c.grow); err != nil || got != c.want {
			t.Errorf("grow by %d returned %d, %v; want %d", c.grow, got, err, c.want)
		}
	}
}

func TestAnImportedMemoryBecomesTheModulesOwn(t *testing.T) {
	m := &asm.Module{}
	m.Import("env", "memory", 2, 0, 2)
	m.ImportFunc("env", "back", i32, i32)
	m.Export("run", 0, m.Func(i32, i32, none, "local.get 0 call 0 memory.size i32.add"))
	m.Export("double", 0, m.Func(i32, i32, none, "local.get 0 local.get 0 i32.add"))
	m.Data(100, []byte("here"))
	p := pool(t, m, guest.PoolConfig{}, back("double"))
	if got, _, err := call(p, "run", 4); err != nil || got != 10 {
		t.Errorf("returned %d, %v", got, err)
	}
	if err := do(t, p, func(_ context.Context, in *guest.Instance) error {
		if b, _ := in.Read(100, 4); string(b) != "here" {
			t.Errorf("read %q", b)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

func TestWASIIsANothingThatIsAlwaysTheSame(t *testing.T) {
	var log bytes.Buffer
	m := &asm.Module{}
	random := m.ImportFunc("wasi_snapshot_preview1", "random_get", asm.Types{asm.I32, asm.I32}, i32)
	clock := m.ImportFunc("wasi_snapshot_preview1", "clock_time_get", asm.Types{asm.I32, asm.I64, asm.I32}, i32)
	write := m.ImportFunc("wasi_snapshot_preview1", "fd_write", asm.Types{asm.I32, asm.I32, asm.I32, asm.I32}, i32)
	open := m.ImportFunc("wasi_snapshot_preview1", "fd_prestat_get", asm.Types{asm.I32, asm.I32}, i32)
	m.Memory(1, -1)
	m.Data(64, []byte{80, 0, 0, 0, 6, 0, 0, 0})
	m.Data(80, []byte("hello\n"))
	_ = []uint32{random, clock, write, open}
	m.Export("run", 0, m.Func(none, i32, none, "i32.const 0 i32.const 8 call 0 drop i32.const 0 i64.const 1 i32.const 8 call 1 drop "+
		"i32.const 2 i32.const 64 i32.const 1 i32.const 16 call 2 drop i32.const 3 i32.const 32 call 3"))
	wasm := m.Bytes()
	var seen [2]string
	for i := range seen {
		p := newPool(t, compile(t, newRuntime(t, guest.Config{}), wasm), guest.PoolConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		err := do(t, p, func(ctx context.Context, in *guest.Instance) error {
			errno, err := in.Call(ctx, "run")
			if errno != 8 {
				t.Errorf("a directory is pre-opened: errno %d", errno)
			}
			b, _ := in.Read(0, 20)
			seen[i] = string(b)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if seen[0] != seen[1] || seen[0][:8] == "\x00\x00\x00\x00\x00\x00\x00\x00" || seen[0][16] != 6 {
		t.Errorf("%x and %x", seen[0], seen[1])
	}
	if !strings.Contains(log.String(), "text=hello") || !strings.Contains(log.String(), "WARN") {
		t.Errorf("the log says %q", log.String())
	}
}

func TestACommandReadsAndWrites(t *testing.T) {
	m := &asm.Module{}
	four := asm.Types{asm.I32, asm.I32, asm.I32, asm.I32}
	m.ImportFunc("wasi_snapshot_preview1", "fd_read", four, i32)
	m.ImportFunc("wasi_snapshot_preview1", "fd_write", four, i32)
	m.Memory(1, -1)
	m.Data(0, []byte{32, 0, 0, 0, 64, 0, 0, 0}) // 64 bytes at 32
	m.Export("_start", 0, m.Func(none, none, none, "i32.const 0 i32.const 0 i32.const 1 i32.const 4 call 0 drop i32.const 1 i32.const 0 i32.const 1 i32.const 8 call 1 drop"))
	p := pool(t, m, guest.PoolConfig{SingleUse: true, Limits: abi.Limits{OutputBytes: 100}})
	for _, in := range []string{"first", "second"} {
		var out bytes.Buffer
		err := do(t, p, func(ctx context.Context, i *guest.Instance) error {
			i.Stdin, i.Stdout = []byte(in), &out
			_, err := i.Call(ctx, "_start")
			return err
		})
		if err != nil || out.String() != in {
			t.Errorf("%q came back as %q, %v", in, out.String(), err)
		}
	}
}
