package standby

import "time"

// use is what one node knows of a Service that may be scaled to zero.
type use struct {
	active int       // connections and requests that are open, those that wait among them
	held   int       // those that wait for an endpoint
	last   time.Time // when one was open last

	told     time.Time // when the Lease was written last; zero: never
	toldLast time.Time // the use that it says
	toldHeld int
}

// How often a Lease is written.
const (
	fastest = time.Second      // and no faster, whatever happens
	renewed = 10 * time.Second // while something waits
	slowest = 30 * time.Second // while the Service is used
)

// interval is how often use is told: a quarter of the time after which the Service is idle.
func interval(after time.Duration) time.Duration { return min(max(after/4, fastest), slowest) }

// due says whether the Lease is to be written now, and else when to look again; zero: when something changes.
func (u *use) due(after time.Duration, now time.Time) (bool, time.Time) {
	at := time.Time{}
	switch {
	case u.held > 0 && u.toldHeld == 0, u.held == 0 && u.toldHeld > 0:
		at = u.told.Add(fastest)
	case u.held > 0:
		at = u.told.Add(renewed)
	case u.active > 0 || u.last.After(u.toldLast):
		at = u.told.Add(interval(after))
	default:
		return false, time.Time{}
	}
	return !now.Before(at), at
}

// admit says whether one more may wait, where so many do of the Service and of all.
func admit(held, all int, cfg *Config) bool { return held < cfg.MaxHeld && all < cfg.MaxHeldTogether }
