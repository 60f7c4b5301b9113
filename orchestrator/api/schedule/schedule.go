// Package schedule reads the schedules of CronJobs. It is pure: it looks at no clock and at no time zone of the machine.
package schedule

import (
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // zones are known on machines without a database of them, too

	"github.com/robfig/cron/v3"
)

// Schedule says when something is due. It never changes and may be used from any goroutine.
type Schedule struct {
	spec  cron.Schedule
	every time.Duration // of @every; 0: the schedule is of times of day
	zone  *time.Location
}

// Parse reads a schedule as Kubernetes takes it: five fields, a name (@hourly), or "@every 90s". Times of day are those of
// the time zone of that name; "" is UTC. Errors say what is wrong, in words for a person.
func Parse(text, zone string) (s Schedule, err error) {
	if strings.Contains(text, "TZ") {
		return s, fmt.Errorf("a schedule names no time zone: %q", text)
	}
	if s.zone, err = Location(zone); err != nil {
		return s, err
	}
	if s.spec, err = cron.ParseStandard(text); err != nil {
		return s, err
	}
	if every, ok := s.spec.(cron.ConstantDelaySchedule); ok {
		s.every = every.Delay
	}
	return s, nil
}

// Location is the time zone of an IANA name; "" is UTC. "Local" is no name: it is another zone on each machine.
func Location(name string) (*time.Location, error) {
	if strings.EqualFold(name, "Local") {
		return nil, fmt.Errorf("unknown time zone %s", name)
	}
	return time.LoadLocation(name)
}

// After is the first time after t at which something is due, counted from the time from where the schedule is "@every"; false
// when there is none within five years, as of the 31st of February.
func (s Schedule) After(t, from time.Time) (time.Time, bool) {
	if s.every > 0 {
		from = from.Truncate(time.Second)
		return from.Add((max(0, t.Sub(from))/s.every + 1) * s.every), true
	}
	next := s.spec.Next(t.In(s.zone))
	return next, !next.IsZero()
}

// Latest is the last due time after from and not after to, and how many there were, counted no further than limit+1. False:
// there was none.
//
// It takes few steps however long the time between: it counts from the start as far as limit, and then looks for the last
// one from the end.
func (s Schedule) Latest(from, to time.Time, limit int) (last time.Time, missed int, ok bool) {
	if s.every > 0 {
		n := to.Sub(from.Truncate(time.Second)) / s.every
		if n <= 0 {
			return last, 0, false
		}
		return from.Truncate(time.Second).Add(n * s.every), int(min(n, time.Duration(limit+1))), true
	}
	for t := from; missed <= limit; missed++ {
		next, due := s.After(t, t)
		if !due || next.After(to) {
			return last, missed, missed > 0
		}
		t, last = next, next
	}
	// Far behind: look back twice as far each time, until something is due in what is new.
	for back := time.Minute; ; back *= 2 {
		start := to.Add(-back)
		if !start.After(last) {
			start = last
		}
		found := false
		for next, due := s.After(start, start); due && !next.After(to); next, due = s.After(next, next) {
			last, found = next, true
		}
		if found || start.Equal(last) {
			return last, missed, true
		}
	}
}
