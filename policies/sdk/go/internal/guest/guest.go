// Package guest is the memory that host and policy share: what the host writes, and the answer that it reads. A module is
// one policy and has one thread, so this is the one place of the SDK that keeps package variables.
package guest

import "unsafe"

// Regions of the node table, by kind.
const regions = 9

var (
	scratch []uint64   // what the messages of a call lie in
	used    int        // of it, in words
	full    [][]uint64 // what was scratch earlier in the call: the host alone refers to it
	over    bool       // the call whose messages these are has returned

	answer []byte
	region [regions][]uint64
)

// Alloc returns room for size bytes, aligned to 8, that lasts as long as the call.
func Alloc(size uint32) unsafe.Pointer {
	if over {
		used, over = 0, false
	}
	words := max((int(size)+7)/8, 1)
	if words > len(scratch)-used {
		full = append(full, scratch)
		scratch, used = make([]uint64, max(words, 2*len(scratch), 512)), 0
	}
	p := unsafe.Pointer(&scratch[used])
	used += words
	return p
}

// At is the place that a number of the host's means. It goes through memory, since the compiler can't know where the
// host's numbers lead: what lies there is kept alive here.
func At(address uint32) unsafe.Pointer {
	var p unsafe.Pointer
	*(*uintptr)(unsafe.Pointer(&p)) = uintptr(address)
	return p
}

// Message is what the host wrote.
func Message(at unsafe.Pointer, n uint32) []byte {
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(at), n)
}

// Answer ends a call: write appends its answer to an empty buffer that is used again and again.
func Answer(write func(to []byte) []byte) uint64 {
	answer = write(answer[:0])
	Done()
	if len(answer) == 0 {
		return 0
	}
	return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(answer))))<<32 | uint64(len(answer))
}

// Done ends a call: its messages' room is the next one's.
func Done() {
	over = true
	clear(full)
	full = full[:0]
}

// Region returns room for size bytes, aligned to 8, that is the host's until it asks for the same kind again; nil for a
// kind that there isn't.
func Region(kind, size uint32) unsafe.Pointer {
	if kind >= regions {
		return nil
	}
	if words := (int(size) + 7) / 8; words > len(region[kind]) || region[kind] == nil {
		r := make([]uint64, max(words, 8, len(region[kind])*3/2)+7)
		if kind == 1 { // records: a pair of amounts shares a line of the cache
			r = r[(8-uintptr(unsafe.Pointer(&r[0])))&56/8:]
		}
		region[kind] = r
	}
	return unsafe.Pointer(unsafe.SliceData(region[kind]))
}

// Header is the node table's first region; nil before the host asked for it.
func Header() unsafe.Pointer {
	if len(region[0]) < 8 {
		return nil
	}
	return unsafe.Pointer(unsafe.SliceData(region[0]))
}
