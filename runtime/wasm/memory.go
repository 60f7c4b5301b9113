package wasm

import (
	"sync/atomic"

	"github.com/tetratelabs/wazero/experimental"
)

// boundedMemory is a guest's linear memory. It refuses to grow past its limit, which the guest sees
// as a failed memory.grow, and remembers that it did.
type boundedMemory struct {
	limit   uint64 // bytes; 0: the module's own
	size    atomic.Uint64
	refused atomic.Bool
	buf     []byte
}

// Allocate implements experimental.MemoryAllocator.
func (m *boundedMemory) Allocate(_, _ uint64) experimental.LinearMemory { return m }

// Reallocate implements experimental.LinearMemory.
func (m *boundedMemory) Reallocate(size uint64) []byte {
	if m.limit > 0 && size > m.limit {
		m.refused.Store(true)
		return nil
	}
	if size > uint64(cap(m.buf)) {
		room := size + size/8 // growth by steps of a page would copy each time
		if m.limit > 0 {
			room = min(room, max(m.limit, size))
		}
		next := make([]byte, size, room)
		copy(next, m.buf)
		m.buf = next
	} else {
		m.buf = m.buf[:size]
	}
	m.size.Store(size)
	return m.buf
}

// Free implements experimental.LinearMemory.
func (m *boundedMemory) Free() {
	m.buf = nil
	m.size.Store(0)
}
