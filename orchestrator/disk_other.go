//go:build !unix

package orchestrator

import "errors"

func diskSpace(string) (total, free int64, err error) { return 0, 0, errors.ErrUnsupported }
