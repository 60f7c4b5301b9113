package raftstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/hashicorp/raft"
)

// snapshots is raft's snapshot store. The state file is a snapshot at any time, so one taken here
// holds no data of its own: it flushes the state file, and notes where raft may cut its log.
type snapshots struct {
	path string // "": in memory
	hook func(op string) error

	mu   sync.Mutex
	meta *snapshotNote
}

type snapshotNote struct {
	Version            raft.SnapshotVersion
	Index, Term        uint64
	Configuration      []byte
	ConfigurationIndex uint64
	// Durable is the index that the state file must have reached at least.
	Durable uint64
}

func openSnapshots(path string, hook func(string) error) (*snapshots, error) {
	s := &snapshots{path: path, hook: hook}
	if path == "" {
		return s, nil
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		s.meta = &snapshotNote{}
		err = json.Unmarshal(b, s.meta)
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

// Open is for sending the state to another member.
func (s *snapshots) Open(string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	return nil, nil, fmt.Errorf("%w: this store has a single voter, there is nobody to send a snapshot to", ErrInvalid)
}

func (s *snapshots) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, ci uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	return &snapshotSink{s: s, note: &snapshotNote{Version: v, Index: index, Term: term,
		Configuration: raft.EncodeConfiguration(c), ConfigurationIndex: ci}}, nil
}

type snapshotSink struct {
	s    *snapshots
	note *snapshotNote
	done bool
}

func (k *snapshotSink) ID() string    { return k.note.raftMeta().ID }
func (k *snapshotSink) Cancel() error { k.done = true; return nil }
func (k *snapshotSink) Write([]byte) (int, error) {
	return 0, fmt.Errorf("%w: this store has a single voter and takes no snapshot from others", ErrInvalid)
}

func (k *snapshotSink) Close() error {
	if k.done {
		return nil
	}
	k.done = true
	s := k.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.path != "" {
		if s.hook != nil {
			if err := s.hook("snapshot"); err != nil {
				return fmt.Errorf("write snapshot note: %w", err)
			}
		}
		b, err := json.Marshal(k.note)
		if err != nil {
			return fmt.Errorf("write snapshot note: %w", err)
		}
		if err := writeFileSynced(s.path, b); err != nil {
			return fmt.Errorf("write snapshot note: %w", err)
		}
	}
	s.meta = k.note
	return nil
}

// flushed is the FSMSnapshot: by the time it exists the state file has everything.
type flushed struct{ durable uint64 }

func (f flushed) Persist(sink raft.SnapshotSink) error {
	if k, ok := sink.(*snapshotSink); ok {
		k.note.Durable = f.durable
	}
	return sink.Close()
}
func (flushed) Release() {}
