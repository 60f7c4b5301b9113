package guest_test

import (
	"context"
	"testing"

	"go.uber.org/goleak"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/guest"
	"github.com/pintle/pintle/policies/internal/asm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newRuntime(t testing.TB, cfg guest.Config) *guest.Runtime {
	t.Helper()
	r, err := guest.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return r
}

func compile(t testing.TB, r *guest.Runtime, wasm []byte, hosts ...guest.HostModule) *guest.Module {
	t.Helper()
	m, err := r.Compile(context.Background(), wasm, hosts)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func newPool(t testing.TB, m *guest.Module, cfg guest.PoolConfig) *guest.Pool {
	t.Helper()
	p, err := m.NewPool(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// pool makes a pool of a module that was just written.
func pool(t testing.TB, m *asm.Module, cfg guest.PoolConfig, hosts ...guest.HostModule) *guest.Pool {
	t.Helper()
	return newPool(t, compile(t, newRuntime(t, guest.Config{}), m.Bytes(), hosts...), cfg)
}

// call calls one function in one Do.
func call(p *guest.Pool, export string, args ...uint64) (result uint64, spent abi.Spent, err error) {
	spent, err = p.Do(context.Background(), func(ctx context.Context, in *guest.Instance) (err error) {
		result, err = in.Call(ctx, export, args...)
		return err
	})
	return result, spent, err
}

// one is a module of one function, exported as "run", and a memory.
func one(params, results, locals asm.Types, code string) *asm.Module {
	m := &asm.Module{}
	m.Memory(1, -1)
	m.Export("run", 0, m.Func(params, results, locals, code))
	m.Export("memory", 2, 0)
	return m
}
