package topology

import "math/bits"

// Choose picks size of the available GPUs, the required ones among them, so that the sum of the link scores
// of their pairs is the greatest there is. Of sets with equal sums it takes one that leaves the greatest sum
// to the GPUs that remain, so that the next to come finds good links too. The same question has always the
// same answer. It returns false where no such set exists.
//
// It never settles for less than trying every set would find: branches are left out only when a bound on
// what they can reach says that they can't be better than what is found already.
func (m *Matrix) Choose(available, required Set, size int) (Set, bool) {
	available &= All(m.n)
	if size < required.Len() || size > available.Len() || required&^available != 0 {
		return 0, false
	}
	if size == available.Len() {
		return available, true
	}
	if size == required.Len() {
		return required, true
	}
	s := search{}
	take, leave := size-required.Len(), available.Len()-size
	if take <= leave {
		s.taking(m, available, required)
	} else {
		s.leaving(m, available, required)
		take = leave
	}
	s.bounds()
	s.greedy(take)
	s.extend(0, take, 0, &s.gain0, 0)
	found := Set(0)
	for rest := s.best; rest != 0; rest &= rest - 1 {
		found |= 1 << s.index[bits.TrailingZeros32(uint32(rest))]
	}
	if s.left {
		return available &^ found, true
	}
	return required | found, true
}

// search is branch and bound over the candidates, numbered 0..n-1. The value of a set of them is the sum of
// its members' gains and of its pairs; what those are depends on whether the set is taken or left.
type search struct {
	n     int
	index [MaxGPUs]int // of a candidate in the matrix
	pair  [MaxGPUs][MaxGPUs]int64
	gain0 [MaxGPUs]int64          // what a candidate adds to nothing
	half  [MaxGPUs][MaxGPUs]int64 // half the sum of a candidate's so many greatest pairs
	left  bool                    // the set is what remains, not what is chosen
	value int64                   // of the best so far
	best  Set                     // candidates, not indexes
}

// first outweighs any second part: 16 GPUs with a full row of the greatest scores there are.
const first = 1 << 24

// taking looks for the set S that is chosen beside the required. Its value is
//
//	first·Σ pairs − Σ members' links to all that is available
//
// whose second part ranks equal sums: what remains is worth all − Σ links of the chosen + their pairs.
func (s *search) taking(m *Matrix, available, required Set) {
	s.candidates(m, available&^required, first)
	for i := range s.n {
		at := s.index[i]
		s.gain0[i] = first*m.links(at, required) - m.links(at, available)
	}
}

// leaving looks for the set R that remains, which is the smaller one. What is chosen is then worth
// all − Σ links of R + pairs of R, and what remains the pairs of R, so that the value is
//
//	(first + 1)·Σ pairs − first·Σ members' links to all that is available
func (s *search) leaving(m *Matrix, available, required Set) {
	s.left = true
	s.candidates(m, available&^required, first+2) // even, for the halves; the ranks are the same
	for i := range s.n {
		s.gain0[i] = -first * m.links(s.index[i], available)
	}
}

func (s *search) candidates(m *Matrix, set Set, weight int64) {
	for _, i := range set.Indexes() {
		s.index[s.n] = i
		s.n++
	}
	for a := range s.n {
		for b := range s.n {
			s.pair[a][b] = weight * m.score[s.index[a]][s.index[b]]
		}
	}
}

// links is the sum of the scores from one GPU to a set.
func (m *Matrix) links(i int, set Set) int64 {
	total := int64(0)
	for j := range m.n {
		if set.Has(j) {
			total += m.score[i][j]
		}
	}
	return total
}

// bounds prepares half: pairs are counted from both ends, so that no set's pairs are worth more than the sum
// of its members' halves.
func (s *search) bounds() {
	for i := range s.n {
		var row [MaxGPUs]int64
		k := 0
		for j := range s.n {
			if j == i {
				continue
			}
			at := k
			for at > 0 && row[at-1] < s.pair[i][j] {
				row[at] = row[at-1]
				at--
			}
			row[at] = s.pair[i][j]
			k++
		}
		for j := 1; j < s.n; j++ {
			s.half[i][j] = s.half[i][j-1] + row[j-1]/2
		}
	}
}

// greedy finds a first set to measure others by: the best start with each candidate, grown by what gains most.
func (s *search) greedy(need int) {
	s.value = -1 << 62
	for start := range s.n {
		gain, set, value := s.gain0, Set(0), int64(0)
		next := start
		for range need {
			value += gain[next]
			set |= 1 << next
			top := int64(-1 << 62)
			row, following := &s.pair[next], 0
			for j := range s.n {
				gain[j] += row[j]
				if gain[j] > top && !set.Has(j) {
					top, following = gain[j], j
				}
			}
			next = following
		}
		if value > s.value {
			s.value, s.best = value, set
		}
	}
}

// extend tries every way to add need candidates from number from on; gain is what each adds to the set.
func (s *search) extend(from, need int, value int64, gain *[MaxGPUs]int64, set Set) {
	switch need {
	case 1:
		for j := from; j < s.n; j++ {
			if value+gain[j] > s.value {
				s.value, s.best = value+gain[j], set|1<<j
			}
		}
		return
	case 2:
		for i := from; i < s.n-1; i++ {
			row, missing := &s.pair[i], s.value-value-gain[i]
			for j := i + 1; j < s.n; j++ {
				if more := gain[j] + row[j]; more > missing {
					missing = more
					s.value, s.best = value+gain[i]+more, set|1<<i|1<<j
				}
			}
		}
		return
	}
	// With one way more than none to go on, going on costs less than the bound.
	if s.n-from-need >= 2 && value+s.reach(from, need, gain) <= s.value {
		return
	}
	var next [MaxGPUs]int64
	for i := from; i <= s.n-need; i++ {
		row := &s.pair[i]
		for j := i + 1; j < s.n; j++ {
			next[j] = gain[j] + row[j]
		}
		s.extend(i+1, need-1, value+gain[i], &next, set|1<<i)
	}
}

// reach is more than any need of the candidates from number from on can add: the need that promise most,
// each with its gain and half of the strongest pairs that it could form.
func (s *search) reach(from, need int, gain *[MaxGPUs]int64) int64 {
	var top [MaxGPUs]int64 // the greatest, in falling order
	k := 0
	for j := from; j < s.n; j++ {
		v := gain[j] + s.half[j][need-1]
		at := k
		if k < need {
			k++
		} else if v <= top[need-1] {
			continue
		} else {
			at--
		}
		for at > 0 && top[at-1] < v {
			top[at] = top[at-1]
			at--
		}
		top[at] = v
	}
	total := int64(0)
	for _, v := range top[:k] {
		total += v
	}
	return total
}
