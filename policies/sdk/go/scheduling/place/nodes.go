package place

import (
	"unsafe"

	"github.com/pintle/pintle/policies/sdk/go/internal/guest"
	"github.com/pintle/pintle/policies/sdk/go/internal/wire"
)

// Node is a node's record, where it lies. Strings are ids; 0 is the empty string.
type Node struct {
	Name                      uint32
	Flags                     uint32
	CPU, CPURequested         int64 // thousandths of a core
	Memory, MemoryRequested   int64 // bytes
	Storage, StorageRequested int64 // ephemeral, bytes
	GPU, GPURequested         int64 // thousandths of a GPU
	Pods, PodsThere           uint32
	labels, labelCount        uint32
	taints, taintCount        uint32
	quantities, quantityCount uint32
	Zone, Region, HostName    uint32
	_                         uint32
	CreatedMs                 int64 // Unix time
}

// The record's fixed part has 128 bytes: this doesn't compile otherwise.
var _ = [1]struct{}{}[unsafe.Sizeof(Node{})-128]

// Flags of a node.
const (
	Gone uint32 = 1 << iota
	Unschedulable
	NotReady
)

// Pair is a label, or half of a taint, by ids.
type Pair struct{ Key, Value uint32 }

// Nodes is the node table of a call. Candidate i is Node(i); Verdicts and Scores are by candidate, and are zero when the
// call begins: a verdict of 0 passes, one that Reason returned refuses; scores go from 0 to 100, best.
type Nodes struct {
	Verdicts []uint32
	Scores   []int32

	rows    []uint32
	records unsafe.Pointer
	stride  uintptr
	header  *[16]uint32
	reasons []byte
	refusal uint32
}

// array is n values at an address that the host wrote.
func array[T any](address, n uint32) []T {
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*T)(guest.At(address)), n)
}

// open reads the header that the host wrote.
func (t *Nodes) open(header unsafe.Pointer, reasons []byte) {
	h := (*[16]uint32)(header)
	*t = Nodes{
		Verdicts: array[uint32](h[9], h[3]), Scores: array[int32](h[10], h[3]), rows: array[uint32](h[8], h[3]),
		records: guest.At(h[4]), stride: uintptr(h[1]), header: h, reasons: reasons,
	}
}

// Len is the number of candidates.
func (t *Nodes) Len() int { return len(t.rows) }

// Rows are the candidates' rows in the table, and Row is the record of one: for i, row := range nodes.Rows() is the quickest
// way through.
func (t *Nodes) Rows() []uint32 { return t.rows }

// Row is the record at a row.
func (t *Nodes) Row(row uint32) *Node { return (*Node)(unsafe.Add(t.records, uintptr(row)*t.stride)) }

// Node is a candidate's record.
func (t *Nodes) Node(candidate int) *Node {
	return (*Node)(unsafe.Add(t.records, uintptr(t.rows[candidate])*t.stride))
}

func (t *Nodes) column(n *Node, nth int) unsafe.Pointer {
	if offset := 128 + 8*uintptr(nth); offset+8 <= t.stride {
		return unsafe.Add(unsafe.Pointer(n), offset)
	}
	panic("pintle: the policy asked for fewer columns")
}

// Label is the nth column, a pintle.Label: the id of the label's value, 0 without the label.
func (t *Nodes) Label(n *Node, nth int) uint32 { return *(*uint32)(t.column(n, nth)) }

// Number is the nth column, a pintle.LabelNumber: NaN where the label is no number.
func (t *Nodes) Number(n *Node, nth int) float64 { return *(*float64)(t.column(n, nth)) }

// Quantity is the nth column, pintle.Allocatable or pintle.Requested, in thousandths.
func (t *Nodes) Quantity(n *Node, nth int) int64 { return *(*int64)(t.column(n, nth)) }

// String is the string with an id.
func (t *Nodes) String(id uint32) string {
	if id >= t.header[12] {
		return ""
	}
	s := array[[2]uint32](t.header[6], t.header[12])[id]
	return wire.String(array[byte](s[0], s[1]))
}

func (t *Nodes) pairs(first, n uint32) []Pair {
	if n == 0 {
		return nil
	}
	return array[Pair](t.header[5], first+n)[first:]
}

// Labels are a node's labels, sorted by the key's id. A column is quicker than a search.
func (t *Nodes) Labels(n *Node) []Pair { return t.pairs(n.labels, n.labelCount) }

// Taints are a node's taints, two pairs each: (key, value), (effect, 0).
func (t *Nodes) Taints(n *Node) []Pair { return t.pairs(n.taints, 2*n.taintCount) }

// Reason says why nodes are refused, worded to follow a count of nodes. It returns the verdict that means it.
func (t *Nodes) Reason(reason string) uint32 {
	t.reasons = wire.AppendBytes(t.reasons, 1, reason)
	t.refusal++
	return t.refusal
}
