package raftstore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/encoding/protowire"
)

// snapshots is raft's snapshot store. The state file is a snapshot at any time, so one taken here
// holds no data of its own: it flushes the state file, and notes where raft may cut its log. What
// another member sends is in transfer.go.
type snapshots struct {
	path string // "": in memory
	hook func(op string) error
	ring *keyring

	// send opens a stream of the state as it is; nil for a single voter.
	send func() (size int64, _ io.ReadCloser, err error)

	mu       sync.Mutex
	meta     *snapshotNote
	incoming *snapshotSink // complete, and not yet the machine's
}

// snapshotNote is the message SnapshotNote; the file holds it in a frame.
type snapshotNote struct {
	Version            raft.SnapshotVersion
	Index, Term        uint64
	Configuration      []byte
	ConfigurationIndex uint64
	// Durable is the index that the state file must have reached at least.
	Durable uint64
}

func openSnapshots(path string, ring *keyring, hook func(string) error) (*snapshots, error) {
	s := &snapshots{path: path, hook: hook, ring: ring}
	if path == "" {
		return s, nil
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		s.meta, err = decodeNote(b, ring)
	}
	if err != nil {
		return nil, fmt.Errorf("open snapshot note %s: %w", path, err)
	}
	return s, nil
}

func (s *snapshots) note() *snapshotNote {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.meta
}

const notePlace = "snapshot configuration"

func (n *snapshotNote) encode(seal *sealer) []byte {
	b := putVarint(beginChecked(nil), 1, uint64(n.Version))
	b = putVarint(b, 2, n.Index)
	b = putVarint(b, 3, n.Term)
	b = putMessage(b, 4, seal.blob(nil, notePlace, n.Configuration))
	b = putVarint(b, 5, n.ConfigurationIndex)
	b = putVarint(b, 6, n.Durable)
	endChecked(b, 0)
	return b
}

func decodeNote(b []byte, ring *keyring) (*snapshotNote, error) {
	msg, size, ok := readChecked(b)
	if !ok || size != len(b) {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, errSum)
	}
	n := &snapshotNote{}
	open := ring.opener()
	err := eachField(msg, func(num protowire.Number, v uint64, bs []byte) (err error) {
		switch num {
		case 1:
			n.Version = raft.SnapshotVersion(v)
		case 2:
			n.Index = v
		case 3:
			n.Term = v
		case 4:
			n.Configuration, err = open.blob(bs, notePlace)
		case 5:
			n.ConfigurationIndex = v
		case 6:
			n.Durable = v
		default:
			return unknownField("SnapshotNote", num)
		}
		return err
	})
	return n, err
}

func (n *snapshotNote) raftMeta() *raft.SnapshotMeta {
	return &raft.SnapshotMeta{Version: n.Version, ID: fmt.Sprintf("%d-%d", n.Term, n.Index), Index: n.Index,
		Term: n.Term, Configuration: raft.DecodeConfiguration(n.Configuration), ConfigurationIndex: n.ConfigurationIndex}
}

func (s *snapshots) List() ([]*raft.SnapshotMeta, error) {
	n := s.note()
	if n == nil {
		return nil, nil
	}
	return []*raft.SnapshotMeta{n.raftMeta()}, nil
}

// Open is for raft: it hands what has arrived to the machine, or sends the state to another member.
func (s *snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	s.mu.Lock()
	in := s.incoming
	s.mu.Unlock()
	if in != nil && in.ID() == id {
		return in.note.raftMeta(), arrivedReader{in}, nil
	}
	n := s.note()
	if n == nil || s.send == nil {
		return nil, nil, fmt.Errorf("%w: there is no snapshot %s", ErrInvalid, id)
	}
	// The state is newer than the note, and holds all of it: the entries between the two are skipped.
	meta := n.raftMeta()
	size, r, err := s.send()
	meta.Size = size
	return meta, r, err
}

func (s *snapshots) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, ci uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	return &snapshotSink{s: s, note: &snapshotNote{Version: v, Index: index, Term: term,
		Configuration: raft.EncodeConfiguration(c), ConfigurationIndex: ci}}, nil
}

// snapshotSink takes either a note of this member's own, or a state from another, which it reads as
// it comes.
type snapshotSink struct {
	s    *snapshots
	note *snapshotNote
	done bool

	w       *io.PipeWriter // set by the first Write
	ended   chan struct{}
	arrived *arrived
	err     error
}

// arrivedReader stands for a state that has been read already.
type arrivedReader struct{ k *snapshotSink }

func (arrivedReader) Read([]byte) (int, error) { return 0, io.EOF }
func (arrivedReader) Close() error             { return nil }

func (k *snapshotSink) ID() string {
	if k.w != nil {
		return "arrived-" + k.note.raftMeta().ID
	}
	return k.note.raftMeta().ID
}

func (k *snapshotSink) Cancel() error {
	if k.done {
		return nil
	}
	k.done = true
	if k.w != nil {
		_ = k.w.CloseWithError(errors.New("cancelled"))
		<-k.ended
		k.arrived.drop()
	}
	return nil
}

func (k *snapshotSink) Write(b []byte) (int, error) {
	if k.w == nil {
		r, w := io.Pipe()
		k.w, k.ended = w, make(chan struct{})
		path := ""
		if k.s.path != "" {
			path = filepath.Join(filepath.Dir(k.s.path), fileArriving)
		}
		go func() {
			defer close(k.ended)
			k.arrived, k.err = receiveState(r, path, k.s.ring, k.s.hook)
			_ = r.CloseWithError(k.err)
		}()
	}
	return k.w.Write(b)
}

func (k *snapshotSink) Close() error {
	if k.done {
		return nil
	}
	k.done = true
	s := k.s
	if k.w != nil {
		_ = k.w.Close()
		<-k.ended
		if k.err != nil {
			return k.err
		}
		s.mu.Lock()
		s.incoming.abandon()
		s.incoming = k
		s.mu.Unlock()
		return nil // the note is written when the machine has it
	}
	return s.keep(k.note)
}

// abandon drops a state that the machine was never given.
func (k *snapshotSink) abandon() {
	if k != nil {
		k.arrived.drop()
	}
}

// take gives the machine what has arrived.
func (s *snapshots) take() *snapshotSink {
	s.mu.Lock()
	defer s.mu.Unlock()
	in := s.incoming
	s.incoming = nil
	return in
}

// keep makes the note the newest.
func (s *snapshots) keep(note *snapshotNote) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.path != "" {
		if s.hook != nil {
			if err := s.hook("snapshot"); err != nil {
				return fmt.Errorf("write snapshot note: %w", err)
			}
		}
		if err := writeFileSynced(s.path, note.encode(s.ring.sealer())); err != nil {
			return fmt.Errorf("write snapshot note: %w", err)
		}
	}
	s.meta = note
	return nil
}

// flushed is the FSMSnapshot: once persisted, the state file has everything up to it, and more. Persist
// and not Snapshot flushes, for no entry is applied while Snapshot runs.
type flushed struct{ s *Store }

func (f flushed) Persist(sink raft.SnapshotSink) error {
	if state := f.s.files.state; state != nil {
		if err := state.flush(f.s.m); err != nil {
			f.s.fail.set(err)
			return err
		}
		if k, ok := sink.(*snapshotSink); ok {
			k.note.Durable = state.durableIndex()
		}
	}
	return sink.Close()
}
func (flushed) Release() {}
