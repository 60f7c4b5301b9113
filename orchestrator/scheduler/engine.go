package scheduler

import (
	"context"
	"slices"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

// engine makes decisions. What it keeps from one to the next only saves it from asking plugins the same again: the decision
// is the one that asking every plugin about every node gives.
//
// The first pod of a shape is decided on by going over the columns of all nodes. With the second one the engine keeps a view of
// its shape: which nodes the Local plugins leave and what they make of them, brought up to date with the nodes that have
// changed, and a tournament of them, whose winner is the decision where no other plugin or policy has a say.
type engine struct {
	columns map[string]*column
	views   map[string]*view
	seen    map[string]bool // shapes, once
	clock   uint64          // decisions
	torn    bool            // one is being made, or has panicked

	// between calls, only for their memory
	ok             []bool
	rows           []int32
	left           []*framework.Node
	totals, scores []int64
	key            []byte
}

func newEngine() *engine {
	return &engine{columns: map[string]*column{}, views: map[string]*view{}, seen: map[string]bool{}}
}

// question is one decision.
type question struct {
	profile  *Profile
	policies *policyView
	pod      *framework.Pod
	s        *framework.State
	refused  map[string]string // nodes that a Reserver has refused, with the reason
}

// decide chooses the node for a pod: every plugin's filter, then the policies', then the best sum of
// weighted scores; of equal nodes the one with the fewest pods, then the first by name. Without a
// node it returns a *FitError. It changes nothing but what it keeps for itself.
func (e *engine) decide(ctx context.Context, q *question) (string, error) {
	e.clock++
	key := e.shape(q)
	v := e.views[string(key)]
	if v == nil && e.seen[string(key)] {
		if v = e.newView(q); v != nil {
			e.makeRoom(q.s)
			e.views[string(key)] = v
		}
	} else if v == nil {
		if len(e.seen) >= 1<<13 {
			clear(e.seen)
		}
		e.seen[string(key)] = true
	}
	var parts []part
	if v != nil {
		v.used = e.clock
		for _, i := range v.others {
			if p := q.profile.prepare(i, q.pod, q.s); p.Filter != nil || p.Score != nil {
				parts = append(parts, part{prepared: p})
			}
		}
		v.update(q.s)
		if len(parts) == 0 && len(q.refused) == 0 && v.winnable && !q.policies.has(q.pod.Pod, hookPlace) {
			if best := v.tree[1]; best >= 0 {
				return q.s.Rows()[best].Name, nil
			}
			return "", explain(q)
		}
	} else {
		parts = make([]part, 0, len(q.profile.Plugins))
		for i := range q.profile.Plugins {
			p := q.profile.prepare(i, q.pod, q.s)
			if p.Filter == nil && p.Score == nil {
				continue
			}
			c := (*column)(nil)
			if p.Local && p.Lasting && p.Key != "" {
				c = e.column(q.profile.Plugins[i].Name(), p, q.s)
			}
			parts = append(parts, part{prepared: p, column: c})
		}
	}
	return e.overAll(ctx, q, v, parts)
}

// shape is what pods that the Local plugins treat alike have in common.
func (e *engine) shape(q *question) []byte {
	key := append(e.key[:0], q.profile.Name...)
	key = append(append(key, 0), q.pod.Shape()...)
	for _, k := range q.profile.keyers {
		key = append(append(key, 0), k.Key(q.pod)...)
	}
	e.key = key
	return key
}

// part is one plugin's say in a decision over all nodes.
type part struct {
	prepared framework.Prepared
	column   *column // what it says of each node, if that is kept
}

// overAll goes over all nodes. v, if there is a view, speaks for the plugins that aren't in parts.
func (e *engine) overAll(ctx context.Context, q *question, v *view, parts []part) (string, error) {
	s := q.s
	nodes := s.Rows()
	live := s.Live()
	if v != nil {
		live = v.ok
	}
	e.ok = append(e.ok[:0], live...)
	ok := e.ok
	for i := range parts {
		switch p := &parts[i]; {
		case p.column != nil:
			p.column.filter(ok)
		case p.prepared.FilterRows != nil:
			p.prepared.FilterRows(ok)
		case p.prepared.Filter != nil:
			for row := range ok {
				ok[row] = ok[row] && len(p.prepared.Filter(nodes[row])) == 0
			}
		}
	}
	for name := range q.refused {
		if n := s.Node(name); n != nil && n.Row >= 0 {
			ok[n.Row] = false
		}
	}
	rows := e.rows[:0]
	var said []verdict
	disliked := map[string]int{} // by policies
	if q.policies.has(q.pod.Pod, hookPlace) {
		var err error
		if rows, said, err = e.askPolicies(ctx, q, rows, ok, disliked); err != nil {
			return "", err
		}
	} else {
		for row := range ok {
			if ok[row] {
				rows = append(rows, int32(row))
			}
		}
	}
	e.rows = rows
	if len(rows) == 0 {
		fit := explain(q)
		for reason, nodes := range disliked {
			fit.Reasons[reason] += nodes
			fit.Plugins[policyPlugin] = true
		}
		return "", fit
	}
	e.totals = zeroed(e.totals, len(rows))
	totals := e.totals
	if len(rows) > 1 {
		e.scores = zeroed(e.scores, len(rows))
		if v != nil {
			for i, row := range rows {
				totals[i] = v.base[row]
			}
			for i := range v.scaled {
				v.scaled[i].add(rows, e.scores, totals)
			}
		}
		for i := range parts {
			parts[i].add(rows, nodes, e.scores, totals)
		}
	}
	for i := range said {
		totals[i] += said[i].score
	}
	best := 0
	pods := s.Columns().Pods.Requested
	for i := 1; i < len(rows); i++ {
		if totals[i] < totals[best] {
			continue
		}
		a, b := rows[i], rows[best]
		if totals[i] > totals[best] || pods[a] < pods[b] || pods[a] == pods[b] && nodes[a].Name < nodes[b].Name {
			best = i
		}
	}
	return nodes[rows[best]].Name, nil
}

func zeroed(s []int64, n int) []int64 {
	s = slices.Grow(s[:0], n)[:n]
	clear(s)
	return s
}

// askPolicies puts the nodes that are left to the policies, and returns the rows of those that they leave; disliked
// counts their reasons against the others.
func (e *engine) askPolicies(ctx context.Context, q *question, rows []int32, ok []bool, disliked map[string]int) ([]int32, []verdict, error) {
	left := e.left[:0]
	for _, n := range q.s.Nodes() { // the policies' records stand in this order
		if ok[n.Row] {
			left = append(left, n)
		}
	}
	e.left = left
	said, err := q.policies.ask(ctx, q.pod, left, q.s)
	if err != nil {
		return rows, nil, err
	}
	kept := 0
	for i, n := range left {
		if said != nil {
			if said[i].reason != "" {
				disliked[said[i].reason]++
				continue
			}
			said[kept] = said[i]
			kept++
		}
		rows = append(rows, int32(n.Row))
	}
	if said != nil {
		said = said[:kept]
	}
	return rows, said, nil
}

// add adds a plugin's weighted scores of rows to totals.
func (p *part) add(rows []int32, nodes []*framework.Node, scores, totals []int64) {
	if p.prepared.Score == nil {
		return
	}
	switch {
	case p.column != nil:
		if p.column.uniform() {
			return
		}
		for i, row := range rows {
			scores[i] = p.column.raw[row]
		}
	case p.prepared.ScoreRows != nil:
		p.prepared.ScoreRows(rows, scores)
	default:
		for i, row := range rows {
			scores[i] = p.prepared.Score(nodes[row])
		}
	}
	scale(&p.prepared, scores)
	for i := range totals {
		totals[i] += scores[i] * p.prepared.Weight
	}
}

// scale brings scores into their range, in place.
func scale(p *framework.Prepared, scores []int64) {
	switch {
	case p.Scale != framework.Unscaled:
		least, most := slices.Min(scores), slices.Max(scores)
		for i, score := range scores {
			scores[i] = p.Scale.Of(score, least, most)
		}
	case p.Normalize != nil:
		p.Normalize(scores)
	}
}

// makeRoom drops the views that were of use the longest ago.
func (e *engine) makeRoom(s *framework.State) {
	for len(e.views) >= mayKeep(s) {
		oldest := ""
		for key, v := range e.views {
			if oldest == "" || v.used < e.views[oldest].used {
				oldest = key
			}
		}
		delete(e.views, oldest)
	}
}

// mayKeep bounds how many views, and how many columns, are kept: some 40 MiB of them.
func mayKeep(s *framework.State) int { return min(256, max(8, 1<<20/max(1, len(s.Rows())))) }

// column keeps what one plugin says of each node itself, whatever pods are on it.
type column struct {
	prepared framework.Prepared
	from     framework.Cursor
	used     uint64
	ok       []bool
	raw      []int64
	refused  int // rows that aren't ok

	least, most int64 // of raw
}

// column finds or makes the column of a plugin's Key.
func (e *engine) column(plugin string, p framework.Prepared, s *framework.State) *column {
	key := plugin + "\x00" + p.Key
	c := e.columns[key]
	if c == nil {
		if len(e.columns) >= mayKeep(s) {
			oldest := ""
			for k, have := range e.columns {
				if oldest == "" || have.used < e.columns[oldest].used {
					oldest = k
				}
			}
			delete(e.columns, oldest)
		}
		c = &column{prepared: p}
		e.columns[key] = c
		c.all(s)
	} else {
		changed := false
		known := len(c.ok) == len(s.Rows()) && s.ChangedSince(c.from, func(row int, object bool) {
			if object {
				c.set(row, s)
				changed = true
			}
		})
		if !known {
			c.all(s)
		} else if changed {
			c.sum()
		}
	}
	c.from, c.used = s.Changes(), e.clock
	return c
}

func (c *column) all(s *framework.State) {
	c.ok, c.raw = make([]bool, len(s.Rows())), make([]int64, len(s.Rows()))
	for row := range c.ok {
		c.set(row, s)
	}
	c.sum()
}

func (c *column) set(row int, s *framework.State) {
	n := s.Rows()[row]
	c.ok[row] = n != nil && (c.prepared.Filter == nil || len(c.prepared.Filter(n)) == 0)
	if c.raw[row] = 0; n != nil && c.prepared.Score != nil {
		c.raw[row] = c.prepared.Score(n)
	}
}

func (c *column) sum() {
	c.refused, c.least, c.most = 0, 0, 0
	if len(c.raw) > 0 {
		c.least, c.most = slices.Min(c.raw), slices.Max(c.raw)
	}
	for _, ok := range c.ok {
		if !ok {
			c.refused++
		}
	}
}

// uniform says that all nodes have the same score, so that it decides nothing.
func (c *column) uniform() bool { return c.least == c.most }

func (c *column) filter(ok []bool) {
	if c.refused == 0 {
		return
	}
	for row, good := range c.ok[:len(ok)] {
		ok[row] = ok[row] && good
	}
}
