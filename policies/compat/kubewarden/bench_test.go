package kubewarden

import (
	"context"
	"fmt"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/compat/internal/review"
	"github.com/pintle/pintle/policies/compat/internal/wasmtest"
	"github.com/pintle/pintle/policies/guest"
)

// What the adapter and metering cost beside a bare call of the same module in wazero, which writes a request that is
// there already and reads the answer: compare adapter with bare, of one run.
func BenchmarkAdmit(b *testing.B) {
	a := New(Config{})
	for _, c := range []struct {
		name, settings string
		wasm           []byte
	}{
		{"C", ``, wasmtest.C(b, "testdata/label.c")},
		{"Go", `{"Required":["team"]}`, wasmtest.Reactor(b, "testdata/wapc")},
	} {
		q := pod(`{"team":"a"}`)
		b.Run(c.name+"/bare", func(b *testing.B) { bare(b, c.wasm, payload(b, q, c.settings)) })
		b.Run(c.name+"/adapter", func(b *testing.B) {
			m := wasmtest.Compile(b, wasmtest.Runtime(b), a, c.wasm)
			e, err := a.Admission(context.Background(), m, abi.Policy{Settings: []byte(c.settings)})
			if err != nil {
				b.Fatal(err)
			}
			defer e.Close(context.Background())
			b.ReportAllocs()
			for b.Loop() {
				if resp, _, err := e.Admit(context.Background(), q); err != nil || !resp.Allowed {
					b.Fatal(resp, err)
				}
			}
		})
	}
}

func payload(b *testing.B, q *abi.AdmissionRequest, settings string) []byte {
	b.Helper()
	if settings == "" {
		settings = "{}"
	}
	p, err := review.Append([]byte(`{"request":`), q)
	if err != nil {
		b.Fatal(err)
	}
	return fmt.Appendf(p, `,"settings":%s}`, settings)
}

// bare calls a waPC module with as little as there can be around it.
func bare(b *testing.B, wasm, payload []byte) {
	ctx := context.Background()
	rt := wazero.NewRuntime(ctx)
	defer rt.Close(ctx)
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, rt); err != nil {
		b.Fatal(err)
	}
	var operation, answer string
	host := rt.NewHostModuleBuilder("wapc")
	add := func(f guest.HostFunc, fn func(mod api.Module, s []uint64)) {
		host.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(_ context.Context, mod api.Module, s []uint64) { fn(mod, s) }),
			f.Params, f.Results).Export(f.Name)
	}
	for _, f := range New(Config{}).Hosts(nil)[0].Funcs {
		switch f.Name {
		case "__guest_request":
			add(f, func(mod api.Module, s []uint64) {
				mod.Memory().Write(uint32(s[1]), payload)
				mod.Memory().WriteString(uint32(s[0]), operation)
			})
		case "__guest_response":
			add(f, func(mod api.Module, s []uint64) {
				text, _ := mod.Memory().Read(uint32(s[0]), uint32(s[1]))
				answer = string(text)
			})
		default:
			add(f, func(_ api.Module, s []uint64) {
				if len(s) > 0 {
					s[0] = 0
				}
			})
		}
	}
	if _, err := host.Instantiate(ctx); err != nil {
		b.Fatal(err)
	}
	mod, err := rt.InstantiateWithConfig(ctx, wasm, wazero.NewModuleConfig().WithStartFunctions("_initialize", "wapc_init"))
	if err != nil {
		b.Fatal(err)
	}
	call, stack := mod.ExportedFunction("__guest_call"), make([]uint64, 2)
	operation = "validate"
	b.ReportAllocs()
	for b.Loop() {
		stack[0], stack[1] = uint64(len(operation)), uint64(len(payload))
		if err := call.CallWithStack(ctx, stack); err != nil || answer != `{"accepted":true}` {
			b.Fatal(answer, err)
		}
	}
}
