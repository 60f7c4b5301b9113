package raftstore

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"slices"

	bolt "go.etcd.io/bbolt"
	"google.golang.org/protobuf/encoding/protowire"
)

// What the leader sends a member that is too far behind for its log: everything, history included. It
// travels as it is, beneath the network's TLS: each member seals what it writes with its own data key.
//
//	"pintle raftstore transfer 1\n", messages, a zero byte, crc32c u32 (little-endian) of all before
//
// A message is its length (uvarint) + 1, its kind, and a protobuf message of store.proto. First comes
// a TransferHeader, then Leases and Sessions, then Records in the order of the writes.
const transferMagic = "pintle raftstore transfer 1\n"

const (
	transferHeader  = 1
	transferLease   = 2
	transferSession = 3
	transferRecord  = 4
)

// stillState is everything that is replicated, at one moment between two entries.
type stillState struct {
	view      *view
	applied   uint64
	lastLease int64
	ttls      map[int64]int64
	sessions  takenSessions // changed has all of them
}

func (m *machine) stillState() stillState {
	m.step.Lock()
	defer m.step.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	st := stillState{view: m.view.Load(), applied: m.applied, lastLease: m.lastLease, ttls: map[int64]int64{},
		sessions: takenSessions{changed: map[uint64][]byte{}, last: m.sessions.last, version: int(m.version.Load())}}
	for id, l := range m.leases {
		st.ttls[id] = l.ttlMillis
	}
	for id, s := range m.sessions.byClient {
		st.sessions.changed[id] = s.encode()
	}
	return st
}

// versions returns every version, in the order of the writes.
func (v *view) versions() []*version {
	var all []*version
	v.root.ascend("", func(_ string, vers []*version) bool {
		all = append(all, vers...)
		return true
	})
	slices.SortFunc(all, func(a, b *version) int {
		switch {
		case a.mod != b.mod:
			return int(min(max(a.mod-b.mod, -1), 1))
		case a.sub < b.sub:
			return -1
		case a.sub > b.sub:
			return 1
		}
		return 0
	})
	return all
}

type transferWriter struct {
	w   *bufio.Writer
	sum hash.Hash32
	n   int64
	buf []byte
}

func newTransferWriter(w io.Writer) *transferWriter {
	return &transferWriter{w: bufio.NewWriterSize(w, 256<<10), sum: crc32.New(castagnoli)}
}

func (t *transferWriter) raw(b []byte) error {
	_, _ = t.sum.Write(b)
	n, err := t.w.Write(b)
	t.n += int64(n)
	return err
}

func (t *transferWriter) message(kind byte, msg []byte) error {
	t.buf = append(binary.AppendUvarint(t.buf[:0], uint64(len(msg))+1), kind)
	if err := t.raw(t.buf); err != nil {
		return err
	}
	return t.raw(msg)
}

func (st *stillState) header() []byte {
	b := putVarint(nil, 1, uint64(st.view.rev))
	b = putVarint(b, 2, uint64(st.view.compacted))
	b = putVarint(b, 3, st.applied)
	b = putVarint(b, 4, uint64(st.lastLease))
	b = putVarint(b, 5, st.sessions.last)
	return putVarint(b, 6, uint64(st.sessions.version))
}

func encodeSessionRecord(id uint64, s []byte) []byte { return putMessage(putVarint(nil, 1, id), 2, s) }

// write writes the whole; read fills in values.
func (st *stillState) write(w io.Writer, all []*version, read func([]*version) ([]KV, error)) (n int64, err error) {
	out := newTransferWriter(w)
	if err := out.raw([]byte(transferMagic)); err != nil {
		return 0, err
	}
	if err := out.message(transferHeader, st.header()); err != nil {
		return 0, err
	}
	for id, ttl := range st.ttls {
		if err := out.message(transferLease, putVarint(putVarint(nil, 1, uint64(id)), 2, uint64(ttl))); err != nil {
			return 0, err
		}
	}
	for id, s := range st.sessions.changed {
		if err := out.message(transferSession, encodeSessionRecord(id, s)); err != nil {
			return 0, err
		}
	}
	one := make([]*version, 1)
	for _, v := range all {
		var value []byte
		if !v.tomb {
			one[0] = v
			kvs, err := read(one)
			if err != nil {
				return 0, err
			}
			value = kvs[0].Value
		}
		if err := out.message(transferRecord, encodeRecord(v, value)); err != nil {
			return 0, err
		}
	}
	if err := out.raw([]byte{0}); err != nil {
		return 0, err
	}
	end := binary.LittleEndian.AppendUint32(nil, out.sum.Sum32())
	if _, err := out.w.Write(end); err != nil {
		return 0, err
	}
	return out.n + int64(len(end)), out.w.Flush()
}

