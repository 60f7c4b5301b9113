package abi

import (
	"encoding/binary"
	"unsafe"
)

// RecordSize is how many bytes the fixed part of a node's record has.
const RecordSize = 128

// Record is the fixed part of a node's record, as README.md lays it out: a guest finds these bytes in its memory.
// Numbers of strings are ids (NodeTable.String).
type Record struct {
	Name                 uint32
	Flags                uint32
	CPUAllocatable       int64 // thousandths of a core
	CPURequested         int64
	MemoryAllocatable    int64 // bytes
	MemoryRequested      int64
	EphemeralAllocatable int64 // bytes
	EphemeralRequested   int64
	GPUAllocatable       int64 // thousandths of a GPU
	GPURequested         int64
	PodsAllocatable      uint32
	Pods                 uint32
	Labels               uint32 // first pair
	LabelCount           uint32
	Taints               uint32 // first pair
	TaintCount           uint32 // each takes two pairs
	Quantities           uint32 // first
	QuantityCount        uint32
	Zone                 uint32
	Region               uint32
	HostName             uint32
	_                    uint32
	CreatedUnixMs        int64
}

// Flags of a record.
const (
	FlagGone          = 1 // the row holds no node
	FlagUnschedulable = 2
	FlagNotReady      = 4
)

// TablePair is an entry of the pairs: ids of key and value.
type TablePair struct{ Key, Value uint32 }

// TableQuantity is an entry of the quantities.
type TableQuantity struct {
	Name        uint32
	_           uint32
	Allocatable int64 // thousandths
	Requested   int64
}

// Regions of a guest's memory, as pintle_region numbers them.
const (
	RegionHeader = iota
	RegionNodes
	RegionPairs
	RegionStrings
	RegionBytes
	RegionRows
	RegionVerdicts
	RegionScores
	RegionQuantities
	Regions // how many there are
)

// HeaderSize is how many bytes the header has.
const HeaderSize = 64

// Header is the first region.
type Header struct {
	Stride     uint32
	Records    uint32
	Candidates uint32
	Address    [Regions]uint32 // by region; that of the header itself is not written
	Strings    uint32
}

// Append writes h to the end of b.
func (h *Header) Append(b []byte) []byte {
	a := &h.Address
	for _, v := range [...]uint32{Version, h.Stride, h.Records, h.Candidates, a[RegionNodes], a[RegionPairs], a[RegionStrings],
		a[RegionBytes], a[RegionRows], a[RegionVerdicts], a[RegionScores], a[RegionQuantities], h.Strings, 0, 0, 0} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

// LittleEndian tells whether this machine keeps numbers as guests do. On others a NodeTable's bytes are no guest's:
// WebAssembly is compiled for little-endian machines only, so policies that place pods are refused there.
func LittleEndian() bool {
	one := uint16(1)
	return *(*byte)(unsafe.Pointer(&one)) == 1
}

// bytesOf is the memory of s.
func bytesOf[T any](s []T) []byte {
	if len(s) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s))), len(s)*int(unsafe.Sizeof(s[0])))
}
