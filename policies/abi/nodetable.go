package abi

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"unsafe"
)

// Node is what the table keeps of a node. Each resource, label and taint stands in it once.
type Node struct {
	Name          string
	Unschedulable bool
	NotReady      bool
	Allocatable   []Quantity
	Requested     []Quantity // by the pods there
	Pods          uint32     // how many are there
	Labels        []Pair
	Taints        []Taint
	CreatedUnixMs int64
}

// Taint keeps pods away from a node.
type Taint struct{ Key, Value, Effect string }

// NodeTable keeps nodes as records whose bytes guests find in their memory: native policies read the same ones
// (Records, Pairs, Quantities), and bringing a guest up to date is copying the pages that changed.
//
// A node keeps its row until it is deleted; then the row is given to the next node. Set, SetRequested and Delete
// must not run while a Placement of this table is being placed, nor beside a native reader; all else may be called
// by any number of goroutines at once.
type NodeTable struct {
	mu sync.RWMutex // guards all of it: a guest that is called may intern a string meanwhile

	version    uint64 // of the content: each change is one more
	generation uint64 // of the ids: compacting gives strings new ones

	ids     map[string]uint32
	names   []string
	strings region // (offset into bytes, length); a guest's copy holds addresses
	text    region

	rows       map[string]uint32
	freeRows   []uint32
	set        []uint64 // by row: the version of its last Set or Delete
	nodes      region
	pairs      region
	freePairs  runs
	quantities region
	freeQuants runs

	views map[string]*View
	kept  struct{ strings, pairs, quantities int } // after the last compaction

	// Ids of what records hold themselves.
	cpu, memory, ephemeral, gpu, pods, zone, region, hostName uint32

	entries []TableQuantity // Set's, between calls
	labels  []TablePair
}

// NewNodeTable makes an empty table.
func NewNodeTable() *NodeTable {
	t := &NodeTable{rows: map[string]uint32{}}
	t.clear()
	return t
}

// clear empties everything but the rows' places.
func (t *NodeTable) clear() {
	t.ids, t.names, t.strings, t.text = map[string]uint32{"": 0}, []string{""}, region{}, region{}
	t.strings.grow(8, t.version)
	t.pairs, t.freePairs, t.quantities, t.freeQuants = region{}, runs{}, region{}, runs{}
	t.views = map[string]*View{}
	t.cpu, t.memory, t.ephemeral = t.intern("cpu"), t.intern("memory"), t.intern("ephemeral-storage")
	t.gpu, t.pods = t.intern("nvidia.com/gpu"), t.intern("pods")
	t.zone, t.region = t.intern("topology.kubernetes.io/zone"), t.intern("topology.kubernetes.io/region")
	t.hostName = t.intern("kubernetes.io/hostname")
}

func typed[T any](r *region) []T {
	if r.size == 0 {
		return nil
	}
	var zero T
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(r.words))), r.size/int(unsafe.Sizeof(zero)))
}

// Records are the records by row; the rows of nodes that are gone have FlagGone. Only to be read, until the next Set
// or Delete.
func (t *NodeTable) Records() []Record { return typed[Record](&t.nodes) }

// Pairs are what records' Labels and Taints refer to. Only to be read, until the next Set or Delete.
func (t *NodeTable) Pairs() []TablePair { return typed[TablePair](&t.pairs) }

// Quantities are what records' Quantities refer to. Only to be read, until the next Set or Delete.
func (t *NodeTable) Quantities() []TableQuantity { return typed[TableQuantity](&t.quantities) }

// Len is how many nodes there are.
func (t *NodeTable) Len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.rows)
}

// Row is where a node stands.
func (t *NodeTable) Row(name string) (uint32, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	row, ok := t.rows[name]
	return row, ok
}

// Name is the name of the node at a row; empty if there is none.
func (t *NodeTable) Name(row uint32) string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if records := t.Records(); int(row) < len(records) {
		return t.names[records[row].Name]
	}
	return ""
}

