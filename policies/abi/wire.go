package abi

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// The messages of policy.proto are written and read by hand: they are few, each call needs them, and this costs
// no reflection. Append writes to the end of a slice; Decode reads into a zero message and copies what it keeps.
// A field that isn't known is skipped.

// ErrMalformed is what a message is that isn't protobuf, or isn't the message it was said to be.
var ErrMalformed = errors.New("malformed message")

// maxItems bounds each list of a message that was read: two bytes on the wire may become 32 in memory.
const maxItems = 10_000

func putVarint(b []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	b = protowire.AppendTag(b, num, protowire.VarintType)
	return protowire.AppendVarint(b, v)
}

func putBool(b []byte, num protowire.Number, v bool) []byte {
	return putVarint(b, num, protowire.EncodeBool(v))
}

func putBytes(b []byte, num protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	b = protowire.AppendTag(b, num, protowire.BytesType)
	return protowire.AppendBytes(b, v)
}

func putString(b []byte, num protowire.Number, v string) []byte {
	if v == "" {
		return b
	}
	b = protowire.AppendTag(b, num, protowire.BytesType)
	return protowire.AppendString(b, v)
}

// putStrings writes a list, whose members may be empty.
func putStrings(b []byte, num protowire.Number, vs []string) []byte {
	for _, v := range vs {
		b = protowire.AppendTag(b, num, protowire.BytesType)
		b = protowire.AppendString(b, v)
	}
	return b
}

// begin opens a message within a message; end, given what begin returned, closes it.
func begin(b []byte, num protowire.Number) ([]byte, int) {
	b = protowire.AppendTag(b, num, protowire.BytesType)
	return append(b, 0), len(b) + 1
}

func end(b []byte, at int) []byte {
	size := len(b) - at
	more := protowire.SizeVarint(uint64(size)) - 1
	if more > 0 { // the length takes more than the byte that was left for it
		b = append(b, make([]byte, more)...)
		copy(b[at+more:], b[at:at+size])
	}
	protowire.AppendVarint(b[:at-1], uint64(size))
	return b
}

// field is one field as it was read: num for a number, bytes (which alias the message) for the rest.
type field struct {
	num   protowire.Number
	typ   protowire.Type
	value uint64
	bytes []byte
}

// is tells whether f is field num of that wire type. One of another type is not known, and skipped.
func (f *field) is(num protowire.Number, typ protowire.Type) bool {
	return f.num == num && f.typ == typ
}

const (
	number = protowire.VarintType
	data   = protowire.BytesType
)

// next reads one field from b and returns what follows it.
func (f *field) next(b []byte) ([]byte, error) {
	num, typ, n := protowire.ConsumeTag(b)
	if n < 0 {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, protowire.ParseError(n))
	}
	if num > protowire.MaxValidNumber {
		return nil, fmt.Errorf("%w: no field has number %d", ErrMalformed, num)
	}
	b = b[n:]
	f.num, f.typ, f.value, f.bytes = num, typ, 0, nil
	switch typ {
	case protowire.VarintType:
		f.value, n = protowire.ConsumeVarint(b)
	case protowire.BytesType:
		f.bytes, n = protowire.ConsumeBytes(b)
	default:
		n = protowire.ConsumeFieldValue(num, typ, b)
	}
	if n < 0 {
		return nil, fmt.Errorf("%w: field %d: %w", ErrMalformed, num, protowire.ParseError(n))
	}
	return b[n:], nil
}

// eachField calls fn for every field of b.
func eachField(b []byte, fn func(f *field) error) error {
	var f field
	var err error
	for len(b) > 0 {
		if b, err = f.next(b); err != nil {
			return err
		}
		if err = fn(&f); err != nil {
			return err
		}
	}
	return nil
}

func (f *field) str(to *string) error {
	if !utf8.Valid(f.bytes) {
		return fmt.Errorf("%w: field %d is not UTF-8", ErrMalformed, f.num)
	}
	*to = string(f.bytes)
	return nil
}

func (f *field) add(to *[]string) error {
	var s string
	if err := f.room(len(*to)); err != nil {
		return err
	}
	err := f.str(&s)
	*to = append(*to, s)
	return err
}

func (f *field) room(n int) error {
	if n >= maxItems {
		return fmt.Errorf("%w: field %d has more than %d entries", ErrMalformed, f.num, maxItems)
	}
	return nil
}

func (f *field) raw(to *[]byte) error {
	*to = append([]byte(nil), f.bytes...)
	return nil
}

// addMessage appends a message to a list and reads it.
func addMessage[T any, P interface {
	*T
	Decode([]byte) error
}](f *field, to *[]T) error {
	if err := f.room(len(*to)); err != nil {
		return err
	}
	*to = append(*to, *new(T))
	return P(&(*to)[len(*to)-1]).Decode(f.bytes)
}
