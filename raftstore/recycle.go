package raftstore

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A segment that leaves at the front is kept to be written over. Its blocks are on the disk already, so that a sync of
// what is written there is a write of data and nothing else: it needs no commit of the file system's journal, which
// would wait for the state file's pages, too.
//
// What it held stays behind the new records until they cover it. Those were entries before the segment's first, which is
// how a reader tells them from records of the segment; so nothing is kept that is cut off at the back, where the next
// entry may have a lower index than what was cut.
type spare struct {
	f    *os.File
	path string
	size uint32
	key  uint32 // what it holds is sealed with: it is written over with the same key only
}

const (
	spareSuffix = ".spare"
	maxSpares   = 4
)

// retireLocked takes the oldest segment out of the log and keeps its file.
func (s *logStore) retireLocked() error {
	g := s.segs[0]
	if len(s.spares) == maxSpares || g.key != s.ring.currentKey() {
		return s.dropLocked(0)
	}
	path := strings.TrimSuffix(g.path, segSuffix) + spareSuffix
	if err := os.Rename(g.path, path); err != nil {
		return err
	}
	if err := syncDir(s.dir); err != nil {
		return err
	}
	s.segs = slices.Delete(s.segs, 0, 1)
	s.bytes -= int64(g.size)
	s.spares = append(s.spares, spare{f: g.f, path: path, size: max(g.size, g.room), key: g.key})
	return nil
}

// reuseLocked makes a spare the file of a new segment; nil: there is none.
func (s *logStore) reuseLocked(path string, header []byte, key uint32) (*os.File, uint32, error) {
	if len(s.spares) == 0 {
		return nil, 0, nil
	}
	if s.spares[0].key != key {
		s.dropSparesLocked()
		return nil, 0, nil
	}
	old := s.spares[0]
	s.spares = s.spares[1:]
	// Its header is durable before it has the name of a segment.
	_, err := old.f.WriteAt(header, 0)
	if err == nil {
		err = syncData(old.f)
	}
	if err == nil {
		err = os.Rename(old.path, path)
	}
	if err != nil {
		_ = old.f.Close()
		return nil, 0, err
	}
	return old.f, old.size, nil
}

// dropSparesLocked deletes what is kept. Whatever a crash leaves of it, the next Open deletes.
func (s *logStore) dropSparesLocked() {
	for _, old := range s.spares {
		_ = old.f.Close()
		_ = os.Remove(old.path)
	}
	s.spares = nil
}

// removeSpares deletes what another process kept.
func removeSpares(dir string, entries []os.DirEntry) {
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), spareSuffix) {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}
