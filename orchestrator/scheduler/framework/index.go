package framework

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// index knows the placed pods by what they match and by what they want of others. It is brought up to date with every pod
// and node that changes, so that a decision need not look at pods.
type index struct {
	groups   map[string]*group // by kind
	censuses map[string]*Census
	clock    uint64 // counts the questions for a Census

	anti, wishes map[string]*Carried // terms of placed pods, by Term.Key and weight
	meant        map[string]*meant   // by the kind of a pod
}

// group is the placed pods of one kind.
type group struct {
	sample   *corev1.Pod
	pods     int
	counting []*Census // those that count them
}

type meant struct{ anti, wishes []*Carried }

func newIndex() index {
	return index{groups: map[string]*group{}, censuses: map[string]*Census{},
		anti: map[string]*Carried{}, wishes: map[string]*Carried{}, meant: map[string]*meant{}}
}

// Census counts the placed pods that match something, by the values of a topology key. It is kept up to date as long as
// somebody asks for it now and then. What it holds is to be read only, and good until the State changes.
type Census struct {
	Column *LabelColumn
	Counts []int64 // pods, by the value's number
	Nodes  []int64 // nodes that count, by the value's number
	Total  int64   // of Counts

	match   func(sample *corev1.Pod, namespace labels.Set) bool
	include func(*Node) bool // nil: every node counts
	in      []bool           // by row: the node counts and has a value
	perRow  []int64
	used    uint64
}

// Count is how many pods share the domain of a row.
func (c *Census) Count(row int) int64 {
	if v := c.Column.Values[row]; v >= 0 {
		return c.Counts[v]
	}
	return 0
}

// maxCensuses bounds how many are kept.
const maxCensuses = 512

// Census finds a census by its key, or makes it: of the pods that match, on nodes that include (nil: all). Both may look
// at what Pod.Kind covers, the namespace's labels and the node's labels, taints and name; an equal key means equal functions.
func (s *State) Census(key, topologyKey string, include func(*Node) bool, match func(sample *corev1.Pod, namespace labels.Set) bool) *Census {
	x := &s.index
	x.clock++
	if c := x.censuses[key]; c != nil {
		c.used = x.clock
		return c
	}
	if len(x.censuses) >= maxCensuses {
		x.evict()
	}
	c := &Census{Column: s.LabelColumn(topologyKey), match: match, include: include, used: x.clock}
	c.in, c.perRow = make([]bool, len(s.rows)), make([]int64, len(s.rows))
	c.Counts, c.Nodes = make([]int64, c.Column.Count()), make([]int64, c.Column.Count())
	matched := map[*group]bool{}
	for _, g := range x.groups {
		if match(g.sample, s.namespaces[g.sample.Namespace]) {
			matched[g] = true
			g.counting = append(g.counting, c)
		}
	}
	for row, n := range s.rows {
		if n == nil {
			continue
		}
		c.place(row, n)
		if len(matched) == 0 {
			continue
		}
		for _, p := range n.Pods {
			if matched[p.group] {
				c.add(row, 1)
			}
		}
	}
	x.censuses[key] = c
	return c
}

// evict drops the half of the censuses that nobody has asked for the longest.
func (x *index) evict() {
	uses := make([]uint64, 0, len(x.censuses))
	for _, c := range x.censuses {
		uses = append(uses, c.used)
	}
	slices.Sort(uses)
	oldest := uses[len(uses)/2]
	for key, c := range x.censuses {
		if c.used <= oldest {
			delete(x.censuses, key)
		}
	}
	for _, g := range x.groups {
		g.counting = slices.DeleteFunc(g.counting, func(c *Census) bool { return c.used <= oldest })
	}
}

func (c *Census) grow(row int) {
	for len(c.perRow) <= row {
		c.perRow, c.in = append(c.perRow, 0), append(c.in, false)
	}
	for len(c.Counts) < c.Column.Count() {
		c.Counts, c.Nodes = append(c.Counts, 0), append(c.Nodes, 0)
	}
}

// lift takes a row out of its domain, before its labels change; place puts it back.
func (c *Census) lift(row int) {
	if row < len(c.in) && c.in[row] {
		v := c.Column.Values[row]
		c.Counts[v] -= c.perRow[row]
		c.Total -= c.perRow[row]
		c.Nodes[v]--
		c.in[row] = false
	}
}

func (c *Census) place(row int, n *Node) {
	c.grow(row)
	v := c.Column.Values[row]
	if n.Node == nil || v < 0 || c.include != nil && !c.include(n) {
		return
	}
	c.in[row] = true
	c.Counts[v] += c.perRow[row]
	c.Total += c.perRow[row]
	c.Nodes[v]++
}

func (c *Census) add(row int, sign int64) {
	c.grow(row)
	if c.perRow[row] += sign; c.in[row] {
		c.Counts[c.Column.Values[row]] += sign
		c.Total += sign
	}
}

// Carried is an affinity term that placed pods have, with how many of them there are by the values of its topology key.
type Carried struct {
	Term   *Term
	Weight int64 // of a wish: how much a pod that it means is worth; less than 0: unwelcome
	Column *LabelColumn
	Counts []int64

	perRow map[int]int64
	pods   int
}

// HardWeight is what a required affinity of a placed pod towards another counts for that one's score
// (kube-scheduler's default hardPodAffinityWeight).
const HardWeight = 1

