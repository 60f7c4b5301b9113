//go:build unix

package wasm

import (
	"math"

	"golang.org/x/sys/unix"
)

// reserve takes addresses for so many bytes, which become memory when they are touched; nil if there are none.
func reserve(size uint64) []byte {
	if size == 0 || size > math.MaxInt {
		return nil
	}
	b, err := unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return nil // a limit on addresses, or no overcommitting: Go's heap does
	}
	return b
}

// discard gives back the memory, and not the addresses.
func discard(b []byte) {
	if b != nil {
		_ = unix.Madvise(b, unix.MADV_DONTNEED)
	}
}

func unreserve(b []byte) {
	if b != nil {
		_ = unix.Munmap(b)
	}
}