// sendState opens a stream of everything as it is now, and says how long it is: raft wants to know
// before it begins. It is written twice for that, the first time to nowhere.
func (s *Store) sendState() (size int64, _ io.ReadCloser, err error) {
	type opened struct {
		size int64
		err  error
	}
	pr, pw := io.Pipe()
	ready := make(chan opened, 1)
	send := func(st *stillState, read func([]*version) ([]KV, error)) error {
		all := st.view.versions()
		n, err := st.write(io.Discard, all, read)
		if err != nil {
			return err
		}
		ready <- opened{size: n}
		_, err = st.write(pw, all, read)
		return pw.CloseWithError(err)
	}
	s.tasks.Go(func() {
		var err error
		for {
			st := s.m.stillState()
			if s.files.state == nil {
				err = send(&st, s.m.read)
			} else {
				// With a read transaction that begins when everything is in the file, no value can go.
				if err = s.files.state.flush(s.m); err != nil {
					s.fail.set(err)
					break
				}
				open := s.files.ring.opener()
				err = s.files.state.view(func(tx *bolt.Tx) error {
					if s.m.view.Load().compacted != st.view.compacted {
						return errGone
					}
					return send(&st, func(vs []*version) ([]KV, error) { return readIn(tx, vs, &open) })
				})
			}
			if !errors.Is(err, errGone) {
				break
			}
		}
		if err != nil {
			_ = pw.CloseWithError(err)
			select {
			case ready <- opened{err: err}:
			default:
			}
		}
	})
	o := <-ready
	return o.size, pr, o.err
}

// arrived is a state that another member sent, complete and, with a folder, durable beside the
// current state file.
type arrived struct {
	stillState
	byKey map[string][]*version
	file  *stateFile // nil in memory
	path  string
	key   uint32 // what the first message was sealed with
}

func (a *arrived) drop() {
	if a != nil && a.file != nil {
		_ = a.file.close()
		_ = os.Remove(a.path)
	}
}

