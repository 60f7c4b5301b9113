package policies

import (
	"sync/atomic"
	"time"
)

const (
	breakAfter   = 5                // failures in a row
	firstPause   = 10 * time.Second // doubled each time that the trial fails
	longestPause = 5 * time.Minute
)

// breaker keeps a policy that fails again and again from being asked. Closed: calls go through. Open: none does, until
// its pause is over. Then one call is the trial: the breaker closes if that succeeds, and opens for longer otherwise.
// While it is closed a call costs it one atomic load, and a success another.
type breaker struct {
	failures atomic.Int32
	until    atomic.Int64           // Unix nanoseconds; 0: closed
	pause    atomic.Int64           // the present one's length
	trial    atomic.Bool            // under way
	last     atomic.Pointer[string] // why it is open
}

// allow tells whether a call may go on. Each call that may reports back: succeeded, failed or abandoned.
func (b *breaker) allow(c Clock) bool {
	until := b.until.Load()
	if until == 0 {
		return true
	}
	return c.Now().UnixNano() >= until && b.trial.CompareAndSwap(false, true)
}

func (b *breaker) open() bool { return b.until.Load() != 0 }

func (b *breaker) succeeded() {
	if b.failures.Load() != 0 {
		b.reset()
	}
}

// failed counts a failure and tells whether it opened the breaker.
func (b *breaker) failed(c Clock, err error) bool {
	n := b.failures.Add(1)
	if b.until.Load() != 0 && !b.trial.Load() || n < breakAfter {
		return false // it is open already: this call began before that
	}
	pause := min(max(2*time.Duration(b.pause.Load()), firstPause), longestPause)
	why := err.Error()
	b.last.Store(&why)
	b.pause.Store(int64(pause))
	b.until.Store(c.Now().Add(pause).UnixNano())
	b.trial.Store(false)
	return true
}

// abandoned reports a call that tells nothing about the policy: its caller gave up.
func (b *breaker) abandoned() { b.trial.Store(false) }

func (b *breaker) reset() {
	b.until.Store(0)
	b.failures.Store(0)
	b.pause.Store(0)
	b.trial.Store(false)
}
