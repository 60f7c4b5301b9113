//go:build unix

package fsgroup

import (
	"io/fs"
	"syscall"
)

func group(i fs.FileInfo) (int64, bool) {
	st, ok := i.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int64(st.Gid), true
}
