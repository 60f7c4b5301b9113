package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	bolt "go.etcd.io/bbolt"
	"google.golang.org/protobuf/encoding/protowire"
)

// A write that is sent again, because the leader that had it was lost, must not be done twice. Each
// running Store opens a session through the log, and numbers its writes in it. The machine keeps the
// outcome of every write that its sender may still ask for: the sender says below which number it
// asks for none. All of it is replicated state and goes into the state file and the snapshots.

// maxSessions is how many are kept; the one that was used least recently makes room. A member has
// one for each time that it was started.
const maxSessions = 128

// errSessionLost: the session made room for others. This attempt wrote nothing.
var errSessionLost = errors.New("raftstore: the session is not known any more")

// request names a write. client 0: it is not named, and done as often as it comes.
type request struct {
	client, seq uint64
	floor       uint64 // the sender wants no outcome below this any more
}

func (q *request) encode() []byte {
	return putVarint(putVarint(putVarint(nil, 1, q.client), 2, q.seq), 3, q.floor)
}

func decodeRequest(b []byte) (request, error) {
	var q request
	err := eachField(b, func(num protowire.Number, v uint64, _ []byte) error {
		switch num {
		case 1:
			q.client = v
		case 2:
			q.seq = v
		case 3:
			q.floor = v
		default:
			return unknownField("Request", num)
		}
		return nil
	})
	return q, err
}

type session struct {
	floor   uint64
	used    uint64 // the log index of its last write
	results map[uint64]result
	dirty   bool // the state file lacks something of it
}

// sessions is part of the machine, guarded by its step.
type sessions struct {
	byClient map[uint64]*session
	last     uint64
	gone     []uint64 // the state file still has them
}

// open begins a session.
func (ss *sessions) open(index uint64) uint64 {
	for len(ss.byClient) >= maxSessions {
		var victim uint64
		for id, s := range ss.byClient {
			v := ss.byClient[victim]
			if v == nil || s.used < v.used || s.used == v.used && id < victim {
				victim = id
			}
		}
		delete(ss.byClient, victim)
		ss.gone = append(ss.gone, victim)
	}
	ss.last++
	ss.byClient[ss.last] = &session{used: index, results: map[uint64]result{}, dirty: true}
	return ss.last
}

// done says whether the request needs no execution: r then has its outcome.
func (ss *sessions) done(q request, index uint64, r *result) bool {
	s := ss.byClient[q.client]
	if s == nil {
		r.err = errSessionLost
		return true
	}
	s.used, s.dirty = index, true
	for ; s.floor < q.floor; s.floor++ {
		if len(s.results) == 0 {
			s.floor = q.floor
			break
		}
		delete(s.results, s.floor)
	}
	if q.seq < s.floor {
		r.err = ErrUncertain // its sender has given it up
		return true
	}
	had, ok := s.results[q.seq]
	if !ok || broken(ruleOnce) {
		return false
	}
	*r = had
	return true
}

func (ss *sessions) remember(q request, r *result) {
	ss.byClient[q.client].results[q.seq] = *r
}

// encode writes a session: what the state file and the snapshots hold.
func (s *session) encode() []byte {
	b := putVarint(putVarint(nil, 1, s.floor), 2, s.used)
	seqs := make([]uint64, 0, len(s.results))
	for seq := range s.results {
		seqs = append(seqs, seq)
	}
	slices.Sort(seqs)
	for _, seq := range seqs {
		r := s.results[seq]
		b = putMessage(b, 3, putMessage(putVarint(nil, 1, seq), 2, encodeResult(&r)))
	}
	return b
}

func decodeSession(b []byte) (*session, error) {
	s := &session{results: map[uint64]result{}}
	err := eachField(b, func(num protowire.Number, v uint64, bs []byte) error {
		switch num {
		case 1:
			s.floor = v
		case 2:
			s.used = v
		case 3:
			var seq uint64
			var r result
			err := eachField(bs, func(num protowire.Number, v uint64, bs []byte) (err error) {
				switch num {
				case 1:
					seq = v
				case 2:
					r, err = decodeResult(bs)
				default:
					err = unknownField("Outcome", num)
				}
				return err
			})
			s.results[seq] = r
			return err
		default:
			return unknownField("Session", num)
		}
		return nil
	})
	return s, err
}

// takenSessions is what the next flush writes of the sessions.
type takenSessions struct {
	changed map[uint64][]byte
	gone    []uint64
	last    uint64
	version int
}

// takeSessions is called under step.
func (m *machine) takeSessions() takenSessions {
	t := takenSessions{changed: map[uint64][]byte{}, gone: m.sessions.gone, last: m.sessions.last, version: int(m.version.Load())}
	m.sessions.gone = nil
	for id, s := range m.sessions.byClient {
		if s.dirty {
			t.changed[id], s.dirty = s.encode(), false
		}
	}
	return t
}

func (t *takenSessions) write(tx *bolt.Tx, seal *sealer) error {
	b := tx.Bucket(bucketSession)
	for _, id := range t.gone {
		if err := b.Delete(u64(id)); err != nil {
			return err
		}
	}
	for id, s := range t.changed {
		k := u64(id)
		if err := b.Put(k, seal.blob(nil, placeIn(bucketSession, k), s)); err != nil {
			return err
		}
	}
	return nil
}

// openSession reads what write wrote.
func openSession(k, raw []byte, open *opener) (uint64, *session, error) {
	if len(k) != 8 {
		return 0, nil, fmt.Errorf("%w: session %x", ErrCorrupt, k)
	}
	b, err := open.blob(raw, placeIn(bucketSession, k))
	if err != nil {
		return 0, nil, fmt.Errorf("session %x: %w", k, err)
	}
	s, err := decodeSession(b)
	if err != nil {
		return 0, nil, fmt.Errorf("session %x: %w", k, err)
	}
	return binary.BigEndian.Uint64(k), s, nil
}
