package raftstore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sync"
)

// stableStore keeps raft's few durable values (term and vote) in an append-only file that the
// last record of each key wins: setting one is one write and one sync. The file is replaced, by
// rename, when it has grown.
//
//	record  crc32c u32 of what follows, key length u16, value length u16, key, value
type stableStore struct {
	path string
	hook func(op string) error

	mu     sync.Mutex
	f      *os.File
	size   int64
	values map[string]string
	failed error
}

const stableMax = 64 << 10

func openStable(path string, hook func(string) error) (*stableStore, error) {
	s := &stableStore{path: path, hook: hook, values: map[string]string{}}
	b, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	good := 0
	for len(b)-good >= 8 {
		rec := b[good:]
		k, v := int(binary.LittleEndian.Uint16(rec[4:])), int(binary.LittleEndian.Uint16(rec[6:]))
		end := 8 + k + v
		if end > len(rec) || binary.LittleEndian.Uint32(rec) != crc32.Checksum(rec[4:end], castagnoli) {
			break // torn: it was never acknowledged to raft
		}
		s.values[string(rec[8:8+k])] = string(rec[8+k : end])
		good += end
	}
	fresh := b == nil
	if s.f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	s.size = int64(good)
	if good < len(b) {
		err = truncateSynced(s.f, s.size)
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

func stableRecord(b []byte, key, val string) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(key)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(val)))
	b = append(append(b, key...), val...)
	binary.LittleEndian.PutUint32(b[start:], crc32.Checksum(b[start+4:], castagnoli))
	return b
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
	if len(key) > 1<<16-1 || len(val) > 1<<16-1 {
		return fmt.Errorf("%w: a stable value of %d bytes", ErrInvalid, len(val))
	}
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
	b := stableRecord(nil, key, val)
	if _, err := s.f.WriteAt(b, s.size); err != nil {
		return err
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
	for k, v := range s.values {
		b = stableRecord(b, k, v)
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
