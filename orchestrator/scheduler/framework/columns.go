package framework

import corev1 "k8s.io/api/core/v1"

// Amounts is one resource of all nodes, by Node.Row.
type Amounts struct{ Allocatable, Requested []int64 }

// Columns are what the nodes have and their pods ask for, by Node.Row: the same numbers as in the nodes. They are to be
// read only, and good until the State changes.
type Columns struct {
	MilliCPU, Memory, EphemeralStorage, Pods Amounts
	ScoredMilliCPU, ScoredMemory             []int64

	scalars map[corev1.ResourceName]*Amounts // those that somebody has asked for
}

func (a *Amounts) grow() {
	a.Allocatable, a.Requested = append(a.Allocatable, 0), append(a.Requested, 0)
}

func (c *Columns) grow() {
	for _, a := range []*Amounts{&c.MilliCPU, &c.Memory, &c.EphemeralStorage, &c.Pods} {
		a.grow()
	}
	c.ScoredMilliCPU, c.ScoredMemory = append(c.ScoredMilliCPU, 0), append(c.ScoredMemory, 0)
	for _, a := range c.scalars {
		a.grow()
	}
}

func (c *Columns) write(n *Node) {
	row, have, used := n.Row, &n.Allocatable, &n.Requested
	c.MilliCPU.Allocatable[row], c.MilliCPU.Requested[row] = have.MilliCPU, used.MilliCPU
	c.Memory.Allocatable[row], c.Memory.Requested[row] = have.Memory, used.Memory
	c.EphemeralStorage.Allocatable[row], c.EphemeralStorage.Requested[row] = have.EphemeralStorage, used.EphemeralStorage
	c.Pods.Allocatable[row], c.Pods.Requested[row] = have.Pods, used.Pods
	c.ScoredMilliCPU[row], c.ScoredMemory[row] = n.Scored.MilliCPU, n.Scored.Memory
	for name, a := range c.scalars {
		a.Allocatable[row], a.Requested[row] = have.Scalar[name], used.Scalar[name]
	}
}

// Scalar is the column of an extended resource, made when it is first asked for.
func (s *State) Scalar(name corev1.ResourceName) *Amounts {
	c := &s.columns
	if a := c.scalars[name]; a != nil {
		return a
	}
	a := &Amounts{Allocatable: make([]int64, len(s.rows)), Requested: make([]int64, len(s.rows))}
	for row, n := range s.rows {
		if n != nil {
			a.Allocatable[row], a.Requested[row] = n.Allocatable.Scalar[name], n.Requested.Scalar[name]
		}
	}
	if len(c.scalars) >= maxScalars { // names that pods have made up: whoever asks has the others made again
		clear(c.scalars)
	}
	if c.scalars == nil {
		c.scalars = map[corev1.ResourceName]*Amounts{}
	}
	c.scalars[name] = a
	return a
}

// LabelColumn is one label of all nodes, its values numbered.
type LabelColumn struct {
	key    string
	Values []int32 // by Node.Row: the value's number, -1 where the node lacks the label
	Nodes  []int64 // nodes, by the value's number
	ids    map[string]int32
	names  []string // by number
	free   []int32  // numbers that no node has
}

// Count is how many numbers there are; all are less. One that no node has any more is given to another value.
func (c *LabelColumn) Count() int { return len(c.names) }

// maxColumns bounds how many label columns are kept beside those in use, maxScalars how many of resources.
const (
	maxColumns = 256
	maxScalars = 256
)

// LabelColumn is the column of a label, made when it is first asked for and kept as long as something counts by it, or there
// are not too many.
func (s *State) LabelColumn(key string) *LabelColumn {
	if c := s.labels[key]; c != nil {
		return c
	}
	if len(s.labels) >= maxColumns {
		s.dropColumns()
	}
	c := &LabelColumn{key: key, ids: map[string]int32{}}
	for row, n := range s.rows {
		c.Values = append(c.Values, -1)
		if n != nil {
			c.set(row, n)
		}
	}
	s.labels[key] = c
	return c
}

// dropColumns forgets those by which nothing counts.
func (s *State) dropColumns() {
	used := map[*LabelColumn]bool{}
	for _, c := range s.index.censuses {
		used[c.Column] = true
	}
	for _, all := range []map[string]*Carried{s.index.anti.all, s.index.wishes.all} {
		for _, c := range all {
			used[c.Column] = true
		}
	}
	for key, c := range s.labels {
		if !used[c] {
			delete(s.labels, key)
		}
	}
}

// set brings a row up to its node. What counts by the column has been lifted off the row before.
func (c *LabelColumn) set(row int, n *Node) {
	for len(c.Values) <= row {
		c.Values = append(c.Values, -1)
	}
	value, ok := "", false
	if n.Node != nil {
		value, ok = n.Node.Labels[c.key]
	}
	if v := c.Values[row]; v >= 0 {
		if ok && c.names[v] == value {
			return
		}
		c.Values[row] = -1
		if c.Nodes[v]--; c.Nodes[v] == 0 {
			delete(c.ids, c.names[v])
			c.names[v], c.free = "", append(c.free, v)
		}
	}
	if !ok {
		return
	}
	id, known := c.ids[value]
	if last := len(c.free) - 1; !known && last >= 0 {
		id, c.free = c.free[last], c.free[:last]
	} else if !known {
		id = int32(len(c.names))
		c.names, c.Nodes = append(c.names, ""), append(c.Nodes, 0)
	}
	c.ids[value], c.names[id], c.Values[row] = id, value, id
	c.Nodes[id]++
}

// changeLog remembers which rows have changed lately.
type changeLog struct {
	ring []rowChange
	next uint64 // the number of the next change
}

type rowChange struct {
	row    int32
	object bool
}

// remembered bounds the log: who hasn't looked for so many changes starts over.
const remembered = 1 << 14

func (l *changeLog) add(row int, object bool) {
	c := rowChange{int32(row), object}
	if len(l.ring) < remembered {
		l.ring = append(l.ring, c)
	} else {
		l.ring[l.next%remembered] = c
	}
	l.next++
}

// Cursor is a place in the log of changes: what a reader has seen.
type Cursor uint64

// Changes is the place after the last change.
func (s *State) Changes() Cursor { return Cursor(s.log.next) }

// ChangedSince calls row for each change after from, the oldest first: object says that the node itself came, changed or
// went, else that its pods did. It returns false, without a call, when they aren't remembered any more.
func (s *State) ChangedSince(from Cursor, row func(row int, object bool)) bool {
	l := &s.log
	if l.next-uint64(from) > uint64(len(l.ring)) {
		return false
	}
	for i := uint64(from); i < l.next; i++ {
		c := l.ring[i%remembered]
		row(int(c.row), c.object)
	}
	return true
}