// Node is what the table keeps of the node at a row, with labels and resources in an order of its own.
func (t *NodeTable) Node(row uint32) Node {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if int(row) >= len(t.Records()) {
		return Node{}
	}
	r := t.Records()[row]
	n := Node{Name: t.names[r.Name], Unschedulable: r.Flags&FlagUnschedulable != 0, NotReady: r.Flags&FlagNotReady != 0, Pods: r.Pods, CreatedUnixMs: r.CreatedUnixMs}
	add := func(name uint32, allocatable, requested int64) {
		if allocatable != 0 {
			n.Allocatable = append(n.Allocatable, Quantity{t.names[name], allocatable})
		}
		if requested != 0 {
			n.Requested = append(n.Requested, Quantity{t.names[name], requested})
		}
	}
	for _, name := range []uint32{t.cpu, t.memory, t.ephemeral, t.gpu} {
		allocatable, requested := t.quantityOf(&r, name)
		add(name, allocatable, requested)
	}
	add(t.pods, 1000*int64(r.PodsAllocatable), 0)
	for _, q := range t.Quantities()[r.Quantities : r.Quantities+r.QuantityCount] {
		add(q.Name, q.Allocatable, q.Requested)
	}
	pairs := t.Pairs()
	for _, p := range pairs[r.Labels : r.Labels+r.LabelCount] {
		n.Labels = append(n.Labels, Pair{t.names[p.Key], t.names[p.Value]})
	}
	for i := range r.TaintCount {
		one, two := pairs[r.Taints+2*i], pairs[r.Taints+2*i+1]
		n.Taints = append(n.Taints, Taint{t.names[one.Key], t.names[one.Value], t.names[two.Key]})
	}
	return n
}

// RowVersion changes when the node at a row is Set, deleted or another one, and no other row ever has the same. What
// SetRequested does leaves it as it is.
func (t *NodeTable) RowVersion(row uint32) uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if int(row) >= len(t.set) {
		return 0
	}
	return t.set[row]
}

// AppendRows adds the rows of all nodes, ascending.
func (t *NodeTable) AppendRows(to []uint32) []uint32 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for i, r := range t.Records() {
		if r.Flags&FlagGone == 0 {
			to = append(to, uint32(i))
		}
	}
	return to
}

// Generation changes when strings get new ids, which makes what instances know of the old ones worthless.
func (t *NodeTable) Generation() uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.generation
}

// Set adds a node, or replaces the one of this name, and returns its row.
func (t *NodeTable) Set(n *Node) uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.version++
	row, ok := t.rows[n.Name]
	if !ok {
		row = t.newRow(n.Name)
	}
	t.set[row] = t.version
	r := t.Records()[row]
	r.Name, r.Flags, r.CreatedUnixMs = t.intern(n.Name), 0, n.CreatedUnixMs
	if n.Unschedulable {
		r.Flags |= FlagUnschedulable
	}
	if n.NotReady {
		r.Flags |= FlagNotReady
	}
	t.setLabels(&r, n.Labels)
	t.setTaints(&r, n.Taints)
	t.entries = t.entries[:0]
	r.CPUAllocatable, r.MemoryAllocatable, r.EphemeralAllocatable, r.GPUAllocatable, r.PodsAllocatable = 0, 0, 0, 0, 0
	for _, q := range n.Allocatable {
		switch id := t.intern(q.Name); id {
		case t.cpu:
			r.CPUAllocatable = q.Milli
		case t.memory:
			r.MemoryAllocatable = q.Milli / 1000
		case t.ephemeral:
			r.EphemeralAllocatable = q.Milli / 1000
		case t.gpu:
			r.GPUAllocatable = q.Milli
		case t.pods:
			r.PodsAllocatable = uint32(min(max(q.Milli/1000, 0), math.MaxUint32))
		default:
			t.entries = append(t.entries, TableQuantity{Name: id, Allocatable: q.Milli})
		}
	}
	t.setRequested(&r, n.Requested, n.Pods)
	t.put(row, &r)
	t.compactIfWorthwhile()
	return row
}

// SetRequested changes what the pods of a node request and how many they are: what a bind does. It costs less than
// Set; a node that isn't there is left alone.
func (t *NodeTable) SetRequested(name string, requested []Quantity, pods uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	row, ok := t.rows[name]
	if !ok {
		return
	}
	t.version++
	r := t.Records()[row]
	t.entries = t.entries[:0]
	for _, q := range t.Quantities()[r.Quantities : r.Quantities+r.QuantityCount] {
		if q.Allocatable != 0 {
			t.entries = append(t.entries, TableQuantity{Name: q.Name, Allocatable: q.Allocatable})
		}
	}
	t.setRequested(&r, requested, pods)
	t.put(row, &r)
}

