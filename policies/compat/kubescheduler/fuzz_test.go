package kubescheduler

import (
	"context"
	"errors"
	"testing"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/guest"
)

// Whatever a guest hands over, a host function ends: with an answer, or with an error that isn't a bug of ours.
func FuzzHostFunctionsTakeAnything(f *testing.F) {
	a := New(Config{})
	e := policy(f, a, newModule(f, a), ``, abi.Limits{})
	for which := range uint32(18) {
		f.Add(which, true, uint32(0), uint32(16), uint32(64), uint32(16), []byte(`{"a":1}`))
		f.Add(which, false, uint32(0xfffffff0), uint32(0xffffffff), uint32(0xfffffff0), uint32(0xffffffff), []byte("node-1"))
	}
	f.Fuzz(func(t *testing.T, which uint32, placing_ bool, a, b, c, d uint32, memory []byte) {
		var run *placing
		k := &known{pod: memory}
		if placing_ {
			run = &placing{Placement: placement(3, "pod-3"), known: k, events: map[Event]bool{}, codes: make([]int32, 3)}
		}
		_, err := e.pool.Do(context.Background(), func(ctx context.Context, in *guest.Instance) error {
			cycle := in.State.(*cycle)
			cycle.begin(run, k)
			cycle.waiting = []abi.Waiting{{Pod: &abi.Pod{UID: string(memory)}}}
			_ = in.Write(uint32(in.MemoryBytes()/2), memory)
			in.Discard()
			_, err := in.Call(ctx, "poke", uint64(which), uint64(a), uint64(b), uint64(c), uint64(d))
			return err
		})
		var bug interface{ RuntimeError() }
		if errors.As(err, &bug) {
			t.Fatal(err)
		}
	})
}
