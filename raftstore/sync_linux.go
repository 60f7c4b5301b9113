package raftstore

import (
	"os"
	"syscall"
)

// syncData syncs what is needed to read the data back: the size, but not the times.
func syncData(f *os.File) error {
	if broken(ruleSyncBeforeAck) {
		return nil
	}
	for {
		if err := syscall.Fdatasync(int(f.Fd())); err != syscall.EINTR {
			return err
		}
	}
}

// allocate makes the file longer by zeros that take their room on the disk already: what is written
// there afterwards changes no metadata, which halves the time of a sync.
func allocate(f *os.File, from, to int64) error {
	for {
		if err := syscall.Fallocate(int(f.Fd()), 0, from, to-from); err != syscall.EINTR {
			return err
		}
	}
}
