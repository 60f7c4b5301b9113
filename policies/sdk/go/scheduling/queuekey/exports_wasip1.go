package queuekey

import (
	"unsafe"

	"github.com/pintle/pintle/policies/sdk/go/internal/guest"
)

//go:wasmexport pintle_queue_key
func exportQueueKey(at unsafe.Pointer, n uint32) int64 {
	key := answer(guest.Message(at, n))
	guest.Done()
	return key
}
