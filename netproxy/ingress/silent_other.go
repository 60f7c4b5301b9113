//go:build !linux

package ingress

import "syscall"

// limitSilence leaves it to the read deadline elsewhere.
func limitSilence(_, _ string, _ syscall.RawConn) error { return nil }
