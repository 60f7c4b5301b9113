package raftstore

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// The bytes of the log, the state file and the backup are the protobuf messages of store.proto,
// written by hand: the messages are few, and this costs no reflection and no generated code.
// An unknown field is an error, because a replica that skips what it does not know diverges.

func putVarint(b []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	b = protowire.AppendTag(b, num, protowire.VarintType)
	return protowire.AppendVarint(b, v)
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

func putFixed32(b []byte, num protowire.Number, v uint32) []byte {
	b = protowire.AppendTag(b, num, protowire.Fixed32Type)
	return protowire.AppendFixed32(b, v)
}

// putMessage writes a message even when it is empty: its presence says something.
func putMessage(b []byte, num protowire.Number, v []byte) []byte {
	b = slices.Grow(b, len(v)+10) // once: most messages hold little else than v
	b = protowire.AppendTag(b, num, protowire.BytesType)
	return protowire.AppendBytes(b, v)
}

// beginMessage writes what comes before the fields of a message, which take size bytes.
func beginMessage(b []byte, num protowire.Number, size int) []byte {
	b = protowire.AppendTag(b, num, protowire.BytesType)
	return protowire.AppendVarint(b, uint64(size))
}

// eachField calls fn for every field: with v for a number, with bs (which aliases b) for bytes.
func eachField(b []byte, fn func(num protowire.Number, v uint64, bs []byte) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("%w: %w", ErrCorrupt, protowire.ParseError(n))
		}
		b = b[n:]
		var v uint64
		var bs []byte
		switch typ {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			bs, n = protowire.ConsumeBytes(b)
		case protowire.Fixed32Type:
			var v32 uint32
			v32, n = protowire.ConsumeFixed32(b)
			v = uint64(v32)
		case protowire.Fixed64Type:
			v, n = protowire.ConsumeFixed64(b)
		default:
			return fmt.Errorf("%w: field %d has wire type %d", ErrCorrupt, num, typ)
		}
		if n < 0 {
			return fmt.Errorf("%w: field %d: %w", ErrCorrupt, num, protowire.ParseError(n))
		}
		b = b[n:]
		if err := fn(num, v, bs); err != nil {
			return err
		}
	}
	return nil
}

func unknownField(message string, num protowire.Number) error {
	return fmt.Errorf("%w: field %d of %s is not known: it was written by a newer version", ErrCorrupt, num, message)
}

// command is one proposal. Exactly one of its parts is set.
type command struct {
	txn     *Txn
	compact int64
	grant   *leaseGrant
	revoke  int64
	// open begins a session; version raises the version of the log's format.
	open    bool
	version int
	// term, if it is not 0, is the last in which the command may be done, as with Txn.Term.
	term uint64
	// request names the command, whatever it is; see session.go.
	request request
}

type leaseGrant struct{ ttlMillis int64 }

func (c *command) encode() []byte { return c.append(nil) }

func (c *command) append(b []byte) []byte {
	if c.request.client != 0 {
		q := c.request.encode()
		b = append(beginMessage(b, 6, len(q)), q...)
	}
	b = putVarint(b, 8, c.term)
	switch {
	case c.txn != nil:
		b = beginMessage(b, 1, c.txn.wireSize())
		b = appendTxn(b, c.txn)
	case c.compact != 0:
		b = putVarint(b, 2, uint64(c.compact))
	case c.grant != nil:
		b = putMessage(b, 3, putVarint(nil, 1, uint64(c.grant.ttlMillis)))
	case c.revoke != 0:
		b = putVarint(b, 4, uint64(c.revoke))
	case c.open:
		b = putVarint(b, 5, 1)
	case c.version != 0:
		b = putVarint(b, 7, uint64(c.version))
	}
	return b
}

// inEntry is the command as a field of an Entry. Most of what the store allocates for a write is this, so it is one piece,
// of the size that it takes.
func (c *command) inEntry() []byte {
	if c.txn == nil {
		return putMessage(nil, 1, c.encode())
	}
	n := c.txn.wireSize()
	n += protowire.SizeTag(1) + protowire.SizeVarint(uint64(n))
	if c.request.client != 0 {
		n += protowire.SizeTag(6) + protowire.SizeBytes(len(c.request.encode()))
	}
	n += sizeVarint(8, c.term)
	b := make([]byte, 0, protowire.SizeTag(1)+protowire.SizeBytes(n))
	return c.append(beginMessage(b, 1, n))
}

func decodeEntry(b []byte) ([]command, error) {
	count := 0
	if err := eachField(b, func(protowire.Number, uint64, []byte) error { count++; return nil }); err != nil {
		return nil, err
	}
	cs := make([]command, 0, count)
	err := eachField(b, func(num protowire.Number, _ uint64, bs []byte) error {
		if num != 1 {
			return unknownField("Entry", num)
		}
		c, err := decodeCommand(bs)
		cs = append(cs, c)
		return err
	})
	return cs, err
}

func decodeCommand(b []byte) (command, error) {
	var c command
	err := eachField(b, func(num protowire.Number, v uint64, bs []byte) error {
		switch num {
		case 1:
			t, err := decodeTxn(bs)
			c.txn = t
			return err
		case 2:
			c.compact = int64(v)
		case 3:
			c.grant = &leaseGrant{}
			return eachField(bs, func(num protowire.Number, v uint64, _ []byte) error {
				if num != 1 {
					return unknownField("LeaseGrant", num)
				}
				c.grant.ttlMillis = int64(v)
				return nil
			})
		case 4:
			c.revoke = int64(v)
		case 5:
			c.open = v == 1
		case 6:
			q, err := decodeRequest(bs)
			c.request = q
			return err
		case 7:
			c.version = int(v)
		case 8:
			c.term = v
		default:
			return unknownField("Command", num)
		}
		return nil
	})
	return c, err
}

