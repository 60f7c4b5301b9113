package raftstore

import (
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
)

// stableStore keeps raft's few durable values (term and vote) in an append-only file that the
// last record of each key wins: setting one is one write and one sync. The file is replaced, by
// rename, when it has grown.
//
// A record is a StableRecord in a frame.
type stableStore struct {
	path string
	hook func(op string) error
	ring *keyring

	mu     sync.Mutex
	f      *os.File
	size   int64
	values map[string]string
	failed error
}

const stableMax = 64 << 10

func openStable(path string, ring *keyring, hook func(string) error) (*stableStore, error) {
	s := &stableStore{path: path, hook: hook, ring: ring}
	b, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	var good int
	if s.values, good, err = readStable(b, ring); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	fresh := b == nil
	if s.f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	s.size = int64(good)
	if good < len(b) {
		err = truncateSynced(s.f, s.size)
	}
	if good > 0 && err == nil { // as writeTailAgain does, and the file is small
		if _, err = s.f.WriteAt(b[:good], 0); err == nil {
			err = syncData(s.f)
		}
	}
	if fresh && err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		_ = s.f.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return s, nil
}

// readStable returns the values of a file, and where its last sound record ends.
func readStable(b []byte, ring *keyring) (values map[string]string, good int, err error) {
	values = map[string]string{}
	open := ring.opener()
	for good < len(b) {
		msg, size, ok := readChecked(b[good:])
		if !ok {
			break
		}
		key, val, err := decodeStable(msg, &open)
		if err != nil {
			return nil, 0, err
		}
		values[key] = val
		good += size
	}
	// Each record was synced before the next: only the last can be torn, and that one was never
	// acknowledged to raft.
	for at := good + 1; at < len(b); at++ {
		if msg, _, ok := readChecked(b[at:]); ok {
			if _, _, err := decodeStable(msg, &open); err == nil {
				return nil, 0, fmt.Errorf("%w: a record is damaged and a later one is not: raft's vote may be lost. "+
					"Restore a backup in another folder, or join the cluster anew", ErrCorrupt)
			}
		}
	}
	return values, good, nil
}

func stableRecord(b []byte, seal *sealer, key, val string) []byte {
	start := len(b)
	b = putString(beginChecked(b), 1, key)
	b = putMessage(b, 2, seal.blob(nil, "stable "+key, []byte(val)))
	endChecked(b, start)
	return b
}

func decodeStable(msg []byte, open *opener) (key, val string, err error) {
	var sealed []byte
	err = eachField(msg, func(num protowire.Number, _ uint64, bs []byte) error {
		switch num {
		case 1:
			key = string(bs)
		case 2:
			sealed = bs
		default:
			return unknownField("StableRecord", num)
		}
		return nil
	})
	if err != nil {
		return "", "", err
	}
	b, err := open.blob(sealed, "stable "+key)
	if err != nil {
		return "", "", fmt.Errorf("value %q: %w", key, err)
	}
	return key, string(b), nil
}

func (s *stableStore) Set(key, val []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return s.failed
	}
	if err := s.setLocked(string(key), string(val)); err != nil {
		s.failed = fmt.Errorf("write %s: %w", s.path, err)
		return s.failed
	}
	return nil
}

func (s *stableStore) setLocked(key, val string) error {
	if s.hook != nil {
		if err := s.hook("stable"); err != nil {
			return err
		}
	}
	if s.size > stableMax {
		if err := s.rewriteLocked(); err != nil {
			return err
		}
	}
	b := stableRecord(nil, s.ring.sealer(), key, val)
	if _, err := s.f.WriteAt(b, s.size); err != nil {
		return err
	}
	if s.hook != nil {
		if err := s.hook("stable sync"); err != nil {
			return err
		}
	}
	if err := syncData(s.f); err != nil {
		return err
	}
	s.size += int64(len(b))
	s.values[key] = val
	return nil
}

func (s *stableStore) rewriteLocked() error {
	var b []byte
	seal := s.ring.sealer()
	for _, k := range slices.Sorted(maps.Keys(s.values)) {
		b = stableRecord(b, seal, k, s.values[k])
	}
	if err := writeFileSynced(s.path, b); err != nil {
		return err
	}
	f, err := os.OpenFile(s.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_ = s.f.Close()
	s.f, s.size = f, int64(len(b))
	return nil
}

// writeFileSynced replaces a file: after a crash it is there either as it was or as it is now.
func writeFileSynced(path string, b []byte) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp)
		return err
	}
	return syncDir(filepath.Dir(path))
}

func (s *stableStore) Get(key []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return []byte(s.values[string(key)]), nil
}

func (s *stableStore) SetUint64(key []byte, val uint64) error { return s.Set(key, u64(val)) }

func (s *stableStore) GetUint64(key []byte) (uint64, error) {
	b, err := s.Get(key)
	if err != nil || len(b) == 0 {
		return 0, err
	}
	if len(b) != 8 {
		return 0, fmt.Errorf("%w: stable value %s", ErrCorrupt, key)
	}
	return binary.BigEndian.Uint64(b), nil
}

func (s *stableStore) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = ErrClosed
	return s.f.Close()
}
