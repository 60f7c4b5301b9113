package api

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Interval is the indexes from First to Last, both among them.
type Interval struct{ First, Last int }

// Indexes is a set of completion indexes of a Job, as intervals in increasing order that neither overlap nor touch. The
// zero Indexes is empty. Its methods leave it as it is, and may be called from any goroutine.
type Indexes []Interval

// ParseIndexes reads what Job statuses and success policies say: "1,3-5,7", each index below limit, in increasing order.
// "" is the empty set.
func ParseIndexes(text string, limit int) (Indexes, error) {
	var out Indexes
	if text == "" {
		return out, nil
	}
	previous := -1
	for part := range strings.SplitSeq(text, ",") {
		from, to, isRange := strings.Cut(part, "-")
		first, err := strconv.Atoi(from)
		if err != nil {
			return nil, fmt.Errorf("cannot convert string to integer for index: %q", from)
		}
		last := first
		if isRange {
			if last, err = strconv.Atoi(to); err != nil {
				return nil, fmt.Errorf("cannot convert string to integer for index: %q", to)
			}
			if last <= first {
				return nil, fmt.Errorf("non-increasing order, previous: %d, current: %d", first, last)
			}
		}
		if first <= previous || first < 0 {
			return nil, fmt.Errorf("non-increasing order, previous: %d, current: %d", previous, first)
		}
		if last >= limit {
			return nil, fmt.Errorf("too large index: %q", strconv.Itoa(last))
		}
		out = out.with(Interval{first, last})
		previous = last
	}
	return out, nil
}

// with appends an interval that begins after all there are.
func (s Indexes) with(i Interval) Indexes {
	if n := len(s); n > 0 && s[n-1].Last+1 == i.First {
		s[n-1].Last = i.Last
		return s
	}
	return append(s, i)
}

// Has says whether the index is in the set.
func (s Indexes) Has(index int) bool {
	_, found := slices.BinarySearchFunc(s, index, func(i Interval, index int) int {
		switch {
		case i.Last < index:
			return -1
		case i.First > index:
			return 1
		}
		return 0
	})
	return found
}

// Len is how many indexes there are.
func (s Indexes) Len() (n int) {
	for _, i := range s {
		n += i.Last - i.First + 1
	}
	return n
}

// Union is this set and more indexes, which may come in any order and more than once.
func (s Indexes) Union(more ...int) Indexes {
	all := slices.Clone(s)
	for _, index := range more {
		all = append(all, Interval{index, index})
	}
	slices.SortFunc(all, func(a, b Interval) int { return a.First - b.First })
	var out Indexes
	for _, i := range all {
		if n := len(out); n > 0 && i.First <= out[n-1].Last+1 {
			out[n-1].Last = max(out[n-1].Last, i.Last)
			continue
		}
		out = append(out, i)
	}
	return out
}

// Common is how many indexes two sets have in common.
func (s Indexes) Common(other Indexes) (n int) {
	for a, b := 0, 0; a < len(s) && b < len(other); {
		n += max(0, min(s[a].Last, other[b].Last)-max(s[a].First, other[b].First)+1)
		if s[a].Last < other[b].Last {
			a++
		} else {
			b++
		}
	}
	return n
}

// Below is those of the set that are less than limit.
func (s Indexes) Below(limit int) (out Indexes) {
	for _, i := range s {
		if i.First < limit {
			out = append(out, Interval{i.First, min(i.Last, limit-1)})
		}
	}
	return out
}

// String is as ParseIndexes reads it: three and more in a row are written by the first and the last of them.
func (s Indexes) String() string {
	var parts []string
	for _, i := range s {
		switch i.Last - i.First {
		case 0:
			parts = append(parts, strconv.Itoa(i.First))
		case 1:
			parts = append(parts, strconv.Itoa(i.First), strconv.Itoa(i.Last))
		default:
			parts = append(parts, strconv.Itoa(i.First)+"-"+strconv.Itoa(i.Last))
		}
	}
	return strings.Join(parts, ",")
}
