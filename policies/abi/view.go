package abi

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// MaxColumns is how many columns a policy may ask for.
const MaxColumns = 64

// View is the table's records with the columns that some policies asked for.
type View struct {
	table      *NodeTable
	generation uint64 // of the ids in columns
	columns    []viewColumn
	stride     int

	mu      sync.Mutex // guards what follows; taken after the table's
	version uint64     // of the table, up to which the records are right
	records region     // unused without columns: then the table's own serve
}

type viewColumn struct {
	kind ColumnKind
	id   uint32
}

// View gives the records with these columns, at most MaxColumns. Policies that ask for the same share one.
func (t *NodeTable) View(columns []Column) *View {
	key := (&Configured{Columns: columns}).Append(nil)
	t.mu.Lock()
	defer t.mu.Unlock()
	if v, ok := t.views[string(key)]; ok {
		return v
	}
	if len(t.views) >= MaxColumns {
		clear(t.views) // those of policies that are gone; who still uses one keeps it
	}
	v := &View{table: t, generation: t.generation, stride: RecordSize + 8*len(columns)}
	t.version++
	for _, c := range columns {
		v.columns = append(v.columns, viewColumn{c.Kind, t.intern(c.Name)})
	}
	t.views[string(key)] = v
	return v
}

// refresh brings the records up to the table's version; both locks are held.
func (v *View) refresh() *region {
	t := v.table
	if len(v.columns) == 0 {
		return &t.nodes
	}
	if v.version == t.version {
		return &v.records
	}
	records := t.Records()
	if missing := len(records)*v.stride - v.records.size; missing > 0 {
		v.records.grow(missing, t.version)
	}
	base, to := t.nodes.bytes(), v.records.bytes()
	t.nodes.eachChange(v.version, func(from, until int) {
		for row := from / RecordSize; row < until/RecordSize; row++ {
			at := to[row*v.stride : (row+1)*v.stride]
			copy(at, base[row*RecordSize:(row+1)*RecordSize])
			for i, c := range v.columns {
				binary.NativeEndian.PutUint64(at[RecordSize+8*i:], t.column(c, &records[row]))
			}
			v.records.touch(row*v.stride, v.stride, t.version)
		}
	})
	v.version = t.version
	return &v.records
}

// column computes one column of one record.
func (t *NodeTable) column(c viewColumn, r *Record) uint64 {
	switch c.kind {
	case ColumnLabel:
		return uint64(t.labelOf(r, c.id))
	case ColumnLabelNumber:
		return math.Float64bits(decimal(t.names[t.labelOf(r, c.id)]))
	case ColumnAllocatable:
		allocatable, _ := t.quantityOf(r, c.id)
		return uint64(allocatable)
	case ColumnRequested:
		_, requested := t.quantityOf(r, c.id)
		return uint64(requested)
	}
	return 0
}

func (t *NodeTable) labelOf(r *Record, key uint32) uint32 {
	labels := t.Pairs()[r.Labels : r.Labels+r.LabelCount]
	i, ok := slices.BinarySearchFunc(labels, key, func(p TablePair, key uint32) int { return cmp.Compare(p.Key, key) })
	if !ok {
		return 0
	}
	return labels[i].Value
}

func (t *NodeTable) quantityOf(r *Record, name uint32) (allocatable, requested int64) {
	switch name {
	case t.cpu:
		return r.CPUAllocatable, r.CPURequested
	case t.memory:
		return 1000 * r.MemoryAllocatable, 1000 * r.MemoryRequested
	case t.ephemeral:
		return 1000 * r.EphemeralAllocatable, 1000 * r.EphemeralRequested
	case t.gpu:
		return r.GPUAllocatable, r.GPURequested
	case t.pods:
		return 1000 * int64(r.PodsAllocatable), 1000 * int64(r.Pods)
	}
	for _, q := range t.Quantities()[r.Quantities : r.Quantities+r.QuantityCount] {
		if q.Name == name {
			return q.Allocatable, q.Requested
		}
	}
	return 0, 0
}

// decimal reads a number such as -1.5e3; NaN where it is none.
func decimal(s string) float64 {
	if strings.Trim(s, "0123456789+-.eE") != "" {
		return math.NaN() // what ParseFloat would take beside: 0x1p3, inf, 1_000
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return math.NaN()
	}
	return f
}
