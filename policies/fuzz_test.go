package policies

import (
	"context"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/pintle/pintle/policies/abi"
)

// FuzzHostFunctions has a guest call each host function with whatever numbers and bytes: it gets an answer or its call
// ends with an error, and nothing panics.
func FuzzHostFunctions(f *testing.F) {
	// The message begins with the uid's head, two bytes; the uid is: function, two bytes unused, address, length, bytes.
	const code = `
i32.const 1029 i32.load 0 local.set 2 i32.const 1033 i32.load 0 local.set 3
i32.const 1026 i32.load8_u 0 i32.const 3 i32.and i32.eqz if i64 local.get 2 local.get 3 $intern i64.extend_i32_u
else i32.const 1026 i32.load8_u 0 i32.const 3 i32.and i32.const 1 i32.eq if i64 local.get 2 local.get 2 local.get 3 $log i64.const 0
else i32.const 1026 i32.load8_u 0 i32.const 3 i32.and i32.const 2 i32.eq if i64 $now_ms
else local.get 2 local.get 3 $lookup end end end
drop i64.const 0`
	h, err := New(Config{Lookup: func(_ context.Context, name string) ([]byte, error) { return []byte(name), nil }})
	if err != nil {
		f.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	f.Cleanup(func() { stop(); <-ended })
	if _, err := h.Load(ctx, "m", runs(code)); err != nil {
		f.Fatal(err)
	}
	spec := abi.Policy{Name: "p", Kind: abi.Admission, Module: "m", Capabilities: []string{"clock", "read:/pods", "read:a/b"}}
	if err := h.Set(ctx, spec); err != nil {
		f.Fatal(err)
	}
	p := (*h.policies.Load())[policyKey{abi.Admission, "p"}]
	for function := range byte(4) {
		f.Add(function, uint32(1037), uint32(4), []byte("/v1/pods/default/web"))
		f.Add(function, uint32(1037), uint32(20), []byte("/v1/pods/default/web"))
		f.Add(function, uint32(1<<32-1), uint32(1<<32-1), []byte{0xff})
		f.Add(function, uint32(3<<16-1), uint32(2), []byte{})
		f.Add(function, uint32(0), uint32(3<<16), []byte("a/b/b/c/"))
	}
	f.Fuzz(func(t *testing.T, function byte, address, length uint32, data []byte) {
		uid := append([]byte{function, 0, 0}, binary.LittleEndian.AppendUint32(nil, address)...)
		uid = append(binary.LittleEndian.AppendUint32(uid, length), data[:min(len(data), 100)]...)
		_, spent, err := h.Admit(ctx, "p", &abi.AdmissionRequest{UID: string(uid)})
		if err != nil && (strings.Contains(err.Error(), "panic") || strings.Contains(err.Error(), "runtime error") || strings.Contains(err.Error(), "host function failed")) {
			t.Fatal(err)
		}
		if spent.Memory > 64<<20 {
			t.Fatalf("the guest has %d bytes", spent.Memory)
		}
		if inside := uint64(address)+uint64(length) <= 3<<16; function&3 < 2 && !inside && err == nil {
			t.Fatalf("function %d read %d bytes at %d", function&3, length, address)
		}
		p.breaker.reset()
	})
}
