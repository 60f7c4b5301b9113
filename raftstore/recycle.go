package raftstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A new segment should cost nobody who waits for a write. So its file is there before it is needed, with its blocks on the
// disk already: a sync of what is written there is a write of data and nothing else, which needs no commit of the file
// system's journal, and that would wait for the state file's pages, too. It is a segment that left at the front, to be
// written over, or where there is none, a file of zeros that was made in the background.
//
// The new segment is written to under the name that the file has. It gets its own with the next sync, when its header,
// its entries and those before it are durable (makeDurable), so no more is acknowledged then than what a reader finds.
// Under the other name nobody reads it: after a crash Open deletes it, with entries that nobody was promised.
//
// What a segment held stays behind the new records until they cover it. Those were entries before the segment's first,
// which is how a reader tells them from records of the segment; so nothing is kept that is cut off at the back, where the
// next entry may have a lower index than what was cut.
type spare struct {
	f    *os.File
	path string
	size uint32
	key  uint32 // what it holds is sealed with: it is written over with the same key only
	zero bool   // it holds nothing
}

const (
	spareSuffix = ".spare"
	aheadSuffix = ".ahead" // a file of zeros
	maxSpares   = 8
)

// retire keeps the file of a segment that has left the log at the front, or deletes it. Called with cutting held and
// without mu: it syncs.
func (s *logStore) retire(g *segment) error {
	s.mu.RLock()
	keep := len(s.spares) < maxSpares && g.key == s.ring.currentKey()
	s.mu.RUnlock()
	if !keep {
		_ = g.f.Close()
		return removeSynced(g.path)
	}
	path := strings.TrimSuffix(g.path, segSuffix) + spareSuffix
	err := os.Rename(g.path, path)
	if err == nil {
		err = syncDir(s.dir)
	}
	if err != nil {
		_ = g.f.Close()
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spares = append(s.spares, spare{f: g.f, path: path, size: max(g.size, g.room), key: g.key})
	return nil
}

// followLocked begins the segment that follows in a file that is ready; nil: there is none.
func (s *logStore) followLocked(next uint64) *segment {
	seal := s.ring.sealer()
	if len(s.spares) > 0 && !s.spares[0].zero && s.spares[0].key != seal.id {
		s.dropSparesLocked()
	}
	if len(s.spares) == 0 {
		return nil
	}
	old := s.spares[0]
	s.spares = slices.Delete(s.spares, 0, 1)
	if _, err := old.f.WriteAt(encodeSegHeader(next, seal.id), 0); err != nil {
		old.drop() // whoever makes a file now will be told
		return nil
	}
	return s.beginLocked(&segment{f: old.f, path: old.path, name: s.segPath(next), first: next, room: old.size, key: seal.id, seal: seal})
}

// aheadState is guarded by the log's mu.
type aheadState struct {
	made    int
	running bool
	closing bool
}

// makeAheadLocked has a file made when the segment is half full and there is none to follow it.
func (s *logStore) makeAheadLocked(g *segment) {
	if g.asked || g.size < s.segBytes/2 || len(s.spares) > 0 || s.ahead.running || s.ahead.closing {
		return
	}
	g.asked, s.ahead.running = true, true // once: a full disk is not asked again for every write
	s.ahead.made++
	path := filepath.Join(s.dir, fmt.Sprint(s.ahead.made)+aheadSuffix)
	size := s.segBytes + segRoom
	s.making.Go(func() {
		f, err := s.fileOfZeros(path, size)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ahead.running = false
		if err == nil {
			s.spares = append(s.spares, spare{f: f, path: path, size: size, zero: true})
		}
	})
}

var errClosing = errors.New("raftstore: the log is being closed")

func (s *logStore) fileOfZeros(path string, size uint32) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	zeros := make([]byte, segRoom)
	for at := uint32(0); at < size && err == nil; at += segRoom {
		if _, err = f.WriteAt(zeros[:min(segRoom, size-at)], int64(at)); err != nil {
			break
		}
		// Little by little: the log's own syncs share the disk.
		if (at/segRoom)%4 == 3 || at+segRoom >= size {
			err = syncData(f)
		}
		s.mu.RLock()
		if s.ahead.closing && err == nil {
			err = errClosing
		}
		s.mu.RUnlock()
	}
	if err != nil {
		_ = f.Close()
		_ = os.Remove(path)
		return nil, err
	}
	return f, nil
}

func (old *spare) drop() {
	_ = old.f.Close()
	_ = os.Remove(old.path)
}

// dropSparesLocked deletes what is kept. Whatever a crash leaves of it, the next Open deletes.
func (s *logStore) dropSparesLocked() {
	for i := range s.spares {
		s.spares[i].drop()
	}
	s.spares = nil
}

// removeSpares deletes what another process kept.
func removeSpares(dir string, entries []os.DirEntry) {
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), spareSuffix) || strings.HasSuffix(e.Name(), aheadSuffix) {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}