func appendTxn(b []byte, t *Txn) []byte {
	for i := range t.If {
		c := &t.If[i]
		b = beginMessage(b, 1, c.wireSize())
		b = putString(b, 1, c.Key)
		b = putVarint(b, 2, uint64(c.Target))
		b = putVarint(b, 3, uint64(c.Relation))
		b = putVarint(b, 4, uint64(c.Int))
		b = putBytes(b, 5, c.Value)
	}
	b = appendOps(b, 2, t.Then)
	b = appendOps(b, 3, t.Else)
	return putVarint(b, 4, t.Term)
}

func appendOps(b []byte, num protowire.Number, ops []Op) []byte {
	for i := range ops {
		o := &ops[i]
		b = beginMessage(b, num, o.wireSize())
		b = putVarint(b, 1, uint64(o.Type))
		b = putString(b, 2, o.Key)
		b = putBytes(b, 3, o.Value)
		b = putVarint(b, 4, uint64(o.Lease))
	}
	return b
}

// The wireSizes are how many bytes the fields of a message take.

func (t *Txn) wireSize() int {
	n := sizeVarint(4, t.Term)
	for i := range t.If {
		n += protowire.SizeTag(1) + protowire.SizeBytes(t.If[i].wireSize())
	}
	for _, ops := range [][]Op{t.Then, t.Else} {
		for i := range ops {
			n += protowire.SizeTag(2) + protowire.SizeBytes(ops[i].wireSize())
		}
	}
	return n
}

func (c *Compare) wireSize() int {
	return sizeLen(1, len(c.Key)) + sizeVarint(2, uint64(c.Target)) + sizeVarint(3, uint64(c.Relation)) +
		sizeVarint(4, uint64(c.Int)) + sizeLen(5, len(c.Value))
}

func (o *Op) wireSize() int {
	return sizeVarint(1, uint64(o.Type)) + sizeLen(2, len(o.Key)) + sizeLen(3, len(o.Value)) + sizeVarint(4, uint64(o.Lease))
}

func sizeVarint(num protowire.Number, v uint64) int {
	if v == 0 {
		return 0
	}
	return protowire.SizeTag(num) + protowire.SizeVarint(v)
}

func sizeLen(num protowire.Number, n int) int {
	if n == 0 {
		return 0
	}
	return protowire.SizeTag(num) + protowire.SizeBytes(n)
}

func decodeTxn(b []byte) (*Txn, error) {
	t := &Txn{}
	err := eachField(b, func(num protowire.Number, v uint64, bs []byte) error {
		switch num {
		case 1:
			c, err := decodeCompare(bs)
			t.If = append(t.If, c)
			return err
		case 2, 3:
			o, err := decodeOp(bs)
			if num == 2 {
				t.Then = append(t.Then, o)
			} else {
				t.Else = append(t.Else, o)
			}
			return err
		case 4:
			t.Term = v
		default:
			return unknownField("Txn", num)
		}
		return nil
	})
	return t, err
}

func decodeCompare(b []byte) (Compare, error) {
	var c Compare
	err := eachField(b, func(num protowire.Number, v uint64, bs []byte) error {
		switch num {
		case 1:
			c.Key = string(bs)
		case 2:
			c.Target = CompareTarget(v)
		case 3:
			c.Relation = Relation(v)
		case 4:
			c.Int = int64(v)
		case 5:
			c.Value = bs
		default:
			return unknownField("Compare", num)
		}
		return nil
	})
	return c, err
}

func decodeOp(b []byte) (Op, error) {
	var o Op
	err := eachField(b, func(num protowire.Number, v uint64, bs []byte) error {
		switch num {
		case 1:
			o.Type = OpType(v)
		case 2:
			o.Key = string(bs)
		case 3:
			o.Value = bs
		case 4:
			o.Lease = int64(v)
		default:
			return unknownField("Op", num)
		}
		return nil
	})
	return o, err
}

// encodeRecord writes a version; the value is left out where it is kept apart.
func encodeRecord(v *version, value []byte) []byte {
	b := make([]byte, 0, len(v.key)+len(value)+40)
	b = putString(b, 1, v.key)
	b = putVarint(b, 2, uint64(v.create))
	b = putVarint(b, 3, uint64(v.mod))
	b = putVarint(b, 4, uint64(v.ver))
	b = putVarint(b, 5, uint64(v.lease))
	if v.tomb {
		b = putVarint(b, 6, 1)
	}
	b = putVarint(b, 7, uint64(v.sub))
	return putBytes(b, 8, value)
}

// decodeRecord copies what it keeps, for b may be mapped memory. A tombstone has an empty value.
func decodeRecord(b []byte) (*version, []byte, error) {
	v := &version{}
	var value []byte
	err := eachField(b, func(num protowire.Number, n uint64, bs []byte) error {
		switch num {
		case 1:
			v.key = string(bs)
		case 2:
			v.create = int64(n)
		case 3:
			v.mod = int64(n)
		case 4:
			v.ver = int64(n)
		case 5:
			v.lease = int64(n)
		case 6:
			v.tomb = n == 1
		case 7:
			v.sub = uint32(n)
		case 8:
			value = append([]byte(nil), bs...)
		default:
			return unknownField("Record", num)
		}
		return nil
	})
	return v, value, err
}
