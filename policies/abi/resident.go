package abi

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unsafe"
)

// Memory is an instance's memory, as far as the node table needs it.
type Memory interface {
	// Region asks the guest for a region of at least size bytes and returns its address.
	Region(ctx context.Context, kind int, size uint32) (uint32, error)
	// View is the guest's memory itself, until the guest is called again; an error if it has no such bytes.
	View(address, size uint32) ([]byte, error)
}

// ErrStale is what Sync says when strings have got new ids: the instance knows the old ones and is of no use.
var ErrStale = errors.New("the node table has begun a generation")

// Resident is the node table in one instance's memory. It belongs to that instance's call.
type Resident struct {
	view    *View
	address [Regions]uint32
	size    [Regions]uint32 // that the guest has given
	written [Regions]uint64 // the table's version up to which the region is right, and one; 0: nothing is
	header  []byte
}

// NewResident makes one for an instance that has none of the table yet.
func NewResident(v *View) *Resident {
	return &Resident{view: v}
}

// Sync writes what has changed since the last Sync, the rows of the candidates, and zero verdicts and scores.
// It calls the guest only where a region must grow.
func (r *Resident) Sync(ctx context.Context, p *Placement, m Memory) error {
	if p.Nodes != r.view.table {
		return ErrStale
	}
	for {
		if err := r.makeRoom(ctx, len(p.Rows), m); err != nil {
			return err
		}
		// A region is too small after all only if another guest interned something meanwhile.
		if fits, err := r.write(p, m); fits || err != nil {
			return err
		}
	}
}

// sizes are how large the regions must be.
func (r *Resident) sizes(candidates int) (sizes [Regions]uint32) {
	t := r.view.table
	list := uint32(4 * candidates)
	sizes[RegionHeader] = HeaderSize
	sizes[RegionNodes] = uint32(t.nodes.size / RecordSize * r.view.stride)
	sizes[RegionPairs], sizes[RegionQuantities] = uint32(t.pairs.size), uint32(t.quantities.size)
	sizes[RegionStrings], sizes[RegionBytes] = uint32(t.strings.size), uint32(t.text.size)
	sizes[RegionRows], sizes[RegionVerdicts], sizes[RegionScores] = list, list, list
	return sizes
}

// makeRoom asks the guest for what is too small. No lock is held: the guest may call back.
func (r *Resident) makeRoom(ctx context.Context, candidates int, m Memory) error {
	t := r.view.table
	t.mu.RLock()
	sizes := r.sizes(candidates)
	t.mu.RUnlock()
	for kind, size := range sizes {
		if size <= r.size[kind] {
			continue
		}
		if kind != RegionHeader {
			size += size/4 + 256 // room to grow into
		}
		at, err := m.Region(ctx, kind, size)
		if err != nil {
			return err
		}
		if at == 0 || at%8 != 0 {
			return fmt.Errorf("pintle_region gave address %d for region %d of %d bytes: wanted is one that is aligned to 8 and not 0", at, kind, size)
		}
		r.address[kind], r.size[kind], r.written[kind] = at, size, 0
		if kind == RegionBytes {
			r.written[RegionStrings] = 0 // they hold addresses of it
		}
	}
	return nil
}

// write copies under the locks; it tells whether the regions were large enough.
func (r *Resident) write(p *Placement, m Memory) (fits bool, err error) {
	t, v := r.view.table, r.view
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.generation != v.generation {
		return false, ErrStale
	}
	for kind, size := range r.sizes(len(p.Rows)) {
		if size > r.size[kind] {
			return false, nil
		}
	}
	v.mu.Lock()
	err = r.copyChanges(RegionNodes, v.refresh(), m)
	v.mu.Unlock()
	if err != nil {
		return false, err
	}
	for _, c := range [...]struct {
		kind int
		from *region
	}{{RegionPairs, &t.pairs}, {RegionBytes, &t.text}, {RegionQuantities, &t.quantities}, {RegionStrings, &t.strings}} {
		if err := r.copyChanges(c.kind, c.from, m); err != nil {
			return false, err
		}
	}
	if err := r.writeLists(p, m); err != nil {
		return false, err
	}
	h := Header{Stride: uint32(v.stride), Records: uint32(t.nodes.size / RecordSize), Candidates: uint32(len(p.Rows)),
		Address: r.address, Strings: uint32(len(t.names))}
	to, err := m.View(r.address[RegionHeader], HeaderSize)
	if err != nil {
		return false, err
	}
	r.header = h.Append(r.header[:0])
	copy(to, r.header)
	return true, nil
}

