package raftstore

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// The sentinels that travel between members and that the state machine keeps with the outcome of a
// request. A number never gets another meaning.
var errorCodes = []struct {
	code uint64
	err  error
}{
	{1, ErrCompacted}, {2, ErrFutureRevision}, {3, ErrConflict}, {4, ErrClosed}, {5, ErrNotLeader},
	{6, ErrUncertain}, {7, ErrFenced}, {8, ErrDegraded}, {9, ErrLeaseNotFound}, {10, ErrInvalid},
	{11, errSessionLost}, {12, ErrCorrupt},
}

// remoteError is an error of another member: its text, and the sentinels that it wrapped.
type remoteError struct {
	text string
	is   []error
}

func (e *remoteError) Error() string   { return e.text }
func (e *remoteError) Unwrap() []error { return e.is }

func encodeError(err error) []byte {
	var b []byte
	for _, c := range errorCodes {
		if errors.Is(err, c.err) {
			b = protowire.AppendTag(b, 1, protowire.VarintType)
			b = protowire.AppendVarint(b, c.code)
			if err == c.err {
				return b
			}
		}
	}
	return putString(b, 2, err.Error())
}

func decodeError(b []byte) error {
	e := &remoteError{}
	err := eachField(b, func(num protowire.Number, v uint64, bs []byte) error {
		switch num {
		case 1:
			for _, c := range errorCodes {
				if c.code == v {
					e.is = append(e.is, c.err)
				}
			}
		case 2:
			e.text = string(bs)
		}
		return nil // a newer member may say more
	})
	switch {
	case err != nil:
		return err
	case e.text == "" && len(e.is) == 1:
		return e.is[0]
	case e.text == "":
		e.text = "raftstore: another member failed"
	}
	return e
}

// encodeResult and decodeResult carry the outcome of one command.
func encodeResult(r *result) []byte {
	var b []byte
	if r.txn.Succeeded {
		b = putVarint(b, 1, 1)
	}
	b = putVarint(b, 2, uint64(r.txn.Revision))
	for i := range r.txn.Results {
		var sub []byte
		for _, kv := range r.txn.Results[i].KVs {
			sub = putMessage(sub, 1, encodeKV(kv))
		}
		sub = putVarint(sub, 2, uint64(r.txn.Results[i].Deleted))
		b = putMessage(b, 3, sub)
	}
	b = putVarint(b, 4, uint64(r.lease))
	if r.err != nil {
		b = putMessage(b, 5, encodeError(r.err))
	}
	b = putVarint(b, 6, r.index)
	if r.lost {
		b = putVarint(b, 7, 1)
	}
	return putVarint(b, 8, r.session)
}

func decodeResult(b []byte) (result, error) {
	var r result
	err := eachField(b, func(num protowire.Number, v uint64, bs []byte) error {
		switch num {
		case 1:
			r.txn.Succeeded = v == 1
		case 2:
			r.txn.Revision = int64(v)
		case 3:
			var o OpResult
			err := eachField(bs, func(num protowire.Number, v uint64, bs []byte) error {
				switch num {
				case 1:
					kv, err := decodeKV(bs)
					o.KVs = append(o.KVs, kv)
					return err
				case 2:
					o.Deleted = int64(v)
				default:
					return unknownField("OpResult", num)
				}
				return nil
			})
			r.txn.Results = append(r.txn.Results, o)
			return err
		case 4:
			r.lease = int64(v)
		case 5:
			r.err = decodeError(bs)
		case 6:
			r.index = v
		case 7:
			r.lost = v == 1
		case 8:
			r.session = v
		default:
			return unknownField("Result", num)
		}
		return nil
	})
	return r, err
}

func encodeKV(kv KV) []byte {
	b := putString(nil, 1, kv.Key)
	b = putBytes(b, 2, kv.Value)
	b = putVarint(b, 3, uint64(kv.CreateRevision))
	b = putVarint(b, 4, uint64(kv.ModRevision))
	b = putVarint(b, 5, uint64(kv.Version))
	b = putVarint(b, 6, uint64(kv.Lease))
	if kv.Value == nil {
		b = putVarint(b, 7, 1)
	}
	return b
}

func decodeKV(b []byte) (KV, error) {
	kv := KV{Value: []byte{}}
	none := false
	err := eachField(b, func(num protowire.Number, v uint64, bs []byte) error {
		switch num {
		case 1:
			kv.Key = string(bs)
		case 2:
			kv.Value = append([]byte{}, bs...)
		case 3:
			kv.CreateRevision = int64(v)
		case 4:
			kv.ModRevision = int64(v)
		case 5:
			kv.Version = int64(v)
		case 6:
			kv.Lease = int64(v)
		case 7:
			none = v == 1
		default:
			return unknownField("KV", num)
		}
		return nil
	})
	if none {
		kv.Value = nil
	}
	return kv, err
}

