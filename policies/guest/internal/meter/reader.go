package meter

import (
	"fmt"
	"unicode/utf8"
)

// reader reads WebAssembly's encodings. The first error stays, and everything read after it is zero.
type reader struct {
	b   []byte
	pos int
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

func (r *reader) left() int { return len(r.b) - r.pos }

func (r *reader) byte() byte {
	if r.err != nil || r.pos >= len(r.b) {
		r.fail("unexpected end")
		return 0
	}
	r.pos++
	return r.b[r.pos-1]
}

func (r *reader) bytes(n int) []byte {
	if r.err != nil || n < 0 || n > r.left() {
		r.fail("unexpected end")
		return nil
	}
	r.pos += n
	return r.b[r.pos-n : r.pos]
}

func (r *reader) u32() uint32 {
	if r.err == nil && r.pos < len(r.b) && r.b[r.pos] < 0x80 { // most are short
		r.pos++
		return uint32(r.b[r.pos-1])
	}
	var v uint32
	for i := range 5 {
		c := r.byte()
		if i == 4 && c > 0x0f {
			r.fail("a number has more than 32 bits")
			return 0
		}
		v |= uint32(c&0x7f) << (7 * i)
		if c < 0x80 {
			return v
		}
	}
	return 0 // not reached: the fifth byte ends it or fails
}

// signed reads a signed number of at most that many bits.
func (r *reader) signed(bits int) int64 {
	var v int64
	most := (bits + 6) / 7
	for i := range most {
		c := r.byte()
		v |= int64(c&0x7f) << (7 * i)
		if c >= 0x80 {
			continue
		}
		used := bits - 7*i // of this byte
		if used < 7 {
			// The bits beyond must repeat the sign.
			sign := int8(c<<1) >> 1 >> (used - 1)
			if sign != 0 && sign != -1 {
				r.fail("a number has more than %d bits", bits)
				return 0
			}
		}
		if c&0x40 != 0 && 7*(i+1) < 64 {
			v |= -1 << (7 * (i + 1))
		}
		return v
	}
	r.fail("a number has more than %d bits", bits)
	return 0
}

// count reads the length of a vector whose elements take at least size bytes each.
func (r *reader) count(size int) int {
	n := int(r.u32())
	if n > r.left()/size {
		r.fail("a length of %d is more than what is there", n)
		return 0
	}
	return n
}

func (r *reader) name() string {
	b := r.bytes(r.count(1))
	if !utf8.Valid(b) {
		r.fail("a name isn't UTF-8")
		return ""
	}
	return string(b)
}

func appendU32(b []byte, v uint32) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func appendS64(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func appendName(b []byte, s string) []byte {
	return append(appendU32(b, uint32(len(s))), s...)
}
