package policies

import (
	"slices"
	"sync/atomic"
	"time"
)

// tally counts a policy's calls. Adding takes no lock.
type tally struct {
	calls      atomic.Uint64
	rejections atomic.Uint64
	errors     atomic.Uint64
	fuel       atomic.Uint64
	nanos      atomic.Uint64
	buckets    [len(bounds) + 1]atomic.Uint64
	recent     [1024]atomic.Uint32 // durations of the last calls in units of recentUnit, by call number
}

const recentUnit = 10 * time.Nanosecond

// bounds are the upper ends of the histogram's buckets.
var bounds = [...]time.Duration{
	2 * time.Microsecond, 5 * time.Microsecond, 10 * time.Microsecond, 25 * time.Microsecond, 50 * time.Microsecond,
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond,
	5 * time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond, 250 * time.Millisecond, time.Second,
}

func (t *tally) add(took time.Duration, fuel uint64) {
	n := t.calls.Add(1) - 1
	t.fuel.Add(fuel)
	t.nanos.Add(uint64(max(took, 0)))
	i := 0
	for i < len(bounds) && took > bounds[i] {
		i++
	}
	t.buckets[i].Add(1)
	t.recent[n%uint64(len(t.recent))].Store(uint32(min(max(took/recentUnit, 1), 1<<32-1)))
}

// quantiles are the median and the 99th percentile of recent calls; zero before the first.
func (t *tally) quantiles() (p50, p99 time.Duration) {
	took := make([]uint32, 0, len(t.recent))
	for i := range t.recent {
		if d := t.recent[i].Load(); d != 0 {
			took = append(took, d)
		}
	}
	if len(took) == 0 {
		return 0, 0
	}
	slices.Sort(took)
	at := func(q int) time.Duration { return time.Duration(took[(len(took)-1)*q/100]) * recentUnit }
	return at(50), at(99)
}
