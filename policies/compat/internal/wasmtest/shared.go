package wasmtest

import (
	"context"
	"sync"
	"testing"

	"github.com/pintle/pintle/policies/guest"
)

// Shared compiles one module for all tests of a package: a guest in Go takes seconds. It is never closed.
type Shared struct {
	once   sync.Once
	module *guest.Module
}

// Get builds and compiles on its first call.
func (s *Shared) Get(t testing.TB, a Adapter, build func() []byte) *guest.Module {
	t.Helper()
	s.once.Do(func() {
		rt, err := guest.New(config)
		if err != nil {
			t.Fatal(err)
		}
		wasm := build()
		info, err := guest.Inspect(wasm)
		if err != nil {
			t.Fatal(err)
		}
		if !a.Detect(info) {
			t.Fatalf("the adapter %s doesn't recognise the module", a.Name())
		}
		if s.module, err = rt.Compile(context.Background(), wasm, a.Hosts(info)); err != nil {
			t.Fatal(err)
		}
	})
	if s.module == nil {
		t.Fatal("the shared module wasn't built")
	}
	return s.module
}
