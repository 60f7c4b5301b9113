package queues

import (
	"cmp"
	"maps"
	"slices"
)

// Lent is something that a borrowing queue runs and that can be ended.
type Lent struct {
	Queue   string
	Amounts Amounts
}

// Reclaimable are, by their index, those of the borrowers' units that a queue may have ended to use its own quota: units of
// queues of its cohort that use more than their quota of something it wants, for as long as they do. The units of each queue come
// in the order in which they had better be ended. Queues with larger shares go first.
//
// A unit that can only be ended whole may take its queue below its quota; one that doesn't is taken first.
func (b *Book) Reclaimable(w Want, units []Lent) (out []int) {
	q := b.queues[w.Queue]
	if q == nil || q.Cohort == "" || b.borrows(w) {
		return nil
	}
	wanted := q.limited(w.Amounts)
	byQueue := map[string][]int{}
	for i, u := range units {
		if u.Queue != w.Queue && b.Cohort(u.Queue) == q.Cohort {
			byQueue[u.Queue] = append(byQueue[u.Queue], i)
		}
	}
	names := slices.SortedFunc(maps.Keys(byQueue), func(x, y string) int {
		if c := cmp.Compare(b.Share(y), b.Share(x)); c != 0 {
			return c
		}
		return cmp.Compare(x, y)
	})
	for _, name := range names {
		excess := Amounts{}
		for r, n := range b.Borrowed(name) {
			if wanted[r] > 0 {
				excess[r] = n
			}
		}
		take := func(i int) {
			out = append(out, i)
			excess.Add(units[i].Amounts, -1)
		}
		var larger []int
		for _, i := range byQueue[name] {
			switch part := fits(excess, units[i].Amounts); {
			case part == whole:
				take(i)
			case part == some:
				larger = append(larger, i)
			}
		}
		for _, i := range larger {
			if fits(excess, units[i].Amounts) != none {
				take(i)
			}
		}
	}
	return out
}

type part int

const (
	none  part = iota // it uses nothing of what is lent
	some              // of what is lent, and of the queue's own
	whole             // only what is lent
)

// fits says how a unit stands to what its queue has still borrowed of what is wanted.
func fits(excess, unit Amounts) part {
	out := none
	for r, lent := range excess {
		switch n := unit[r]; {
		case n <= 0 || lent <= 0:
		case n > lent:
			return some
		default:
			out = whole
		}
	}
	return out
}
