package guest

import "github.com/tetratelabs/wazero/experimental"

// linearMemory is a guest's memory. It refuses to grow past its limit, which the guest sees as memory.grow
// returning -1.
type linearMemory struct {
	bytes  []byte
	limit  uint64
	denied bool // something was refused during the current call
}

var _ experimental.LinearMemory = (*linearMemory)(nil)

// Allocate makes linearMemory the allocator of just itself.
func (m *linearMemory) Allocate(_, _ uint64) experimental.LinearMemory { return m }

// Reallocate grows the memory. Room is made for an eighth more, so that a guest which grows page by page copies a bounded
// multiple of what it has in the end; an instance that idles holds at most that much, or 256 KiB, for nothing.
func (m *linearMemory) Reallocate(size uint64) []byte {
	if size > m.limit {
		m.denied = true
		return nil
	}
	if size <= uint64(cap(m.bytes)) {
		m.bytes = m.bytes[:size]
		return m.bytes
	}
	room := size
	if len(m.bytes) > 0 {
		room = min(m.limit, max(size, uint64(len(m.bytes))+max(uint64(len(m.bytes))/8, 256<<10)))
	}
	grown := make([]byte, size, room)
	copy(grown, m.bytes)
	m.bytes = grown
	return grown
}

func (m *linearMemory) Free() { m.bytes = nil }
