package opa

import (
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"time"
	_ "time/tzdata" // zones must be the same on every replica, whatever its machine holds
)

func timeBuiltins() map[string]builtin {
	return map[string]builtin{
		"time.now_ns":            arity(0, func(c *evaluation, _ []term) (term, error) { return number(c.now()), nil }),
		"time.parse_ns":          ofStrings(2, func(s []string) (term, error) { return parseTime(layout(s[0]), s[1]) }),
		"time.parse_rfc3339_ns":  ofStrings(1, func(s []string) (term, error) { return parseTime(time.RFC3339, s[0]) }),
		"time.parse_duration_ns": ofStrings(1, parseDuration),
		"time.format": arity(1, ofTime(func(t time.Time, form string) term {
			if form == "" {
				form = time.RFC3339Nano
			}
			return t.Format(layout(form))
		})),
		"time.date": arity(1, ofTime(func(t time.Time, _ string) term {
			y, m, d := t.Date()
			return ints(y, int(m), d)
		})),
		"time.clock": arity(1, ofTime(func(t time.Time, _ string) term {
			h, m, s := t.Clock()
			return ints(h, m, s)
		})),
		"time.weekday":  arity(1, ofTime(func(t time.Time, _ string) term { return t.Weekday().String() })),
		"time.add_date": arity(4, addDate),
		"time.diff":     arity(2, diff),
	}
}

func ints(list ...int) array {
	out := make(array, len(list))
	for i, n := range list {
		out[i] = number(int64(n))
	}
	return out
}

// layout is a name that Go gives to a layout, or the layout itself.
func layout(s string) string {
	switch s {
	case "ANSIC":
		return time.ANSIC
	case "UnixDate":
		return time.UnixDate
	case "RubyDate":
		return time.RubyDate
	case "RFC822":
		return time.RFC822
	case "RFC822Z":
		return time.RFC822Z
	case "RFC850":
		return time.RFC850
	case "RFC1123":
		return time.RFC1123
	case "RFC1123Z":
		return time.RFC1123Z
	case "RFC3339":
		return time.RFC3339
	case "RFC3339Nano":
		return time.RFC3339Nano
	}
	return s
}

func parseTime(layout, s string) (term, error) {
	t, err := time.Parse(layout, s)
	if err != nil {
		return nil, err
	}
	return nanoseconds(t)
}

func nanoseconds(t time.Time) (term, error) {
	if t.Before(time.Unix(0, math.MinInt64)) || t.After(time.Unix(0, math.MaxInt64)) {
		return nil, errors.New("time outside of valid range")
	}
	return number(t.UnixNano()), nil
}

func parseDuration(s []string) (term, error) {
	d, err := time.ParseDuration(s[0])
	return number(int64(d)), err
}

func ofTime(f func(t time.Time, layout string) term) builtin {
	return func(_ *evaluation, args []term) (term, error) {
		t, layout, err := instant(args[0])
		if err != nil {
			return nil, err
		}
		return f(t, layout), nil
	}
}

// instant reads ns, [ns, zone] or [ns, zone, layout].
func instant(t term) (at time.Time, layout string, err error) {
	zone := time.UTC
	if list, ok := t.(array); ok {
		if len(list) == 0 {
			return at, "", errors.New("operand 1 must be ns or [ns, zone]")
		}
		t = list[0]
		if len(list) > 1 {
			name, err := operand[string](list, 1)
			if err != nil {
				return at, "", err
			}
			if name == "Local" {
				name = "UTC" // every replica's is the same
			}
			if zone, err = time.LoadLocation(name); err != nil {
				return at, "", err
			}
		}
		if len(list) > 2 {
			if layout, err = operand[string](list, 2); err != nil {
				return at, "", err
			}
		}
	}
	n, err := operand[json.Number]([]term{t}, 0)
	if err != nil {
		return at, "", err
	}
	ns, exact := float(n).Int64()
	if exact != big.Exact {
		return at, "", errors.New("timestamp too big")
	}
	return time.Unix(0, ns).In(zone), layout, nil
}

func addDate(_ *evaluation, args []term) (term, error) {
	t, _, err := instant(args[0])
	if err != nil {
		return nil, err
	}
	var by [3]int
	for i := range by {
		if by[i], err = intOperand(args, i+1); err != nil {
			return nil, err
		}
	}
	return nanoseconds(t.AddDate(by[0], by[1], by[2]))
}

// diff is the difference as a calendar counts it: years, months, days, hours, minutes, seconds. Where the later
// time of day or day of month is smaller, one is borrowed of the next unit; a month lends the days that the
// earlier time's month has.
func diff(_ *evaluation, args []term) (term, error) {
	from, _, err := instant(args[0])
	if err != nil {
		return nil, err
	}
	to, _, err := instant(args[1])
	if err != nil {
		return nil, err
	}
	if to = to.In(from.Location()); from.After(to) {
		from, to = to, from
	}
	month := time.Date(from.Year(), from.Month()+1, 0, 0, 0, 0, 0, time.UTC).Day()
	units := [...]struct{ a, b, base int }{
		{from.Second(), to.Second(), 60},
		{from.Minute(), to.Minute(), 60},
		{from.Hour(), to.Hour(), 24},
		{from.Day(), to.Day(), month},
		{int(from.Month()), int(to.Month()), 12},
		{from.Year(), to.Year(), 0},
	}
	out, borrowed := make([]int, len(units)), 0
	for i, u := range units {
		d := u.b - u.a - borrowed
		if borrowed = 0; d < 0 {
			d, borrowed = d+u.base, 1
		}
		out[len(units)-1-i] = d
	}
	return ints(out...), nil
}
