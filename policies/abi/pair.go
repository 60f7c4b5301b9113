package abi

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// Pair is a label, an annotation, or another string under a key.
type Pair struct{ Key, Value string }

// Pairs is m as a list, sorted by key.
func Pairs(m map[string]string) []Pair {
	if len(m) == 0 {
		return nil
	}
	ps := make([]Pair, 0, len(m))
	for k, v := range m {
		ps = append(ps, Pair{k, v})
	}
	slices.SortFunc(ps, func(a, b Pair) int { return strings.Compare(a.Key, b.Key) })
	return ps
}

// Append writes p to the end of b.
func (p *Pair) Append(b []byte) []byte { return putString(putString(b, 1, p.Key), 2, p.Value) }

// Decode reads p from b.
func (p *Pair) Decode(b []byte) error {
	return eachField(b, func(f *field) error {
		switch {
		case f.is(1, data):
			return f.str(&p.Key)
		case f.is(2, data):
			return f.str(&p.Value)
		}
		return nil
	})
}

func putPairs(b []byte, num protowire.Number, ps []Pair) []byte {
	for i := range ps {
		var at int
		b, at = begin(b, num)
		b = end(ps[i].Append(b), at)
	}
	return b
}
