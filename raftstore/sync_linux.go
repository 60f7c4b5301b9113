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
