// Package wire reads protobuf where it lies, and writes it by appending.
package wire

import "unsafe"

// Field is one field of a message: a number's value, or the bytes of what has a length.
type Field struct {
	Number uint32
	Value  uint64
	Bytes  []byte
}

// String is the field's bytes, where they lie.
func (f *Field) String() string { return String(f.Bytes) }

// String is b as a string, where it lies.
func String(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// Reader walks the fields of a message. What is no protobuf is a panic, which in a guest is the trap that the ABI wants.
type Reader struct {
	b []byte
}

// Read starts at the beginning of a message.
func Read(message []byte) Reader { return Reader{message} }

// Rest is what has not been read.
func (r *Reader) Rest() []byte { return r.b }

// Next takes the next field. False at the end.
func (r *Reader) Next(f *Field) bool {
	if len(r.b) == 0 {
		return false
	}
	tag := r.varint()
	f.Number, f.Value, f.Bytes = uint32(tag>>3), 0, nil
	n := uint64(0)
	switch tag & 7 {
	case 0:
		f.Value = r.varint()
		return true
	case 2:
		n = r.varint()
	case 1: // of a later version: skipped
		n = 8
	case 5:
		n = 4
	default:
		panic("pintle: a message is malformed")
	}
	if n > uint64(len(r.b)) {
		panic("pintle: a message is cut off")
	}
	f.Bytes, r.b = r.b[:n:n], r.b[n:]
	return true
}

func (r *Reader) varint() uint64 {
	v := uint64(0)
	for i := 0; i < len(r.b) && i < 10; i++ {
		c := r.b[i]
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			r.b = r.b[i+1:]
			return v
		}
	}
	panic("pintle: a number is cut off")
}

// AppendVarint appends a number without its field.
func AppendVarint(to []byte, v uint64) []byte {
	for ; v >= 0x80; v >>= 7 {
		to = append(to, byte(v)|0x80)
	}
	return append(to, byte(v))
}

// AppendNumber appends a number's field; nothing for zero.
func AppendNumber(to []byte, field uint32, v uint64) []byte {
	if v == 0 {
		return to
	}
	return AppendVarint(AppendVarint(to, uint64(field)<<3), v)
}

// AppendBytes appends a field with a length.
func AppendBytes[T string | []byte](to []byte, field uint32, b T) []byte {
	to = AppendVarint(to, uint64(field)<<3|2)
	to = AppendVarint(to, uint64(len(b)))
	return append(to, b...)
}

// AppendString appends a string's field; nothing for the empty one.
func AppendString(to []byte, field uint32, s string) []byte {
	if s == "" {
		return to
	}
	return AppendBytes(to, field, s)
}
