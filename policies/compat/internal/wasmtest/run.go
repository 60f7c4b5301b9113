package wasmtest

import (
	"context"
	"testing"
	"time"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/guest"
)

// Adapter is policies.Adapter, which this package can't import.
type Adapter interface {
	Name() string
	Detect(*guest.Info) bool
	Hosts(*guest.Info) []guest.HostModule
	Admission(context.Context, *guest.Module, abi.Policy) (guest.Admitter, error)
	Scheduling(context.Context, *guest.Module, abi.Policy) (guest.Placer, error)
}

// config gives a compiler that the race detector watches the time that it needs for a guest in Go.
var config = guest.Config{CompileTime: 20 * time.Minute}

// Runtime makes a runtime that the test's end closes.
func Runtime(t testing.TB) *guest.Runtime {
	t.Helper()
	rt, err := guest.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := rt.Close(ctx); err != nil {
			t.Errorf("close the runtime: %v", err)
		}
	})
	return rt
}

// Compile compiles a module that an adapter must recognise.
func Compile(t testing.TB, rt *guest.Runtime, a Adapter, wasm []byte) *guest.Module {
	t.Helper()
	info, err := guest.Inspect(wasm)
	if err != nil {
		t.Fatal(err)
	}
	if !a.Detect(info) {
		t.Fatalf("the adapter %s doesn't recognise the module", a.Name())
	}
	m, err := rt.Compile(context.Background(), wasm, a.Hosts(info))
	if err != nil {
		t.Fatal(err)
	}
	return m
}
