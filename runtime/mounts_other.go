//go:build !linux

package runtime

import "errors"

func mountTmpfs(string, int64) error { return errors.New("tmpfs needs Linux") }

func unmountBelow(string) error { return nil }

func diskSpace(string) (total, free int64, err error) { return 0, 0, errors.ErrUnsupported }
