package postfilter

import (
	"unsafe"

	"github.com/pintle/pintle/policies/sdk/go/internal/guest"
)

//go:wasmexport pintle_post_filter
func exportPostFilter(at unsafe.Pointer, n uint32) uint64 {
	return guest.Answer(func(to []byte) []byte { return answer(guest.Message(at, n), to) })
}
