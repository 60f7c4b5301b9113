package schedule

import (
	"testing"
	"time"
)

func utc(text string) time.Time {
	t, err := time.Parse("2006-01-02 15:04:05", text)
	if err != nil {
		panic(err)
	}
	return t
}

func TestSchedulesAreReadAsDocumented(t *testing.T) {
	for name, c := range map[string]struct{ text, zone, from, next string }{
		"as documented":          {"0 3 * * 1", "", "2026-03-04 00:00:00", "2026-03-09 03:00:00"},
		"by name":                {"0 0 * jan SUN", "", "2026-03-04 00:00:00", "2027-01-03 00:00:00"},
		"a day or a weekday":     {"0 0 13 * 5", "", "2026-03-04 00:00:00", "2026-03-06 00:00:00"},
		"@hourly":                {"@hourly", "", "2026-03-04 00:30:00", "2026-03-04 01:00:00"},
		"@every":                 {"@every 90s", "", "2026-03-04 00:00:00", "2026-03-04 00:01:30"},
		"steps":                  {"*/15 9-17 * * *", "", "2026-03-04 09:16:00", "2026-03-04 09:30:00"},
		"in a zone":              {"0 9 * * *", "America/New_York", "2026-03-04 00:00:00", "2026-03-04 14:00:00"},
		"after summer begins":    {"0 9 * * *", "America/New_York", "2026-03-09 00:00:00", "2026-03-09 13:00:00"},
		"never":                  {"0 0 31 2 *", "", "2026-03-04 00:00:00", ""},
		"the last of leap years": {"0 0 29 2 *", "", "2026-03-04 00:00:00", "2028-02-29 00:00:00"},
	} {
		s, err := Parse(c.text, c.zone)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		next, ok := s.After(utc(c.from), utc(c.from))
		if got := next.UTC().Format("2006-01-02 15:04:05"); ok != (c.next != "") || ok && got != c.next {
			t.Errorf("%s: %s", name, got)
		}
	}
	for _, text := range []string{"", "* * * *", "* * * * * *", "60 * * * *", "TZ=UTC * * * * *", "CRON_TZ=UTC * * * * *", "TZ=", "@never", "@every x", "a b c d e", "5-1 * * * *", "*/0 * * * *"} {
		if _, err := Parse(text, ""); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
	for _, zone := range []string{"Mars/Olympus", "local", "Local", "../etc/passwd", "+01:00"} {
		if _, err := Parse("* * * * *", zone); err == nil {
			t.Errorf("zone %q is accepted", zone)
		}
	}
}

// Latest agrees with stepping through all of them, however far behind it is.
func TestLatestIsTheLastOfAll(t *testing.T) {
	from := utc("2026-03-04 07:00:30")
	for _, text := range []string{"* * * * *", "*/7 3-5 * * *", "0 0 1 * *", "* * 5 3 *", "@every 61s", "0 12 * * 1"} {
		s, err := Parse(text, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, span := range []time.Duration{0, 30 * time.Second, time.Hour, 30 * time.Hour, 24 * 40 * time.Hour} {
			to := from.Add(span)
			var want time.Time
			n := 0
			for next, ok := s.After(from, from); ok && !next.After(to); next, ok = s.After(next, from) {
				want, n = next, n+1
			}
			got, missed, ok := s.Latest(from, to, 100)
			if ok != (n > 0) || ok && !got.Equal(want) || missed != min(n, 101) {
				t.Errorf("%s over %v: %v, %d missed, want %v, %d", text, span, got, missed, want, n)
			}
		}
	}
}
