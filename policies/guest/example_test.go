package guest_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/guest"
	"github.com/pintle/pintle/policies/internal/asm"
)

func Example() {
	// A guest that squares, and one function that never ends. Any compiler's module does.
	m := &asm.Module{}
	m.Export("square", 0, m.Func(i32, i32, none, "local.get 0 local.get 0 i32.mul"))
	m.Export("spin", 0, m.Func(none, none, none, "loop br 0 end"))

	ctx := context.Background()
	r, err := guest.New(guest.Config{})
	if err != nil {
		panic(err)
	}
	defer r.Close(ctx)
	module, err := r.Compile(ctx, m.Bytes(), nil)
	if err != nil {
		panic(err)
	}
	pool, err := module.NewPool(guest.PoolConfig{Limits: abi.Limits{Fuel: 1_000_000}})
	if err != nil {
		panic(err)
	}
	spent, err := pool.Do(ctx, func(ctx context.Context, in *guest.Instance) error {
		v, err := in.Call(ctx, "square", 12)
		fmt.Println(v)
		return err
	})
	fmt.Println(spent.Fuel, err)

	_, err = pool.Do(ctx, func(ctx context.Context, in *guest.Instance) error {
		_, err := in.Call(ctx, "spin")
		return err
	})
	fmt.Println(errors.Is(err, guest.ErrFuel))
	// Output:
	// 144
	// 3 <nil>
	// true
}
