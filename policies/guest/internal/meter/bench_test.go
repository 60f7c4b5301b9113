package meter_test

import (
	"context"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/pintle/pintle/policies/guest/internal/meter"
)

// BenchmarkFuel runs each guest as it is and rewritten, in turns, and reports the fastest of both and their ratio: on
// a machine that does other things too the fastest is what counts.
func BenchmarkFuel(b *testing.B) {
	type work struct {
		export string
		arg    uint64
	}
	for _, g := range []struct {
		name  string
		build func(b *testing.B) []byte
		work  []work
	}{
		{"c", buildC, []work{{"fib", 22}, {"sum", 3}, {"sieve", 1}, {"crc", 3}, {"multiply", 6}, {"scan", 3}, {"place", 60}, {"interpret", 6000}}},
		{"go", buildGo, []work{{"fib", 16}, {"sum", 3}, {"parse", 40}, {"words", 60}}},
		{"tinygo", func(b *testing.B) []byte { return fromWazero(b, "internal/integration_test/bench/testdata/case.wasm") },
			[]work{{"fibonacci", 20}, {"base64", 100}, {"string_manipulation", 30}, {"reverse_array", 300}, {"random_mat_mul", 20}}},
	} {
		b.Run(g.name, func(b *testing.B) {
			wasm := g.build(b)
			bare, metered := instances(b, wasm)
			for _, w := range g.work {
				b.Run(w.export, func(b *testing.B) { race(b, bare, metered, w.export, w.arg) })
			}
		})
	}
}

func race(b *testing.B, bare, metered api.Module, export string, arg uint64) {
	ctx := context.Background()
	fuel := metered.ExportedGlobal(meter.FuelExport).(api.MutableGlobal)
	fastest := [2]time.Duration{math.MaxInt64, math.MaxInt64}
	var results [2]uint64
	for range max(b.N, 30) {
		for i, mod := range []api.Module{bare, metered} {
			f := mod.ExportedFunction(export)
			stack := []uint64{arg}
			fill(metered)
			start := time.Now()
			if err := f.CallWithStack(ctx, stack); err != nil {
				b.Fatal(err)
			}
			fastest[i] = min(fastest[i], time.Since(start))
			results[i] = stack[0]
		}
	}
	b.ReportMetric(float64(fastest[0].Microseconds()), "µs-bare")
	b.ReportMetric(float64(fastest[1])/float64(fastest[0]), "ratio")
	b.ReportMetric(float64((plenty-fuel.Get())>>meter.FuelShift)/float64(fastest[0].Nanoseconds()), "fuel/ns")
	b.ReportMetric(0, "ns/op")
}

func instances(b *testing.B, wasm []byte) (bare, metered api.Module) {
	ctx := context.Background()
	m, err := meter.Parse(wasm)
	if err != nil {
		b.Fatal(err)
	}
	rewritten, err := m.Rewrite(meter.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("%d bytes, rewritten %d", len(wasm), len(rewritten))
	var mods [2]api.Module
	for i, bytes := range [][]byte{wasm, rewritten} {
		r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithCoreFeatures(specFeatures))
		b.Cleanup(func() { r.Close(ctx) })
		wasi_snapshot_preview1.MustInstantiate(ctx, r)
		_, err := r.NewHostModuleBuilder("env").NewFunctionBuilder().
			WithFunc(func(ctx context.Context, m api.Module, ptr, size uint32) {
				at, err := m.ExportedFunction("allocate_buffer").Call(ctx, 10)
				if err != nil {
					b.Fatal(err)
				}
				m.Memory().WriteUint32Le(ptr, uint32(at[0]))
				m.Memory().WriteUint32Le(size, 10)
				m.Memory().Write(uint32(at[0]), []byte("0123456789"))
			}).Export("get_random_string").Instantiate(ctx)
		if err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		code, err := r.CompileModule(ctx, bytes)
		if err != nil {
			b.Fatal(err)
		}
		b.Logf("%v to compile", time.Since(start))
		mod, err := r.InstantiateModule(ctx, code, wazero.NewModuleConfig().WithStartFunctions())
		if err != nil {
			b.Fatal(err)
		}
		if i == 1 {
			fill(mod)
		}
		for _, name := range []string{"_initialize", "_start"} {
			if f := mod.ExportedFunction(name); f != nil {
				if _, err := f.Call(ctx); err != nil && name == "_initialize" {
					b.Fatal(err)
				}
				break
			}
		}
		mods[i] = mod
	}
	return mods[0], mods[1]
}

func buildC(b *testing.B) []byte {
	if _, err := exec.LookPath("clang"); err != nil {
		b.Skip("clang isn't installed")
	}
	return build(b, exec.Command("clang", "--target=wasm32", "-O2", "-nostdlib", "-fno-builtin", "-Wl,--no-entry", "-Wl,--export-all", "testdata/loops.c"))
}

func buildGo(b *testing.B) []byte {
	cmd := exec.Command("go", "build", "-buildmode=c-shared", "./testdata/loops-go")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=")
	return build(b, cmd)
}

func build(b *testing.B, cmd *exec.Cmd) []byte {
	out := filepath.Join(b.TempDir(), "guest.wasm")
	args := cmd.Args
	cmd.Args = append([]string{args[0]}, args[1:len(args)-1]...)
	cmd.Args = append(cmd.Args, "-o", out, args[len(args)-1])
	if text, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v: %v\n%s", cmd.Args, err, text)
	}
	wasm, err := os.ReadFile(out)
	if err != nil {
		b.Fatal(err)
	}
	return wasm
}

func fromWazero(b *testing.B, path string) []byte {
	wasm, err := os.ReadFile(filepath.Join(wazeroDir(b), path))
	if err != nil {
		b.Fatal(err)
	}
	return wasm
}
