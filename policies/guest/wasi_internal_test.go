package guest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/pintle/pintle/policies/internal/asm"
)

// Every function of WASI is called with everything that a guest may pass: it answers with a number, exits, or is out
// of something, and never fails itself.
func TestWASITakesAnyArguments(t *testing.T) {
	m := &asm.Module{}
	funcs := wasi().Funcs
	for _, f := range funcs {
		m.ImportFunc(wasiName, f.Name, f.Params, f.Results)
	}
	m.Memory(1, -1)
	for i, f := range funcs {
		code := ""
		for k := range f.Params {
			code += fmt.Sprint("local.get ", k, " ")
		}
		m.Export(f.Name, 0, m.Func(f.Params, f.Results, nil, code+fmt.Sprint("call ", i)))
	}
	r, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close(context.Background())
	mod, err := r.Compile(context.Background(), m.Bytes(), nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := mod.NewPool(PoolConfig{})
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	odd := []uint64{0, 1, 2, 3, 8, 16, 1024, 65528, 65535, 65536, 1 << 31, 1<<32 - 1, 1<<64 - 1}
	for _, f := range funcs {
		for range 300 {
			args := make([]uint64, len(f.Params))
			for i := range args {
				args[i] = odd[rng.IntN(len(odd))]
			}
			_, err := p.Do(context.Background(), func(ctx context.Context, in *Instance) error {
				in.Args, in.Stdin = []string{"one", "two"}, []byte("input")
				for i := range in.Memory() {
					in.Memory()[i] = byte(rng.Uint32() >> (rng.IntN(4) * 8))
					if i > 200 {
						break
					}
				}
				_, err := in.Call(ctx, f.Name, args...)
				return err
			})
			var exit *Exit
			if err != nil && !errors.As(err, &exit) && !errors.Is(err, ErrFuel) && !errors.Is(err, ErrOutput) {
				t.Fatalf("%s(%x): %v", f.Name, args, err)
			}
		}
	}
	if len(funcs) != 46 || !strings.HasPrefix(funcs[0].Name, "args") {
		t.Errorf("%d functions, the first is %s", len(funcs), funcs[0].Name)
	}
}