// Refusing are the required anti-affinity terms of placed pods that mean this one.
func (s *State) Refusing(p *Pod) []*Carried {
	if len(s.index.anti) == 0 {
		return nil
	}
	return s.meant(p).anti
}

// Wishing are the affinity terms of placed pods that mean this one and count for scores: preferred ones, and required affinity.
func (s *State) Wishing(p *Pod) []*Carried {
	if len(s.index.wishes) == 0 {
		return nil
	}
	return s.meant(p).wishes
}

func (s *State) meant(p *Pod) *meant {
	x := &s.index
	if m := x.meant[p.kind]; m != nil {
		return m
	}
	if len(x.meant) >= 1<<12 {
		clear(x.meant)
	}
	m, namespace := &meant{}, s.namespaces[p.Namespace]
	of := func(all map[string]*Carried) (out []*Carried) {
		for _, c := range all {
			if c.Term.Matches(p.Pod, namespace) {
				out = append(out, c)
			}
		}
		slices.SortFunc(out, func(a, b *Carried) int {
			return cmp.Or(cmp.Compare(a.Term.Key, b.Term.Key), cmp.Compare(a.Weight, b.Weight))
		})
		return out
	}
	m.anti, m.wishes = of(x.anti), of(x.wishes)
	x.meant[p.kind] = m
	return m
}

func (c *Carried) grow() {
	if missing := c.Column.Count() - len(c.Counts); missing > 0 {
		c.Counts = append(c.Counts, make([]int64, missing)...)
	}
}

func (c *Carried) shift(row int, by int64) {
	if v := c.Column.Values[row]; v >= 0 {
		c.grow()
		c.Counts[v] += by
	}
}

// add tells of a pod that comes to a node or leaves it.
func (x *index) add(s *State, p *Pod, n *Node, sign int64) {
	g := p.group
	if sign > 0 {
		if g = x.groups[p.kind]; g == nil {
			g = &group{sample: p.Pod}
			for _, c := range x.censuses {
				if c.match(p.Pod, s.namespaces[p.Namespace]) {
					g.counting = append(g.counting, c)
				}
			}
			x.groups[p.kind] = g
		}
		p.group = g
	}
	if g.pods += int(sign); g.pods == 0 {
		delete(x.groups, p.kind)
	}
	x.onRow(s, p, n.Row, sign)
}

// onRow counts a pod where its node is. Row -1, a node that isn't there, counts for the terms' being known only.
func (x *index) onRow(s *State, p *Pod, row int, sign int64) {
	if row >= 0 {
		for _, c := range p.group.counting {
			c.add(row, sign)
		}
	}
	a := &p.Affinity
	if len(a.Required)+len(a.RequiredAnti)+len(a.Preferred)+len(a.PreferredAnti) == 0 {
		return
	}
	for i := range a.RequiredAnti {
		x.carry(s, x.anti, &a.RequiredAnti[i], 0, row, sign)
	}
	for i := range a.Required {
		x.carry(s, x.wishes, &a.Required[i], HardWeight, row, sign)
	}
	for i := range a.Preferred {
		x.carry(s, x.wishes, &a.Preferred[i], a.Preferred[i].Weight, row, sign)
	}
	for i := range a.PreferredAnti {
		x.carry(s, x.wishes, &a.PreferredAnti[i], -a.PreferredAnti[i].Weight, row, sign)
	}
}

func (x *index) carry(s *State, all map[string]*Carried, t *Term, weight int64, row int, sign int64) {
	if row < 0 {
		return
	}
	var space [256]byte
	key := shaper(append(space[:0], t.Key...))
	key.int(weight)
	c := all[string(key)]
	if c == nil {
		c = &Carried{Term: t, Weight: weight, Column: s.LabelColumn(t.TopologyKey), perRow: map[int]int64{}}
		c.grow()
		all[string(key)] = c
		clear(x.meant)
	}
	if c.perRow[row] += sign; c.perRow[row] == 0 {
		delete(c.perRow, row)
	}
	c.shift(row, sign)
	if c.pods += int(sign); c.pods == 0 {
		delete(all, string(key))
		clear(x.meant)
	}
}

// forget drops what hangs on the labels of namespaces.
func (x *index) forget(*State) {
	clear(x.censuses)
	clear(x.meant)
	for _, g := range x.groups {
		g.counting = nil
	}
}

// relabel brings the label columns and what is counted by them up to the node, after it came, changed, or (Node is nil)
// before it goes.
func (s *State) relabel(n *Node, came bool) {
	x, row := &s.index, n.Row
	if n.Node == nil {
		for _, p := range n.Pods {
			x.onRow(s, p, row, -1)
		}
	}
	carried := []map[string]*Carried{x.anti, x.wishes}
	for _, c := range x.censuses {
		c.lift(row)
	}
	for _, all := range carried {
		for _, c := range all {
			if k := c.perRow[row]; k != 0 {
				c.shift(row, -k)
			}
		}
	}
	for _, column := range s.labels {
		column.set(row, n)
	}
	for _, c := range x.censuses {
		c.place(row, n)
	}
	for _, all := range carried {
		for _, c := range all {
			c.grow()
			if k := c.perRow[row]; k != 0 {
				c.shift(row, k)
			}
		}
	}
	if came {
		for _, p := range n.Pods {
			x.onRow(s, p, row, 1)
		}
	}
}
