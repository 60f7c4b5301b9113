package meter_test

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/pintle/pintle/policies/guest/internal/meter"
)

func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(seed, 1))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func TestGeneratedModulesBehaveAsBefore(t *testing.T) {
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, runtimeConfig())
	defer r.Close(ctx)
	n := 300
	if skipSome {
		n = 15
	}
	var seen outcomes
	for seed := range uint64(n) {
		compare(ctx, t, r, generate(random(seed, 2000)), &seen)
	}
	t.Logf("%+v", seen)
	if seen.returned < n/4 || seen.trapped < n/4 {
		t.Error("the modules are too much alike for this to mean anything")
	}
}

func FuzzGeneratedModulesBehaveAsBefore(f *testing.F) {
	for seed := range uint64(4) {
		f.Add(random(seed, 500))
	}
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, runtimeConfig())
	f.Fuzz(func(t *testing.T, choices []byte) {
		compare(ctx, t, r, generate(choices), &outcomes{})
	})
}

// Bytes that aren't a valid module must not become one, nor a panic.
func FuzzInvalidModulesStayInvalid(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(generate(random(seed, 300)), uint16(seed*97), byte(seed))
	}
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, runtimeConfig())
	f.Fuzz(func(t *testing.T, wasm []byte, at uint16, v byte) { flip(ctx, t, r, wasm, int(at), v) })
}

func TestDamagedModulesDoNotBecomeValid(t *testing.T) {
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, runtimeConfig())
	defer r.Close(ctx)
	n, refused := 3000, 0
	if skipSome {
		n = 100
	}
	rng := rand.New(rand.NewPCG(7, 7))
	var wasm []byte
	for i := range n {
		if i%50 == 0 {
			wasm = generate(random(uint64(i), 120))
		}
		if flip(ctx, t, r, wasm, rng.IntN(len(wasm)), byte(rng.Uint32())) {
			refused++
		}
	}
	if refused < n/4 {
		t.Errorf("only %d of %d damaged modules were refused", refused, n)
	}
}

// flip damages one byte. It returns whether the module was refused.
func flip(ctx context.Context, t *testing.T, r wazero.Runtime, wasm []byte, at int, v byte) bool {
	wasm = bytes.Clone(wasm)
	if len(wasm) > 0 {
		wasm[at%len(wasm)] = v
	}
	m, err := meter.Parse(wasm)
	if err != nil {
		return true
	}
	out, err := m.Rewrite(meter.Options{})
	if err != nil {
		return true
	}
	rewritten, err := r.CompileModule(ctx, out)
	if err != nil {
		return true
	}
	defer rewritten.Close(ctx)
	original, err := r.CompileModule(ctx, wasm)
	if err != nil {
		t.Fatalf("a module that is invalid (%v) has become valid:\n%x", err, wasm)
	}
	original.Close(ctx)
	return false
}

type outcomes struct{ returned, trapped, exhausted int }

