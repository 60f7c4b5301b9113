package kubewarden

import (
	"context"
	"errors"
	"testing"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/compat/internal/wasmtest"
	"github.com/pintle/pintle/policies/guest"
)

// Whatever a guest hands over, a host function ends: with an answer, or with an error that isn't a bug of ours.
func FuzzHostFunctionsTakeAnything(f *testing.F) {
	a := New(Config{Lookup: lookup})
	m := wapcGuest.Get(f, a, func() []byte { return wasmtest.Reactor(f, "testdata/wapc") })
	admitter, err := a.Admission(context.Background(), m, abi.Policy{Capabilities: []string{"read:/pods", "read:/namespaces"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = admitter.Close(context.Background()) })
	e := admitter.(*evaluator)
	for which := range uint32(9) {
		f.Add(which, uint32(0), uint32(16), uint32(64), uint32(16), uint32(128), uint32(16), uint32(256), uint32(16), []byte(`{"api_version":"v1"}`))
		f.Add(which, uint32(0xfffffff0), uint32(0xffffffff), uint32(0), uint32(0xffffffff), uint32(4), uint32(4), uint32(4), uint32(4), []byte{})
	}
	f.Fuzz(func(t *testing.T, which, a, b, c, d, e2, f2, g, h uint32, memory []byte) {
		_, err := e.pool.Do(context.Background(), func(ctx context.Context, in *guest.Instance) error {
			conversation := in.State.(*conversation)
			conversation.operation, conversation.payload = "validate", memory
			conversation.hostReply, conversation.hostError = memory, string(memory)
			_ = in.Write(uint32(in.MemoryBytes()/2), memory)
			in.Discard()
			_, err := in.Call(ctx, "poke", uint64(which), uint64(a), uint64(b), uint64(c), uint64(d), uint64(e2), uint64(f2), uint64(g), uint64(h))
			return err
		})
		noBug(t, err)
	})
}

func FuzzAnswersAreReadWithoutHarm(f *testing.F) {
	f.Add([]byte(`{"accepted":true,"mutated_object":{"a":[1]},"warnings":["x"],"audit_annotations":{"a":"b"}}`))
	f.Add([]byte(`{"accepted":false,"code":70000,"message":null}`))
	f.Fuzz(func(t *testing.T, answer []byte) { _, _ = response(answer, pod(`{}`)) })
}

func noBug(t *testing.T, err error) {
	t.Helper()
	var bug interface{ RuntimeError() }
	if errors.As(err, &bug) {
		t.Fatal(err)
	}
}
