package scheduler

import (
	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

// view is what the Local plugins say of every node to the pods of one shape.
type view struct {
	others []int // the profile's plugins that must be asked for every pod, by index
	used   uint64

	local  []framework.Prepared
	from   framework.Cursor
	ok     []bool
	base   []int64  // the sum of the scores that need no scaling
	scaled []scaled // the others

	// winnable says that tree holds the winner among the ok rows by total, then the fewest pods, then the name. tree[1] is the
	// best of all, -1 if there is none; the leaves are its second half.
	winnable bool
	total    []int64
	tree     []int32
	state    *framework.State

	touched []int32 // update's, between calls
	marks   []bool
}

// scaled is one plugin's scores before scaling, and how many ok rows have each.
type scaled struct {
	prepared    *framework.Prepared
	raw         []int64
	rows        map[int64]int
	least, most int64
}

func (s *scaled) add(rows []int32, scores, totals []int64) {
	if len(s.rows) <= 1 {
		return // the same everywhere decides nothing
	}
	for i, row := range rows {
		scores[i] = s.raw[row]
	}
	scale(s.prepared, scores)
	for i := range totals {
		totals[i] += scores[i] * s.prepared.Weight
	}
}

// newView makes the view of a pod's shape; nil if no plugin is Local.
func (e *engine) newView(q *question) *view {
	v := &view{state: q.s}
	for i := range q.profile.Plugins {
		p := q.profile.prepare(i, q.pod, q.s)
		if !p.Local {
			v.others = append(v.others, i)
		} else if p.Filter != nil || p.Score != nil {
			v.local = append(v.local, p)
		}
	}
	if len(v.local) == 0 {
		return nil
	}
	v.winnable = true
	for i := range v.local {
		if p := &v.local[i]; p.Score != nil && (p.Scale != framework.Unscaled || p.Normalize != nil) {
			v.scaled = append(v.scaled, scaled{prepared: p})
			v.winnable = v.winnable && p.Scale != framework.Unscaled
		}
	}
	v.all()
	return v
}

// all looks at every node.
func (v *view) all() {
	s := v.state
	rows := len(s.Rows())
	v.from = s.Changes()
	v.ok, v.base, v.total = make([]bool, rows), make([]int64, rows), make([]int64, rows)
	v.marks = make([]bool, rows)
	for i := range v.scaled {
		v.scaled[i].raw, v.scaled[i].rows = make([]int64, rows), map[int64]int{}
	}
	copy(v.ok, s.Live())
	for i := range v.local {
		switch p := &v.local[i]; {
		case p.FilterRows != nil:
			p.FilterRows(v.ok)
		case p.Filter != nil:
			for row, n := range s.Rows() {
				v.ok[row] = v.ok[row] && len(p.Filter(n)) == 0
			}
		}
	}
	var left []int32
	for row, ok := range v.ok {
		if ok {
			left = append(left, int32(row))
		}
	}
	scores := make([]int64, len(left))
	at := 0
	for i := range v.local {
		p := &v.local[i]
		if p.Score == nil {
			continue
		}
		if p.ScoreRows != nil {
			p.ScoreRows(left, scores)
		} else {
			for i, row := range left {
				scores[i] = p.Score(s.Rows()[row])
			}
		}
		if p.Scale == framework.Unscaled && p.Normalize == nil {
			for i, row := range left {
				v.base[row] += scores[i] * p.Weight
			}
			continue
		}
		scaled := &v.scaled[at]
		at++
		for i, row := range left {
			scaled.raw[row] = scores[i]
			scaled.rows[scores[i]]++
		}
		scaled.range1()
	}
	v.plant()
}

// look asks the plugins about one node anew.
func (v *view) look(row int) {
	n := v.state.Rows()[row]
	if v.ok[row] {
		for i := range v.scaled {
			s := &v.scaled[i]
			if s.rows[s.raw[row]]--; s.rows[s.raw[row]] == 0 {
				delete(s.rows, s.raw[row])
			}
		}
	}
	v.ok[row] = n != nil
	for i := range v.local {
		if p := &v.local[i]; v.ok[row] && p.Filter != nil && len(p.Filter(n)) > 0 {
			v.ok[row] = false
		}
	}
	if !v.ok[row] {
		return
	}
	base := int64(0)
	for i := range v.local {
		if p := &v.local[i]; p.Score != nil && p.Scale == framework.Unscaled && p.Normalize == nil {
			base += p.Score(n) * p.Weight
		}
	}
	v.base[row] = base
	for i := range v.scaled {
		s := &v.scaled[i]
		s.raw[row] = s.prepared.Score(n)
		s.rows[s.raw[row]]++
	}
}

// range1 finds the least and the most again, and says whether they are others.
func (s *scaled) range1() bool {
	least, most, first := int64(0), int64(0), true
	for score := range s.rows {
		if first {
			least, most, first = score, score, false
		}
		least, most = min(least, score), max(most, score)
	}
	changed := least != s.least || most != s.most
	s.least, s.most = least, most
	return changed
}

// update looks at the nodes that have changed since the last time.
func (v *view) update(s *framework.State) {
	if s.Changes() == v.from {
		return
	}
	if len(v.ok) != len(s.Rows()) {
		v.all()
		return
	}
	v.touched = v.touched[:0]
	known := s.ChangedSince(v.from, func(row int, _ bool) {
		if !v.marks[row] {
			v.marks[row] = true
			v.touched = append(v.touched, int32(row))
		}
	})
	if !known {
		v.all()
		return
	}
	v.from = s.Changes()
	for _, row := range v.touched {
		v.marks[row] = false
		v.look(int(row))
	}
	again := false
	for i := range v.scaled {
		again = v.scaled[i].range1() || again
	}
	switch {
	case !v.winnable:
	case again || len(v.touched) > len(v.ok)/8:
		v.plant()
	default:
		for _, row := range v.touched {
			v.sum(int(row))
			v.play(int(row))
		}
	}
}

// sum makes a row's total.
func (v *view) sum(row int) {
	if !v.ok[row] {
		return
	}
	total := v.base[row]
	for i := range v.scaled {
		if s := &v.scaled[i]; s.least != s.most {
			total += s.prepared.Scale.Of(s.raw[row], s.least, s.most) * s.prepared.Weight
		}
	}
	v.total[row] = total
}

// plant makes all totals, and plays the whole tournament.
func (v *view) plant() {
	if !v.winnable {
		return
	}
	leaves := 1
	for leaves < len(v.ok) {
		leaves *= 2
	}
	if len(v.tree) != 2*leaves {
		v.tree = make([]int32, 2*leaves)
	}
	for i := range leaves {
		v.tree[leaves+i] = -1
		if i < len(v.ok) && v.ok[i] {
			v.sum(i)
			v.tree[leaves+i] = int32(i)
		}
	}
	for i := leaves - 1; i > 0; i-- {
		v.tree[i] = v.better(v.tree[2*i], v.tree[2*i+1])
	}
}

// play plays a row's matches again.
func (v *view) play(row int) {
	i := len(v.tree)/2 + row
	if v.tree[i] = int32(row); !v.ok[row] {
		v.tree[i] = -1
	}
	for i /= 2; i > 0; i /= 2 {
		v.tree[i] = v.better(v.tree[2*i], v.tree[2*i+1])
	}
}

func (v *view) better(a, b int32) int32 {
	switch {
	case a < 0:
		return b
	case b < 0:
		return a
	case v.total[a] != v.total[b]:
		if v.total[a] > v.total[b] {
			return a
		}
		return b
	}
	pods := v.state.Columns().Pods.Requested
	if pods[a] != pods[b] {
		if pods[a] < pods[b] {
			return a
		}
		return b
	}
	nodes := v.state.Rows()
	if nodes[a].Name < nodes[b].Name {
		return a
	}
	return b
}
