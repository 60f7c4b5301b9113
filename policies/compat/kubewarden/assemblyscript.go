package kubewarden

import (
	"context"
	"encoding/binary"
	"fmt"
	"unicode/utf16"

	"github.com/pintle/pintle/policies/guest"
)

// assemblyScript is what AssemblyScript's runtime imports: it reports an abort, traces, and asks for a seed, which is
// the same everywhere.
func assemblyScript() []guest.HostFunc {
	return []guest.HostFunc{
		{Name: "abort", Params: []guest.ValueType{guest.I32, guest.I32, guest.I32, guest.I32}, Call: abort},
		{
			Name: "trace", Params: []guest.ValueType{guest.I32, guest.I32, guest.F64, guest.F64, guest.F64, guest.F64, guest.F64},
			Call: func(ctx context.Context, in *guest.Instance, s []uint64) error {
				c, ok := in.State.(*conversation)
				if !ok {
					return nil
				}
				return c.host.console(ctx, in, []byte(managedString(in, uint32(s[0]))))
			},
		},
		{
			Name: "seed", Results: []guest.ValueType{guest.F64},
			Call: func(_ context.Context, _ *guest.Instance, s []uint64) error { s[0] = 0x3fe0000000000000; return nil }, // 0.5
		},
	}
}

func abort(_ context.Context, in *guest.Instance, s []uint64) error {
	return &guestError{fmt.Sprintf("it aborted at %s:%d:%d: %s",
		managedString(in, uint32(s[1])), uint32(s[2]), uint32(s[3]), managedString(in, uint32(s[0])))}
}

// managedString reads a string of AssemblyScript's: UTF-16, with its length in bytes before it. What lies elsewhere is
// empty, and what is long is cut.
func managedString(in *guest.Instance, ptr uint32) string {
	if ptr < 4 {
		return ""
	}
	head, err := in.Read(ptr-4, 4)
	if err != nil {
		return ""
	}
	b, err := in.Read(ptr, min(binary.LittleEndian.Uint32(head), 2<<10)&^1)
	if err != nil {
		return ""
	}
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return string(utf16.Decode(units))
}
