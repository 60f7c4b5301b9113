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
	groups   map[string]*group   // by kind
	having   map[string]*members // by pair
	censuses map[string]*Census  // by key
	counting byPair[*Census]     // the same
	clock    uint64              // counts the questions for a Census

	anti, wishes carriedTerms      // terms of placed pods
	meant        map[string]*meant // by the kind of a pod
}

// carriedTerms are by Term.Key and weight, and by the pairs of the pods that they mean.
type carriedTerms struct {
	all    map[string]*Carried
	byPair byPair[*Carried]
}

// members are the groups whose pods have a pair, in no order.
type members []member

type member struct {
	group *group
	at    int // which of its pairs this is
}

// group is the placed pods of one kind.
type group struct {
	sample   *corev1.Pod
	kind     string
	shape    string // of the sample
	pods     int
	rows     map[int32]int32 // where they are: pods by Node.Row
	pairs    []string
	places   []int     // by pair: where among its members
	counting []*Census // those that count them
}

// enter has the group found by its pairs; leave takes it out again.
func (x *index) enter(g *group) {
	g.pairs = pairsOf(g.sample)
	g.places = make([]int, len(g.pairs))
	for i, pair := range g.pairs {
		m := x.having[pair]
		if m == nil {
			m = &members{}
			x.having[pair] = m
		}
		g.places[i] = len(*m)
		*m = append(*m, member{g, i})
	}
}

func (x *index) leave(g *group) {
	for i, pair := range g.pairs {
		m := x.having[pair]
		last := len(*m) - 1
		moved := (*m)[last]
		(*m)[g.places[i]] = moved
		moved.group.places[moved.at] = g.places[i]
		(*m)[last] = member{}
		if *m = (*m)[:last]; last == 0 {
			delete(x.having, pair)
		}
	}
}

// candidates calls visit for every group that may have one of the pairs; without pairs for all.
func (x *index) candidates(pairs []string, visit func(*group)) {
	if len(pairs) == 0 {
		for _, g := range x.groups {
			visit(g)
		}
		return
	}
	for _, pair := range pairs {
		if m := x.having[pair]; m != nil {
			for i := range *m {
				visit((*m)[i].group)
			}
		}
	}
}

type meant struct{ anti, wishes []*Carried }

func newIndex() index {
	return index{groups: map[string]*group{}, having: map[string]*members{}, censuses: map[string]*Census{},
		anti: carriedTerms{all: map[string]*Carried{}}, wishes: carriedTerms{all: map[string]*Carried{}}, meant: map[string]*meant{}}
}

// Census counts the placed pods that match something, by the values of a topology key. It is kept up to date as long as
// somebody asks for it now and then. What it holds is to be read only, and good until the State changes.
type Census struct {
	Column *LabelColumn
	Counts []int64 // pods, by the value's number
	Nodes  []int64 // nodes that count, by the value's number; nil where all do
	Total  int64   // of Counts

	match   func(sample *corev1.Pod, namespace labels.Set) bool
	pairs   []string
	include func(*Node) bool // nil: every node that has a value counts
	in      []bool           // by row: the node counts and has a value; nil without include
	perRow  map[int32]int64
	used    uint64
}

// counts says whether the node of a row counts.
func (c *Census) counts(row int) bool {
	if c.include == nil {
		return row < len(c.Column.Values) && c.Column.Values[row] >= 0
	}
	return row < len(c.in) && c.in[row]
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
// Pods that match have one of pairs (PairsOf, OwnerPair), if it names any.
func (s *State) Census(key, topologyKey string, pairs []string, include func(*Node) bool, match func(sample *corev1.Pod, namespace labels.Set) bool) *Census {
	x := &s.index
	x.clock++
	if c := x.censuses[key]; c != nil {
		c.used = x.clock
		return c
	}
	if len(x.censuses) >= maxCensuses {
		x.evict()
	}
	c := &Census{Column: s.LabelColumn(topologyKey), match: match, pairs: pairs, include: include, used: x.clock}
	c.perRow, c.Counts = map[int32]int64{}, make([]int64, c.Column.Count())
	if include != nil {
		c.in, c.Nodes = make([]bool, len(s.rows)), make([]int64, c.Column.Count())
		for row, n := range s.rows {
			if n != nil {
				c.place(row, n)
			}
		}
	}
	x.candidates(pairs, func(g *group) {
		if !match(g.sample, s.namespaces[g.sample.Namespace]) {
			return
		}
		g.counting = append(g.counting, c)
		for row, pods := range g.rows {
			c.add(int(row), int64(pods))
		}
	})
	x.censuses[key] = c
	x.counting.add(pairs, c)
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
			x.counting.remove(c.pairs, c)
		}
	}
	for _, g := range x.groups {
		g.counting = slices.DeleteFunc(g.counting, func(c *Census) bool { return c.used <= oldest })
	}
}