// Delete frees a node's row.
func (t *NodeTable) Delete(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	row, ok := t.rows[name]
	if !ok {
		return
	}
	t.version++
	t.set[row] = t.version
	delete(t.rows, name)
	r := t.Records()[row]
	t.freePairs.give(r.Labels, int(r.LabelCount))
	t.freePairs.give(r.Taints, 2*int(r.TaintCount))
	t.freeQuants.give(r.Quantities, int(r.QuantityCount))
	t.put(row, &Record{Flags: FlagGone})
	t.freeRows = append(t.freeRows, row)
}

func (t *NodeTable) newRow(name string) uint32 {
	var row uint32
	if n := len(t.freeRows); n > 0 {
		row, t.freeRows = t.freeRows[n-1], t.freeRows[:n-1]
	} else {
		row = uint32(t.nodes.grow(RecordSize, t.version) / RecordSize)
		t.set = append(t.set, 0)
	}
	t.rows[name] = row
	return row
}

// put writes a record, and has the row's columns computed anew.
func (t *NodeTable) put(row uint32, r *Record) {
	t.Records()[row] = *r
	t.nodes.touch(int(row)*RecordSize, RecordSize, t.version)
}

func (t *NodeTable) setLabels(r *Record, labels []Pair) {
	t.labels = t.labels[:0]
	r.Zone, r.Region, r.HostName = 0, 0, 0
	for _, l := range labels {
		p := TablePair{t.intern(l.Key), t.intern(l.Value)}
		switch p.Key {
		case t.zone:
			r.Zone = p.Value
		case t.region:
			r.Region = p.Value
		case t.hostName:
			r.HostName = p.Value
		}
		t.labels = append(t.labels, p)
	}
	sortPairs(t.labels)
	r.Labels, r.LabelCount = setRun(&t.pairs, &t.freePairs, r.Labels, r.LabelCount, t.labels, t.version)
}

func (t *NodeTable) setTaints(r *Record, taints []Taint) {
	t.labels = t.labels[:0]
	for _, taint := range taints {
		t.labels = append(t.labels, TablePair{t.intern(taint.Key), t.intern(taint.Value)}, TablePair{t.intern(taint.Effect), 0})
	}
	first, n := setRun(&t.pairs, &t.freePairs, r.Taints, 2*r.TaintCount, t.labels, t.version)
	r.Taints, r.TaintCount = first, n/2
}

// setRequested fills what is requested into r and t.entries, and writes those.
func (t *NodeTable) setRequested(r *Record, requested []Quantity, pods uint32) {
	r.CPURequested, r.MemoryRequested, r.EphemeralRequested, r.GPURequested, r.Pods = 0, 0, 0, 0, pods
	for _, q := range requested {
		switch id := t.intern(q.Name); id {
		case t.cpu:
			r.CPURequested = q.Milli
		case t.memory:
			r.MemoryRequested = q.Milli / 1000
		case t.ephemeral:
			r.EphemeralRequested = q.Milli / 1000
		case t.gpu:
			r.GPURequested = q.Milli
		case t.pods:
		default:
			i := slices.IndexFunc(t.entries, func(e TableQuantity) bool { return e.Name == id })
			if i < 0 {
				i = len(t.entries)
				t.entries = append(t.entries, TableQuantity{Name: id})
			}
			t.entries[i].Requested = q.Milli
		}
	}
	sortQuantities(t.entries)
	r.Quantities, r.QuantityCount = setRun(&t.quantities, &t.freeQuants, r.Quantities, r.QuantityCount, t.entries, t.version)
}

// setRun makes the run of entries hold items, in place if there are as many.
func setRun[T comparable](in *region, free *runs, first, n uint32, items []T, version uint64) (uint32, uint32) {
	var zero T
	size := int(unsafe.Sizeof(zero))
	if int(n) != len(items) {
		free.give(first, int(n))
		var ok bool
		if first, ok = free.take(len(items)); !ok {
			first = uint32(in.grow(size*len(items), version) / size)
		}
		n = uint32(len(items))
	}
	if n == 0 {
		return 0, 0
	}
	if at := typed[T](in)[first : first+n]; !slices.Equal(at, items) {
		copy(at, items)
		in.touch(int(first)*size, int(n)*size, version)
	}
	return first, n
}

func sortPairs(ps []TablePair) {
	slices.SortFunc(ps, func(a, b TablePair) int { return cmp.Compare(a.Key, b.Key) })
}

func sortQuantities(qs []TableQuantity) {
	slices.SortFunc(qs, func(a, b TableQuantity) int { return cmp.Compare(a.Name, b.Name) })
}
