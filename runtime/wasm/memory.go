package wasm

import (
	"sync/atomic"

	"github.com/tetratelabs/wazero/experimental"
)

// boundedMemory is a guest's linear memory. It refuses to grow past its limit, which the guest sees
// as a failed memory.grow, and remembers that it did. It lies outside Go's heap where the system lets it: then addresses are
// reserved once, growth copies nothing, only what the guest has touched is resident, and no collector doubles it.
type boundedMemory struct {
	limit    atomic.Uint64 // bytes; 0: the module's own
	size     atomic.Uint64
	refused  atomic.Bool
	buf      []byte
	reserved []byte // what buf is the beginning of; nil: buf is of Go's heap
}

// Allocate implements experimental.MemoryAllocator.
func (m *boundedMemory) Allocate(_, most uint64) experimental.LinearMemory {
	m.reserved = reserve(most)
	return m
}

// Reallocate implements experimental.LinearMemory.
func (m *boundedMemory) Reallocate(size uint64) []byte {
	limit := m.limit.Load()
	if limit > 0 && size > limit {
		m.refused.Store(true)
		return nil
	}
	switch {
	case size <= uint64(len(m.reserved)):
		m.buf = m.reserved[:size]
	case size > uint64(cap(m.buf)):
		room := size + size/8 // growth by steps of a page would copy each time
		if limit > 0 {
			room = min(room, max(limit, size))
		}
		next := make([]byte, size, room)
		copy(next, m.buf)
		m.buf = next
	default:
		m.buf = m.buf[:size]
	}
	m.size.Store(size)
	return m.buf
}

// Free implements experimental.LinearMemory. The addresses stay valid until release: Free may come while a call of the guest's
// has yet to return.
func (m *boundedMemory) Free() {
	discard(m.reserved)
	m.buf = nil
	m.size.Store(0)
}

// release gives the addresses back. Nothing of the guest may run any more.
func (m *boundedMemory) release() {
	unreserve(m.reserved)
	m.buf, m.reserved = nil, nil
}
