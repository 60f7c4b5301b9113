package cpus

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Set is a set of CPUs, in order. Don't change one: make another.
type Set []int

// Of makes a set of CPUs in any order.
func Of(ids ...int) Set {
	s := slices.Clone(Set(ids))
	slices.Sort(s)
	return slices.Compact(s)
}

// Has says whether a CPU is a member.
func (s Set) Has(id int) bool { _, ok := slices.BinarySearch(s, id); return ok }

// Plus is what is in either set.
func (s Set) Plus(o Set) Set { return Of(slices.Concat(s, o)...) }

// Minus is what is in s and not in o.
func (s Set) Minus(o Set) Set {
	return slices.DeleteFunc(slices.Clone(s), o.Has)
}

// String is the kernel's list format: 0-3,8.
func (s Set) String() string {
	var b strings.Builder
	for i := 0; i < len(s); {
		j := i
		for j+1 < len(s) && s[j+1] == s[j]+1 {
			j++
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(s[i]))
		if j > i {
			b.WriteString("-" + strconv.Itoa(s[j]))
		}
		i = j + 1
	}
	return b.String()
}

// Parse reads the kernel's list format.
func Parse(list string) (Set, error) {
	var ids []int
	if list = strings.TrimSpace(list); list == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		a, err1 := strconv.Atoi(from)
		b, err2 := strconv.Atoi(to)
		if err1 != nil || err2 != nil || a < 0 || b < a || b-a > 1<<16 {
			return nil, fmt.Errorf("cpu list %q: %q is no number or range", list, part)
		}
		for id := a; id <= b; id++ {
			ids = append(ids, id)
		}
	}
	return Of(ids...), nil
}

// MarshalText implements encoding.TextMarshaler, with String's format.
func (s Set) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Set) UnmarshalText(text []byte) (err error) {
	*s, err = Parse(string(text))
	return err
}
