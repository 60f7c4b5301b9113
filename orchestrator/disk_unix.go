//go:build unix

package orchestrator

import "golang.org/x/sys/unix"

// diskSpace is the size of the file system that holds dir, and what is free of it, in bytes.
func diskSpace(dir string) (total, free int64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, err
	}
	return int64(s.Blocks) * int64(s.Bsize), int64(s.Bavail) * int64(s.Bsize), nil
}
