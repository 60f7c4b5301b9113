package raftstore

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

// advised adds to an error of the local storage what its reader can do.
func advised(err error) error {
	if err == nil {
		return nil
	}
	if a := advice(err); a != "" {
		return fmt.Errorf("%w (%s)", err, a)
	}
	return err
}

// advice says what to do; "" where the error says it already, or where nobody knows.
func advice(err error) string {
	const then = ", then open the store again: nothing that was acknowledged is lost"
	switch {
	case errors.Is(err, ErrKey), errors.Is(err, ErrNewer), errors.Is(err, ErrCorrupt), errors.Is(err, ErrInvalid):
		return ""
	case errors.Is(err, ErrLocked):
		return "another process, or another Store of this one, has it open: end that one, or use another folder"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "the disk is full: make room" + then
	case errors.Is(err, syscall.EROFS):
		return "the file system is read-only: look in the kernel's log for why, mount it for writing" + then
	case errors.Is(err, fs.ErrPermission):
		return "the folder must belong to this process's user: change its owner or mode" + then
	case errors.Is(err, syscall.EIO):
		return "the disk fails: look in the kernel's log; replace it and restore a backup, or let the member join anew"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "the process has too many files open: raise its limit" + then
	case errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ENOTDIR):
		return "something else stands where a file of the store belongs: move it away, and bring the file back from a copy of the folder, or restore a backup in another"
	}
	return ""
}
