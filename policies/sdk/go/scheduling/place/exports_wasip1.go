package place

import (
	"unsafe"

	"github.com/pintle/pintle/policies/sdk/go/internal/guest"
)

//go:wasmexport pintle_region
func exportRegion(kind, size uint32) unsafe.Pointer { return guest.Region(kind, size) }

//go:wasmexport pintle_place
func exportPlace(at unsafe.Pointer, n uint32) uint64 {
	header := guest.Header()
	if header == nil {
		panic("pintle: there are no nodes yet")
	}
	return guest.Answer(func(to []byte) []byte { return answer(guest.Message(at, n), header, to) })
}