// compare runs every function of a generated module, as it is and rewritten, on the same inputs.
func compare(ctx context.Context, t *testing.T, r wazero.Runtime, wasm []byte, seen *outcomes) {
	t.Helper()
	m, err := meter.Parse(wasm)
	if err != nil {
		t.Fatalf("parse: %v\n%x", err, wasm)
	}
	out, err := m.Rewrite(meter.Options{})
	if err != nil {
		t.Fatalf("rewrite: %v\n%x", err, wasm)
	}
	if again, err := meter.Parse(wasm); err != nil {
		t.Fatalf("parse again: %v", err)
	} else if twice, err := again.Rewrite(meter.Options{}); err != nil || !bytes.Equal(twice, out) {
		t.Fatalf("rewriting the same module again gives something else (%v)", err)
	}
	original, err := r.CompileModule(ctx, wasm)
	if err != nil {
		t.Fatalf("the generator made an invalid module: %v", err)
	}
	defer original.Close(ctx)
	rewritten, err := r.CompileModule(ctx, out)
	if err != nil {
		t.Fatalf("the rewritten module is invalid: %v\n%x", err, wasm)
	}
	defer rewritten.Close(ctx)

	a := start(ctx, t, r, original, false)
	b := start(ctx, t, r, rewritten, true)
	defer a.Close(ctx)
	defer b.Close(ctx)
	fuels := []uint64{}
	want := []string{}
	for i, f := range functions(m) {
		wantResult, _ := callOne(ctx, a, f, i)
		got, fuel := callOne(ctx, b, f, i)
		if got != wantResult {
			t.Fatalf("%s: the original: %s, rewritten: %s\n%x", f, wantResult, got, wasm)
		}
		fuels, want = append(fuels, fuel), append(want, got)
		if failed(got) {
			seen.trapped++
		} else {
			seen.returned++
		}
	}
	// Once more: the same fuel; and with as much as is needed, but no more and no less.
	c := start(ctx, t, r, rewritten, true)
	defer c.Close(ctx)
	for i, f := range functions(m) {
		got, fuel := callOne(ctx, c, f, i)
		if got != want[i] || fuel != fuels[i] {
			t.Fatalf("%s: the second time it gave %s for %d, and %s for %d the first\n%x", f, got, fuel, want[i], fuels[i], wasm)
		}
	}
	for i, f := range functions(m) {
		if failed(want[i]) || i > 0 {
			break // what came before is needed for the state
		}
		for _, less := range []uint64{0, 1} {
			d := start(ctx, t, r, rewritten, true)
			d.ExportedGlobal(meter.FuelExport).(api.MutableGlobal).Set((fuels[i]-less)<<meter.FuelShift | meter.StackMost)
			d.ExportedGlobal("g0").(api.MutableGlobal).Set(genSteps)
			_, err := d.ExportedFunction(f).Call(ctx, uint64(3*i+1), uint64(i*1000))
			out := err != nil || int64(d.ExportedGlobal(meter.FuelExport).Get()) < 0
			if out != (less == 1) {
				t.Fatalf("%s needs %d, and with %d less: out of fuel %v (%v)\n%x", f, fuels[i], less, out, err, wasm)
			}
			if out {
				seen.exhausted++
			}
			d.Close(ctx)
		}
	}
}

func failed(outcome string) bool { return outcome[0] == 'w' } // "wasm error: …"

func functions(m *meter.Module) (names []string) {
	for _, e := range m.Exports {
		if e.Kind == meter.Func {
			names = append(names, e.Name)
		}
	}
	return names
}

func start(ctx context.Context, t *testing.T, r wazero.Runtime, code wazero.CompiledModule, metered bool) api.Module {
	t.Helper()
	mod, err := r.InstantiateModule(ctx, code, wazero.NewModuleConfig().WithName(""))
	if err != nil {
		t.Fatal(err)
	}
	if metered {
		fill(mod)
		if f := mod.ExportedFunction(meter.StartExport); f != nil {
			if _, err := f.Call(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	return mod
}

// callOne calls a function; what it returns stands for everything that can be seen afterwards.
func callOne(ctx context.Context, mod api.Module, f string, i int) (string, uint64) {
	mod.ExportedGlobal("g0").(api.MutableGlobal).Set(genSteps)
	fuel, _ := mod.ExportedGlobal(meter.FuelExport).(api.MutableGlobal)
	before := uint64(0)
	if fuel != nil {
		fill(mod)
		before = fuel.Get()
	}
	results, err := mod.ExportedFunction(f).Call(ctx, uint64(3*i+1), uint64(i*1000))
	spent := uint64(0)
	if fuel != nil {
		spent = before>>meter.FuelShift - fuel.Get()>>meter.FuelShift
	}
	h := fnv.New64a()
	memory, _ := mod.Memory().Read(0, mod.Memory().Size())
	h.Write(memory)
	for _, g := range []string{"g0", "g1", "g2"} {
		fmt.Fprint(h, mod.ExportedGlobal(g).Get(), " ")
	}
	if err != nil {
		return fmt.Sprintf("%s, state %x", reason(err), h.Sum64()), spent
	}
	return fmt.Sprintf("%v, state %x", results, h.Sum64()), spent
}

// runtimeConfig is as the host's: wazero reads debug information, which isn't wanted, more strictly than it must be.
func runtimeConfig() wazero.RuntimeConfig {
	return wazero.NewRuntimeConfig().WithCoreFeatures(specFeatures).WithDebugInfoEnabled(false)
}