// receiveState reads what sendState sends, to the end.
func receiveState(r io.Reader, path string, ring *keyring, hook func(string) error) (_ *arrived, err error) {
	in := &transferReader{r: bufio.NewReaderSize(r, 256<<10), sum: crc32.New(castagnoli)}
	magic := make([]byte, len(transferMagic))
	if err := in.full(magic); err != nil {
		return nil, err
	}
	if string(magic) != transferMagic {
		return nil, fmt.Errorf("%w: the leader sends its state in a form that is not known here", ErrCorrupt)
	}
	a := &arrived{path: path, key: ring.currentKey(), byKey: map[string][]*version{}}
	defer func() {
		if err != nil {
			a.drop()
		}
	}()
	if path != "" {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("receive state: %w", err)
		}
		if a.file, err = openState(path, ring, hook); err != nil {
			return nil, err
		}
	}
	a.view, a.ttls = &view{}, map[int64]int64{}
	a.sessions.changed = map[uint64][]byte{}
	var batch taken
	size, seen := 0, false
	flush := func() error {
		if a.file == nil {
			return nil
		}
		batch.view, batch.lastLease, batch.sessions = a.view, a.lastLease, a.sessions
		if err := a.file.write(&batch); err != nil {
			return err
		}
		for _, v := range batch.puts {
			v.value.Store(nil)
		}
		batch.puts, size = nil, 0
		return nil
	}
	for {
		kind, msg, err := in.message()
		if err != nil {
			return nil, err
		}
		if kind == 0 {
			break
		}
		if seen != (kind != transferHeader) {
			return nil, fmt.Errorf("%w: the header of the state is not first", ErrCorrupt)
		}
		switch kind {
		case transferHeader:
			seen = true
			err = a.header(msg)
		case transferLease:
			var id, ttl int64
			err = eachField(msg, pair("Lease", &id, &ttl))
			a.ttls[id] = ttl
		case transferSession:
			var id uint64
			var s []byte
			err = eachField(msg, func(num protowire.Number, v uint64, bs []byte) error {
				if num == 1 {
					id = v
				} else {
					s = bs
				}
				return nil
			})
			a.sessions.changed[id] = s
		case transferRecord:
			var v *version
			var value []byte
			if v, value, err = decodeRecord(msg); err != nil {
				break
			}
			if !v.tomb {
				if value == nil {
					value = []byte{}
				}
				v.value.Store(&value)
			}
			addVersion(a.byKey, a.view, v)
			batch.puts = append(batch.puts, v)
			if size += len(value) + len(v.key); size > 16<<20 {
				err = flush()
			}
		default:
			err = fmt.Errorf("%w: message %d of the state is not known", ErrCorrupt, kind)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := in.end(); err != nil {
		return nil, err
	}
	if !seen {
		return nil, fmt.Errorf("%w: an empty state arrived", ErrCorrupt)
	}
	batch.ttls, batch.applied, batch.brought = a.ttls, a.applied, a.applied
	if err := flush(); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *arrived) header(msg []byte) error {
	return eachField(msg, func(num protowire.Number, v uint64, _ []byte) error {
		switch num {
		case 1:
			a.view.rev = int64(v)
		case 2:
			a.view.compacted = int64(v)
		case 3:
			a.applied = v
		case 4:
			a.lastLease = int64(v)
		case 5:
			a.sessions.last = v
		case 6:
			a.sessions.version = int(v)
		default:
			return unknownField("TransferHeader", num)
		}
		return nil
	})
}

// takeOver makes what arrived the state of this member. Watchers find every version where it was, or
// that it has been compacted.
func (s *Store) takeOver(a *arrived, index uint64) error {
	sessions := sessions{byClient: map[uint64]*session{}, last: a.sessions.last}
	for id, b := range a.sessions.changed {
		d, err := decodeSession(b)
		if err != nil {
			return err
		}
		sessions.byClient[id] = d
	}
	m := s.m
	if f := s.files.state; f != nil {
		// A rotation of the keys that is under way ends first: it knows nothing of what has arrived.
		s.files.ring.changing.Lock()
		defer s.files.ring.changing.Unlock()
		if s.files.ring.currentKey() != a.key {
			if err := a.file.reseal(context.Background()); err != nil {
				return fmt.Errorf("seal the state that arrived anew: %w", err)
			}
		}
		f.flushing.Lock()
		defer f.flushing.Unlock()
	}
	m.step.Lock()
	defer m.step.Unlock()
	if m.broken != nil {
		return m.broken
	}
	if applied := m.appliedIndex(); a.applied < applied {
		a.drop() // what is here is newer, and holds all of it
		if f := s.files.state; f != nil {
			f.brought = applied // raft empties the log
			m.mu.Lock()
			m.pending.any = true
			m.mu.Unlock()
		}
		return nil
	}
	if f := s.files.state; f != nil {
		if err := f.replace(a.file.current.Load(), a.path); err != nil {
			m.broken = err
			return err
		}
		f.durable, f.brought = a.applied, max(a.applied, index)
	}
	m.mu.Lock()
	m.leases = make(map[int64]*lease, len(a.ttls))
	for id, ttl := range a.ttls {
		m.leases[id] = &lease{ttlMillis: ttl, keys: map[string]struct{}{}}
	}
	m.lastLease, m.sessions = a.lastLease, sessions
	m.version.Store(int64(max(1, a.sessions.version)))
	m.pending = pending{}
	m.install(a.view, a.byKey)
	m.advanceLocked(max(a.applied, index))
	m.mu.Unlock()
	signal(s.room)
	return nil
}

type transferReader struct {
	r   *bufio.Reader
	sum hash.Hash32
}

// ReadByte is for binary.ReadUvarint.
func (t *transferReader) ReadByte() (byte, error) {
	c, err := t.r.ReadByte()
	if err == nil {
		_, _ = t.sum.Write([]byte{c})
	}
	return c, err
}

func (t *transferReader) full(p []byte) error {
	if _, err := io.ReadFull(t.r, p); err != nil {
		return fmt.Errorf("receive state: %w", err)
	}
	_, _ = t.sum.Write(p)
	return nil
}

// message returns kind 0 at the end.
func (t *transferReader) message() (kind byte, msg []byte, err error) {
	n, err := binary.ReadUvarint(t)
	if err != nil {
		return 0, nil, fmt.Errorf("receive state: %w", err)
	}
	if n == 0 {
		return 0, nil, nil
	}
	if n > maxCall {
		return 0, nil, fmt.Errorf("%w: a message of %d bytes", ErrCorrupt, n)
	}
	msg = make([]byte, n)
	if err := t.full(msg); err != nil {
		return 0, nil, err
	}
	return msg[0], msg[1:], nil
}

func (t *transferReader) end() error {
	want := t.sum.Sum32()
	var b [4]byte
	if _, err := io.ReadFull(t.r, b[:]); err != nil {
		return fmt.Errorf("receive state: %w", err)
	}
	if binary.LittleEndian.Uint32(b[:]) != want {
		return fmt.Errorf("%w: the checksum of the state that arrived is wrong", ErrCorrupt)
	}
	return nil
}
