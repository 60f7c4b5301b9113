//go:build !linux

package localpath

import "errors"

// DetectQuota returns the quota of the filesystem that holds dir, or nil and why there is none.
func DetectQuota(string) (Quota, string) { return nil, "project quotas need Linux" }

func freeBytes(string) (int64, error) { return 0, errors.ErrUnsupported }