// encodeMessages writes the same field for each: a Proposals, or a Results.
func encodeMessages(ms [][]byte) []byte {
	n := 0
	for _, m := range ms {
		n += len(m) + 6
	}
	b := make([]byte, 0, n)
	for _, m := range ms {
		b = putMessage(b, 1, m)
	}
	return b
}

func decodeMessages(b []byte) ([][]byte, error) {
	var ms [][]byte
	err := eachField(b, func(num protowire.Number, _ uint64, bs []byte) error {
		if num != 1 {
			return unknownField("list", num)
		}
		ms = append(ms, bs)
		return nil
	})
	return ms, err
}

// one carries a single number.
func encodeOne(v uint64) []byte { return putVarint(nil, 1, v) }

func decodeOne(b []byte) (uint64, error) {
	var one uint64
	err := eachField(b, func(num protowire.Number, v uint64, _ []byte) error {
		if num != 1 {
			return unknownField("number", num)
		}
		one = v
		return nil
	})
	return one, err
}

// memberStatus is what a member says of itself.
type memberStatus struct {
	id        string
	address   string
	term      uint64
	lastIndex uint64
	applied   uint64
	speaks    int
	failure   string
	// members are those of the store that it is part of; none: it waits to be added.
	members []string
	cluster string // Config.Cluster
}

func (m *memberStatus) encode() []byte {
	b := putString(nil, 1, m.id)
	b = putString(b, 2, m.address)
	b = putVarint(b, 3, m.term)
	b = putVarint(b, 4, m.lastIndex)
	b = putVarint(b, 5, m.applied)
	b = putVarint(b, 6, uint64(m.speaks))
	b = putString(b, 7, m.failure)
	for _, id := range m.members {
		b = putMessage(b, 8, []byte(id))
	}
	return putString(b, 9, m.cluster)
}

func decodeMemberStatus(b []byte) (memberStatus, error) {
	var m memberStatus
	err := eachField(b, func(num protowire.Number, v uint64, bs []byte) error {
		switch num {
		case 1:
			m.id = string(bs)
		case 2:
			m.address = string(bs)
		case 3:
			m.term = v
		case 4:
			m.lastIndex = v
		case 5:
			m.applied = v
		case 6:
			m.speaks = int(v)
		case 7:
			m.failure = string(bs)
		case 8:
			m.members = append(m.members, string(bs))
		case 9:
			m.cluster = string(bs)
		}
		return nil // a newer member may say more
	})
	return m, err
}

func encodeMember(m *Member) []byte {
	b := putString(nil, 1, m.ID)
	b = putString(b, 2, m.Address)
	for i, yes := range []bool{m.Voter, m.Leader, m.Healthy} {
		if yes {
			b = putVarint(b, protowire.Number(3+i), 1)
		}
	}
	b = putString(b, 6, m.Problem)
	b = putVarint(b, 7, protowire.EncodeZigZag(int64(m.LastContact)))
	b = putVarint(b, 8, m.AppliedIndex)
	b = putVarint(b, 9, m.Lag)
	return putVarint(b, 10, uint64(m.Version))
}

func decodeMember(b []byte) (Member, error) {
	var m Member
	err := eachField(b, func(num protowire.Number, v uint64, bs []byte) error {
		switch num {
		case 1:
			m.ID = string(bs)
		case 2:
			m.Address = string(bs)
		case 3:
			m.Voter = v == 1
		case 4:
			m.Leader = v == 1
		case 5:
			m.Healthy = v == 1
		case 6:
			m.Problem = string(bs)
		case 7:
			m.LastContact = durationOf(v)
		case 8:
			m.AppliedIndex = v
		case 9:
			m.Lag = v
		case 10:
			m.Version = int(v)
		}
		return nil
	})
	return m, err
}

type changeKind uint64

const (
	changeAdd      changeKind = 1
	changePromote  changeKind = 2
	changeRemove   changeKind = 3
	changeHandOver changeKind = 4
	// changeMoved says that a member has another address now.
	changeMoved changeKind = 5
)

type memberChange struct {
	kind changeKind
	id   string
	// address is the member's; for changeHandOver it is the ID of the leader that is to hand over.
	address string
}

func (c *memberChange) encode() []byte {
	return putString(putString(putVarint(nil, 1, uint64(c.kind)), 2, c.id), 3, c.address)
}

func decodeMemberChange(b []byte) (memberChange, error) {
	var c memberChange
	err := eachField(b, func(num protowire.Number, v uint64, bs []byte) error {
		switch num {
		case 1:
			c.kind = changeKind(v)
		case 2:
			c.id = string(bs)
		case 3:
			c.address = string(bs)
		default:
			return unknownField("MemberChange", num)
		}
		return nil
	})
	if err == nil && (c.kind < changeAdd || c.kind > changeMoved) {
		err = fmt.Errorf("%w: change %d of the members is not known", ErrInvalid, c.kind)
	}
	return c, err
}

func durationOf(v uint64) time.Duration { return time.Duration(protowire.DecodeZigZag(v)) }
