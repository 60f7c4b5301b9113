package raftstore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/encoding/protowire"
)

// A segment is a header and records. The header is a magic word, first index u64, data key u32 and
// the CRC-32C of these, little-endian; a record is a LogRecord in a frame.
//
// LogRecord.synced is the size that the segment had when the write of this record's batch began:
// everything below was synced before. It tells a torn tail, which nobody was promised, from damage to
// what was acknowledged.
const (
	segMagic   = "PINTLOG1"
	segHeader  = 8 + 8 + 4 + 4
	maxRecord  = 1 << 30
	segMaxSize = 8 << 20
	segSuffix  = ".seg"
)

func encodeSegHeader(first uint64, key uint32) []byte {
	b := append([]byte(segMagic), binary.LittleEndian.AppendUint64(nil, first)...)
	b = binary.LittleEndian.AppendUint32(b, key)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeSegHeader(b []byte) (first uint64, key uint32, ok bool) {
	const sum = segHeader - 4
	if len(b) < segHeader || string(b[:8]) != segMagic ||
		binary.LittleEndian.Uint32(b[sum:]) != crc32.Checksum(b[:sum], castagnoli) {
		return 0, 0, false
	}
	return binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint32(b[16:]), true
}

// appendRecord writes an entry to the end of a segment whose records are sealed by seal. What is
// sealed are the entry's data; they are bound to the fields before them.
func appendRecord(b []byte, l *raft.Log, synced uint32, seal *sealer) []byte {
	start := len(b)
	b = beginChecked(b)
	b = putFixed32(b, 1, synced)
	b = putVarint(b, 2, l.Index)
	b = putVarint(b, 3, l.Term)
	b = putVarint(b, 4, uint64(l.Type))
	if !l.AppendedAt.IsZero() {
		b = putVarint(b, 5, uint64(l.AppendedAt.UnixNano()))
	}
	place := b[start+checkedHeader:]
	if seal.id == 0 {
		n := sizeBytes(1, l.Extensions) + sizeBytes(2, l.Data)
		b = protowire.AppendVarint(protowire.AppendTag(b, 6, protowire.BytesType), uint64(n))
		b = putBytes(putBytes(b, 1, l.Extensions), 2, l.Data)
	} else {
		payload := putBytes(putBytes(seal.scratch[:0], 1, l.Extensions), 2, l.Data)
		if cap(payload) <= 2<<20 { // a larger one should not stay in memory
			seal.scratch = payload
		}
		nonce := seal.next()
		b = protowire.AppendVarint(protowire.AppendTag(b, 6, protowire.BytesType), uint64(len(payload)+sealTag))
		b = seal.aead.Seal(b, nonce[12:], payload, place)
		b = putBytes(b, 7, nonce)
	}
	endChecked(b, start)
	return b
}

func sizeBytes(num protowire.Number, v []byte) int {
	if len(v) == 0 {
		return 0
	}
	return protowire.SizeTag(num) + protowire.SizeBytes(len(v))
}

// record is a LogRecord whose data are not opened yet. Its slices alias what it was parsed from.
type record struct {
	raft.Log
	synced  uint32
	payload []byte
	nonce   []byte
	place   []byte
}

// parseRecord reads the record at the start of b; ok is false where no sound one is.
func parseRecord(b []byte) (r record, size int, ok bool) {
	msg, size, ok := readChecked(b)
	if !ok {
		return record{}, 0, false
	}
	err := eachField(msg, func(num protowire.Number, v uint64, bs []byte) error {
		switch num {
		case 1:
			r.synced = uint32(v)
		case 2:
			r.Index = v
		case 3:
			r.Term = v
		case 4:
			r.Type = raft.LogType(min(v, math.MaxUint8))
		case 5:
			r.AppendedAt = time.Unix(0, int64(v))
		case 6:
			r.payload = bs
		case 7:
			r.nonce = bs
		default:
			return unknownField("LogRecord", num)
		}
		return nil
	})
	if err != nil || r.payload == nil {
		return record{}, 0, false
	}
	// The fields before the payload, which begins with a tag of one byte and its length.
	tail := 1 + protowire.SizeBytes(len(r.payload))
	if len(r.nonce) > 0 {
		tail += 1 + protowire.SizeBytes(len(r.nonce))
	}
	if tail > len(msg) {
		return record{}, 0, false
	}
	r.place = msg[:len(msg)-tail]
	return r, size, true
}

// open fills in the data of the entry; key is the segment's.
func (r *record) open(ring *keyring, key uint32) error {
	payload := r.payload
	if key != 0 {
		o := ring.opener()
		var err error
		if payload, err = o.open(key, r.nonce, r.payload, r.place); err != nil {
			return err
		}
	}
	return eachField(payload, func(num protowire.Number, _ uint64, bs []byte) error {
		switch num {
		case 1:
			r.Extensions = bs
		case 2:
			r.Data = bs
		default:
			return unknownField("LogPayload", num)
		}
		return nil
	})
}

// syncedBeyond says whether b could begin with a record whose synced is greater than size, without the cost of its
// checksum: behind the last record may stand megabytes of what the file held before.
func syncedBeyond(b []byte, size int) bool {
	const at = checkedHeader
	return len(b) > at+5 && b[at] == byte(protowire.EncodeTag(1, protowire.Fixed32Type)) &&
		b[at+5] == byte(protowire.EncodeTag(2, protowire.VarintType)) &&
		int64(binary.LittleEndian.Uint32(b[at+1:])) > int64(size)
}

// scanSegment finds the records of a segment's bytes. good is where the last sound one ends.
func scanSegment(b []byte, first uint64) (offsets []uint32, good int, err error) {
	good = segHeader
	for good < len(b) {
		r, size, ok := parseRecord(b[good:])
		if !ok {
			break
		}
		if r.Index < first {
			break // the file held it before
		}
		if want := first + uint64(len(offsets)); r.Index != want {
			return nil, 0, fmt.Errorf("%w: entry %d where %d belongs", ErrCorrupt, r.Index, want)
		}
		offsets = append(offsets, uint32(good))
		good += size
	}
	// Is there a sound record further on that was written after this place had been synced?
	next := first + uint64(len(offsets))
	for at := good + 1; at < len(b); at++ {
		if !syncedBeyond(b[at:], good) {
			continue
		}
		if r, _, ok := parseRecord(b[at:]); ok && r.Index > next && int(r.synced) > good {
			return nil, 0, fmt.Errorf("%w: entry %d is damaged, and entry %d after it is not", ErrCorrupt, next, r.Index)
		}
	}
	return offsets, good, nil
}
