package ingress

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// limitSilence has the kernel give up a connection whose peer no longer acknowledges.
func limitSilence(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) {
		// Where it can't be set, a read deadline strikes later.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(silentAfter.Milliseconds()))
	})
}
