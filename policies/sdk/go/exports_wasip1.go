package pintle

import (
	"unsafe"

	"github.com/pintle/pintle/policies/sdk/go/internal/guest"
)

//go:wasmexport pintle_abi
func exportABI() uint32 { return 1<<16 | 1 }

//go:wasmexport pintle_alloc
func exportAlloc(size uint32) unsafe.Pointer { return guest.Alloc(size) }

//go:wasmexport pintle_configure
func exportConfigure(at unsafe.Pointer, n uint32) uint64 {
	return guest.Answer(func(to []byte) []byte { return answerSettings(guest.Message(at, n), to) })
}

//go:wasmimport pintle intern
func hostIntern(at unsafe.Pointer, n uint32) uint32

//go:wasmimport pintle log
func hostLog(level uint32, at unsafe.Pointer, n uint32)

//go:wasmimport pintle now_ms
func hostNow() int64

//go:wasmimport pintle lookup
func hostLookup(at unsafe.Pointer, n uint32) uint64

func intern(s string) uint32 { return hostIntern(unsafe.Pointer(unsafe.StringData(s)), uint32(len(s))) }

func logLine(l Level, s string) {
	hostLog(uint32(l), unsafe.Pointer(unsafe.StringData(s)), uint32(len(s)))
}

func nowMs() int64 { return hostNow() }

func lookup(path string) []byte {
	at := hostLookup(unsafe.Pointer(unsafe.StringData(path)), uint32(len(path)))
	if at == 0 {
		return nil
	}
	return guest.Message(guest.At(uint32(at>>32)), uint32(at))
}
