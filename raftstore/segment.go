package raftstore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/hashicorp/raft"
)

// A segment is a header and records.
//
//	header  "PINTLOG1", first index u64, crc32c u32 of the 16 bytes before
//	record  length u32 of what follows crc, crc32c u32 of it, then
//	        synced u32, index u64, term u64, type u8, appended unix ns i64, ext length u32, ext, data
//
// Little-endian. synced is the size that the segment had when the write of this record's batch
// began: everything below was synced before. It tells a torn tail, which nobody was promised, from
// damage to what was acknowledged.
const (
	segMagic   = "PINTLOG1"
	segHeader  = 8 + 8 + 4
	recHeader  = 8
	recFixed   = 4 + 8 + 8 + 1 + 8 + 4
	maxRecord  = 1 << 30
	segMaxSize = 8 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func encodeSegHeader(first uint64) []byte {
	b := append([]byte(segMagic), binary.LittleEndian.AppendUint64(nil, first)...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeSegHeader(b []byte) (first uint64, ok bool) {
	if len(b) < segHeader || string(b[:8]) != segMagic ||
		binary.LittleEndian.Uint32(b[16:]) != crc32.Checksum(b[:16], castagnoli) {
		return 0, false
	}
	return binary.LittleEndian.Uint64(b[8:]), true
}

func appendRecord(b []byte, l *raft.Log, synced uint32) []byte {
	le := binary.LittleEndian
	start := len(b)
	b = le.AppendUint32(b, uint32(recFixed+len(l.Extensions)+len(l.Data)))
	b = le.AppendUint32(b, 0)
	b = le.AppendUint32(b, synced)
	b = le.AppendUint64(b, l.Index)
	b = le.AppendUint64(b, l.Term)
	b = append(b, byte(l.Type))
	var at int64
	if !l.AppendedAt.IsZero() {
		at = l.AppendedAt.UnixNano()
	}
	b = le.AppendUint64(b, uint64(at))
	b = le.AppendUint32(b, uint32(len(l.Extensions)))
	b = append(b, l.Extensions...)
	b = append(b, l.Data...)
	le.PutUint32(b[start+4:], crc32.Checksum(b[start+recHeader:], castagnoli))
	return b
}

// parseRecord reads the record at the start of b; its slices alias b.
func parseRecord(b []byte, l *raft.Log) (size int, synced uint32, ok bool) {
	le := binary.LittleEndian
	if len(b) < recHeader+recFixed {
		return 0, 0, false
	}
	n := int(le.Uint32(b))
	if n < recFixed || n > maxRecord || n > len(b)-recHeader {
		return 0, 0, false
	}
	body := b[recHeader : recHeader+n]
	if le.Uint32(b[4:]) != crc32.Checksum(body, castagnoli) {
		return 0, 0, false
	}
	ext := int(le.Uint32(body[29:]))
	if ext > n-recFixed {
		return 0, 0, false
	}
	*l = raft.Log{Index: le.Uint64(body[4:]), Term: le.Uint64(body[12:]), Type: raft.LogType(body[20])}
	if at := int64(le.Uint64(body[21:])); at != 0 {
		l.AppendedAt = time.Unix(0, at)
	}
	if ext > 0 {
		l.Extensions = body[recFixed : recFixed+ext]
	}
	l.Data = body[recFixed+ext:]
	return recHeader + n, le.Uint32(body), true
}

// scanSegment finds the records of a segment's bytes. good is where the last sound one ends.
func scanSegment(b []byte, first uint64) (offsets []uint32, good int, err error) {
	var l raft.Log
	good = segHeader
	for good < len(b) {
		size, _, ok := parseRecord(b[good:], &l)
		if !ok {
			break
		}
		if want := first + uint64(len(offsets)); l.Index != want {
			return nil, 0, fmt.Errorf("%w: entry %d where %d belongs", ErrCorrupt, l.Index, want)
		}
		offsets = append(offsets, uint32(good))
		good += size
	}
	// Is there a sound record further on that was written after this place had been synced?
	next := first + uint64(len(offsets))
	for at := good + 1; at < len(b); at++ {
		if _, synced, ok := parseRecord(b[at:], &l); ok && l.Index > next && int(synced) > good {
			return nil, 0, fmt.Errorf("%w: entry %d is damaged, and entry %d after it is not", ErrCorrupt, next, l.Index)
		}
	}
	return offsets, good, nil
}
