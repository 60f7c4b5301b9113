package topology

import "math/bits"

// Set is a set of GPUs of one machine, by index.
type Set uint32

// SetOf makes a set. An index outside 0..31 is no member.
func SetOf(indexes ...int) Set {
	var s Set
	for _, i := range indexes {
		if i >= 0 && i < 32 {
			s |= 1 << i
		}
	}
	return s
}

// All is the set 0..n-1.
func All(n int) Set { return Set(1)<<max(0, min(n, 31)) - 1 }

// Has says whether i is a member.
func (s Set) Has(i int) bool { return s>>i&1 == 1 }

// Len is the number of members.
func (s Set) Len() int { return bits.OnesCount32(uint32(s)) }

// Indexes lists the members in order.
func (s Set) Indexes() []int {
	out := make([]int, 0, s.Len())
	for ; s != 0; s &= s - 1 {
		out = append(out, bits.TrailingZeros32(uint32(s)))
	}
	return out
}
