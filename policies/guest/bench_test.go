package guest_test

import (
	"context"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/pintle/pintle/policies/guest"
	"github.com/pintle/pintle/policies/internal/asm"
)

// label is what a small admission policy does with memory: it compares some bytes.
func label() []byte {
	return one(i32, i32, asm.Types{asm.I32}, "loop "+
		"local.get 1 i32.load8_u 0 local.get 0 i32.eq if local.get 1 return end "+
		"local.get 1 i32.const 1 i32.add local.tee 1 i32.const 64 i32.lt_s br_if 0 end i32.const -1").Bytes()
}

func BenchmarkCallBare(b *testing.B) {
	ctx := context.Background()
	r := wazero.NewRuntime(ctx)
	defer r.Close(ctx)
	mod, err := r.Instantiate(ctx, label())
	if err != nil {
		b.Fatal(err)
	}
	f := mod.ExportedFunction("run")
	stack := make([]uint64, 1)
	b.ReportAllocs()
	for b.Loop() {
		stack[0] = 7
		if err := f.CallWithStack(ctx, stack); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCallPooled(b *testing.B) {
	ctx := context.Background()
	p := newPool(b, compile(b, newRuntime(b, guest.Config{}), label()), guest.PoolConfig{})
	fn := func(ctx context.Context, in *guest.Instance) error {
		_, err := in.Call(ctx, "run", 7)
		return err
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Do(ctx, fn); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCallPooledParallel(b *testing.B) {
	p := newPool(b, compile(b, newRuntime(b, guest.Config{}), label()), guest.PoolConfig{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := p.Do(context.Background(), func(ctx context.Context, in *guest.Instance) error {
				_, err := in.Call(ctx, "run", 7)
				return err
			}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkHostCall(b *testing.B) {
	m := &asm.Module{}
	m.ImportFunc("env", "nothing", none, none)
	m.Memory(1, -1)
	m.Export("run", 0, m.Func(none, none, i32, "loop call 0 local.get 0 i32.const 1 i32.add local.tee 0 i32.const 100 i32.lt_s br_if 0 end"))
	host := guest.HostModule{Name: "env", Funcs: []guest.HostFunc{{Name: "nothing",
		Call: func(context.Context, *guest.Instance, []uint64) error { return nil }}}}
	p := newPool(b, compile(b, newRuntime(b, guest.Config{}), m.Bytes(), host), guest.PoolConfig{})
	fn := func(ctx context.Context, in *guest.Instance) error {
		_, err := in.Call(ctx, "run")
		return err
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Do(context.Background(), fn); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100, "ns/hostcall")
}

func BenchmarkInstance(b *testing.B) {
	p := newPool(b, compile(b, newRuntime(b, guest.Config{}), label()), guest.PoolConfig{SingleUse: true})
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Warm(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}