func (r *Resident) copyChanges(kind int, from *region, m Memory) error {
	t := r.view.table
	if r.written[kind] == t.version+1 || from.size == 0 {
		return nil
	}
	to, err := m.View(r.address[kind], uint32(from.size))
	if err != nil {
		return err
	}
	bytes := from.bytes()
	since := r.written[kind]
	change := func(start, end int) {
		copy(to[start:end], bytes[start:end])
		if kind == RegionStrings {
			base := r.address[RegionBytes]
			for at := start; at < end; at += 8 {
				binary.LittleEndian.PutUint32(to[at:], base+binary.NativeEndian.Uint32(bytes[at:]))
			}
		}
	}
	if since == 0 {
		change(0, from.size)
	} else {
		from.eachChange(since-1, change)
	}
	r.written[kind] = t.version + 1
	return nil
}

func (r *Resident) writeLists(p *Placement, m Memory) error {
	size := uint32(4 * len(p.Rows))
	if size == 0 {
		return nil
	}
	for _, kind := range [...]int{RegionRows, RegionVerdicts, RegionScores} {
		to, err := m.View(r.address[kind], size)
		if err != nil {
			return err
		}
		if kind == RegionRows {
			copy(to, bytesOf(p.Rows))
		} else {
			clear(to)
		}
	}
	return nil
}

// Take reads verdicts and scores, after the guest has been called and p.Reasons is what it returned. Scores below 0
// or above 100 are taken for these; a verdict without a reason is an error.
func (r *Resident) Take(p *Placement, m Memory) error {
	p.Verdicts, p.Scores = resize(p.Verdicts, len(p.Rows)), resize(p.Scores, len(p.Rows))
	size := uint32(4 * len(p.Rows))
	if size == 0 {
		return nil
	}
	verdicts, err := m.View(r.address[RegionVerdicts], size)
	if err != nil {
		return err
	}
	copy(bytesOf(p.Verdicts), verdicts)
	scores, err := m.View(r.address[RegionScores], size)
	if err != nil {
		return err
	}
	copy(bytesOf(p.Scores), scores)
	if exceeds(p.Verdicts, uint32(min(len(p.Reasons), math.MaxInt32))) {
		return fmt.Errorf("%w: a verdict is greater than the number of reasons, %d", ErrMalformed, len(p.Reasons))
	}
	if exceeds(p.Scores, 100) {
		for i, s := range p.Scores {
			p.Scores[i] = min(max(s, 0), 100)
		}
	}
	return nil
}

// exceeds tells whether any of the numbers, taken as unsigned, is greater than most, which is less than 1<<31. If
// most is all ones (verdicts of one reason are 0 or 1), a number that has the bits of all others tells. Else it looks at two at
// a time: a half's highest bit is set in the number, or in its sum with what is added.
func exceeds[T int32 | uint32](numbers []T, most uint32) bool {
	const high = 1<<63 | 1<<31
	var fours [][4]uint64
	if n := len(numbers) / 8; n > 0 {
		fours = unsafe.Slice((*[4]uint64)(unsafe.Pointer(unsafe.SliceData(numbers))), n)
	}
	rest := numbers[8*len(fours):]
	for _, n := range rest {
		if uint32(n) > most {
			return true
		}
	}
	var a, b, c, d uint64 // nothing in a turn waits for anything else in it
	if most&(most+1) == 0 {
		for i := range fours {
			four := &fours[i]
			a |= four[0]
			b |= four[1]
			c |= four[2]
			d |= four[3]
		}
		a |= b | c | d
		if uint32(a|a>>32) <= most {
			return false
		}
	}
	add := uint64(math.MaxInt32-most) * (1<<32 | 1)
	for i := range fours {
		four := &fours[i]
		a |= four[0] | (four[0] + add)
		b |= four[1] | (four[1] + add)
		c |= four[2] | (four[2] + add)
		d |= four[3] | (four[3] + add)
	}
	return (a|b|c|d)&high != 0
}
