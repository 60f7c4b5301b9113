//go:build !linux

package runtime

import "errors"

func mountTmpfs(string, int64) error { return errors.New("tmpfs needs Linux") }

func makeShared(string) error { return errors.New("sharing mounts needs Linux") }

func filesystem(string) (total, free, inodes, inodesFree int64, err error) {
	return 0, 0, 0, 0, errors.ErrUnsupported
}

func unmountBelow(string) error { return nil }

func diskSpace(string) (total, free int64, err error) { return 0, 0, errors.ErrUnsupported }