func (c *Census) grow(row int) {
	for len(c.Counts) < c.Column.Count() {
		c.Counts = append(c.Counts, 0)
	}
	if c.include == nil {
		return
	}
	for len(c.in) <= row {
		c.in = append(c.in, false)
	}
	for len(c.Nodes) < c.Column.Count() {
		c.Nodes = append(c.Nodes, 0)
	}
}

// lift takes a row out of its domain, before its labels change; place puts it back.
func (c *Census) lift(row int) {
	if !c.counts(row) {
		return
	}
	v, pods := c.Column.Values[row], c.perRow[int32(row)]
	c.Counts[v] -= pods
	c.Total -= pods
	if c.include != nil {
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
	pods := c.perRow[int32(row)]
	c.Counts[v] += pods
	c.Total += pods
	if c.include != nil {
		c.in[row] = true
		c.Nodes[v]++
	}
}

func (c *Census) add(row int, sign int64) {
	c.grow(row)
	if n := c.perRow[int32(row)] + sign; n != 0 {
		c.perRow[int32(row)] = n
	} else {
		delete(c.perRow, int32(row))
	}
	if c.counts(row) {
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
	if len(s.index.anti.all) == 0 {
		return nil
	}
	return s.meant(p).anti
}

// Wishing are the affinity terms of placed pods that mean this one and count for scores: preferred ones, and required affinity.
func (s *State) Wishing(p *Pod) []*Carried {
	if len(s.index.wishes.all) == 0 {
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
	pairs := pairsOf(p.Pod)
	of := func(t *carriedTerms) (out []*Carried) {
		t.byPair.of(pairs, func(c *Carried) {
			if c.Term.Matches(p.Pod, namespace) {
				out = append(out, c)
			}
		})
		slices.SortFunc(out, func(a, b *Carried) int {
			return cmp.Or(cmp.Compare(a.Term.Key, b.Term.Key), cmp.Compare(a.Weight, b.Weight))
		})
		return out
	}
	m.anti, m.wishes = of(&x.anti), of(&x.wishes)
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
			g = &group{sample: p.Pod, kind: p.kind, shape: p.shape, rows: map[int32]int32{}}
			x.enter(g)
			x.counting.of(g.pairs, func(c *Census) {
				if c.match(p.Pod, s.namespaces[p.Namespace]) {
					g.counting = append(g.counting, c)
				}
			})
			x.groups[p.kind] = g
		}
		p.group = g
		if p.shape == g.shape { // one copy of the text for all that are alike
			p.shape, p.kind = g.shape, g.kind
		}
	}
	if g.pods += int(sign); g.pods == 0 {
		delete(x.groups, p.kind)
		x.leave(g)
	}
	x.onRow(s, p, n.Row, sign)
}

// onRow counts a pod where its node is. Row -1, a node that isn't there, counts for the terms' being known only.
func (x *index) onRow(s *State, p *Pod, row int, sign int64) {
	if row >= 0 {
		g := p.group
		if n := g.rows[int32(row)] + int32(sign); n != 0 {
			g.rows[int32(row)] = n
		} else {
			delete(g.rows, int32(row))
		}
		for _, c := range g.counting {
			c.add(row, sign)
		}
	}
	a := &p.Affinity
	if len(a.Required)+len(a.RequiredAnti)+len(a.Preferred)+len(a.PreferredAnti) == 0 {
		return
	}
	for i := range a.RequiredAnti {
		x.carry(s, &x.anti, &a.RequiredAnti[i], 0, row, sign)
	}
	for i := range a.Required {
		x.carry(s, &x.wishes, &a.Required[i], HardWeight, row, sign)
	}
	for i := range a.Preferred {
		x.carry(s, &x.wishes, &a.Preferred[i], a.Preferred[i].Weight, row, sign)
	}
	for i := range a.PreferredAnti {
		x.carry(s, &x.wishes, &a.PreferredAnti[i], -a.PreferredAnti[i].Weight, row, sign)
	}
}

func (x *index) carry(s *State, terms *carriedTerms, t *Term, weight int64, row int, sign int64) {
	if row < 0 {
		return
	}
	var space [256]byte
	key := shaper(append(space[:0], t.Key...))
	key = key.int(weight)
	c := terms.all[string(key)]
	if c == nil {
		c = &Carried{Term: t, Weight: weight, Column: s.LabelColumn(t.TopologyKey), perRow: map[int]int64{}}
		c.grow()
		terms.all[string(key)] = c
		terms.byPair.add(PairsOf(t.selector), c)
		clear(x.meant)
	}
	if c.perRow[row] += sign; c.perRow[row] == 0 {
		delete(c.perRow, row)
	}
	c.shift(row, sign)
	if c.pods += int(sign); c.pods == 0 {
		delete(terms.all, string(key))
		terms.byPair.remove(PairsOf(c.Term.selector), c)
		clear(x.meant)
	}
}

// forget drops what hangs on the labels of namespaces.
func (x *index) forget(*State) {
	clear(x.censuses)
	x.counting = byPair[*Census]{}
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
	carried := []map[string]*Carried{x.anti.all, x.wishes.all}
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
