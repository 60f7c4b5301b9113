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
	ids    map[string]int32
}

// Count is how many values there are; their numbers are less.
func (c *LabelColumn) Count() int { return len(c.ids) }

// LabelColumn is the column of a label, made when it is first asked for and kept from then on.
func (s *State) LabelColumn(key string) *LabelColumn {
	if c := s.labels[key]; c != nil {
		return c
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

func (c *LabelColumn) set(row int, n *Node) {
	for len(c.Values) <= row {
		c.Values = append(c.Values, -1)
	}
	c.Values[row] = -1
	if n.Node == nil {
		return
	}
	value, ok := n.Node.Labels[c.key]
	if !ok {
		return
	}
	id, known := c.ids[value]
	if !known {
		id = int32(len(c.ids))
		c.ids[value] = id
	}
	c.Values[row] = id
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
