//go:build unix

package csi

import (
	"fmt"
	"io/fs"
	"syscall"
)

// identity tells a socket from another that comes in its place.
func identity(i fs.FileInfo) string {
	if st, ok := i.Sys().(*syscall.Stat_t); ok {
		return fmt.Sprintf("%d/%d/%d", st.Dev, st.Ino, i.ModTime().UnixNano())
	}
	return fmt.Sprint(i.ModTime().UnixNano())
}
