package ingress

import (
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// A machine that lost its power or its cable refuses nothing: it says nothing. Its pods are endpoints until its lease
// expires. The kernel finds out on every connection, and the endpoint is then asked last for a while.
const (
	// silentAfter is how long an endpoint's kernel may leave a packet, or a probe of a connection at rest,
	// unacknowledged. A program may think as long as it likes: its kernel answers for it.
	silentAfter = 5 * time.Second
	// avoidFor is how long a silent endpoint is passed over while others are there. Then one request tries it.
	avoidFor = 5 * time.Second
)

func endpointDialer() *net.Dialer {
	return &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 2 * time.Second, Interval: time.Second, Count: 3},
		Control:         limitSilence,
	}
}

// silence is an endpoint's: until when it is asked last, in Unix nanoseconds; 0: it answers.
type silence struct{ until atomic.Int64 }

func (s *silence) note(err error) {
	if isSilent(err) {
		s.until.Store(time.Now().Add(avoidFor).UnixNano())
	}
}

func (s *silence) broken() {
	if s.until.Load() != 0 {
		s.until.Store(0)
	}
}

// avoid says whether the endpoint is to be passed over. When its time is over, it says so to everybody but one.
func (s *silence) avoid() bool {
	until := s.until.Load()
	if until == 0 {
		return false
	}
	now := time.Now()
	return now.UnixNano() < until || !s.until.CompareAndSwap(until, now.Add(avoidFor).UnixNano())
}

// isSilent says whether err means that nobody is there, rather than that somebody refused or was slow.
func isSilent(err error) bool {
	var d *dialError
	if errors.As(err, &d) && isTimeout(d.err) {
		return true
	}
	return errors.Is(err, syscall.ETIMEDOUT) || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH)
}
