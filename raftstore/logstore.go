package raftstore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/raft"
)

// logStore is raft's log in plain append-only files. A StoreLogs is one write; the sync comes behind it,
// see logSync, and so does the name of a new file, see recycle.go.
// Entries leave at the front by whole segments and at the back by truncation.
type logStore struct {
	dir  string
	hook func(op string) error // faults by label, for tests
	ring *keyring

	cutting sync.Mutex     // held while files leave the log, which is done without mu. Taken before mu.
	making  sync.WaitGroup // files that are being made ahead

	mu       sync.RWMutex
	segs     []*segment // ascending and contiguous; the last one is written to
	spares   []spare    // for segments to come
	ahead    aheadState
	segBytes uint32 // when a new segment begins
	first    uint64 // 0: empty
	bytes    int64
	buf      []byte
	readOnly bool
	poisoned error // a failed sync: what the file holds is no longer known
	logSync
}

type segment struct {
	f       *os.File
	path    string
	name    string // the path that it gets with the next sync; "": it has it
	first   uint64
	offsets []uint32
	size    uint32
	key     uint32  // of the keyring; 0: not sealed
	seal    *sealer // the run of what this process appends
	synced  uint32  // up to here it is durable
	room    uint32  // what the file has; beyond size are zeros, or entries before first
	asked   bool    // the file after it is being made, or was
}

func (g *segment) last() uint64 { return g.first + uint64(len(g.offsets)) - 1 }

func openLog(dir string, ring *keyring, hook func(string) error) (*logStore, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return scanLog(&logStore{dir: dir, hook: hook, ring: ring, segBytes: segMaxSize})
}

// readLog is openLog for who writes nothing: a torn tail stays where it is.
func readLog(dir string, ring *keyring) (*logStore, error) {
	return scanLog(&logStore{dir: dir, ring: ring, poisoned: ErrInvalid, readOnly: true})
}

func scanLog(s *logStore) (*logStore, error) {
	dir := s.dir
	s.tail = sync.NewCond(&s.mu)
	// Not filepath.Glob, which takes a folder that it cannot read for an empty one.
	entries, err := os.ReadDir(dir)
	if err != nil && !(s.readOnly && errors.Is(err, os.ErrNotExist)) {
		return nil, fmt.Errorf("open log: %w", err)
	}
	var names []string
	if !s.readOnly {
		removeSpares(dir, entries)
	}
	for _, e := range entries { // in the order of their names
		if strings.HasSuffix(e.Name(), segSuffix) {
			names = append(names, filepath.Join(dir, e.Name()))
		}
	}
	for i, name := range names {
		if err := s.openSegment(name, i == len(names)-1); err != nil {
			s.poisoned = err // nothing is cut off a log that isn't whole
			_ = s.Close()
			return nil, fmt.Errorf("open log %s: %w", name, err)
		}
	}
	for _, g := range s.segs { // each ends where the next one begins: what follows is room
		if g.room > g.size && !s.readOnly {
			if err := g.f.Truncate(int64(g.size)); err != nil {
				s.poisoned = err
				_ = s.Close()
				return nil, fmt.Errorf("open log %s: %w", g.path, err)
			}
			g.room = g.size
		}
	}
	if len(names) > 0 && !s.readOnly {
		// A process that was killed may have named a file without having synced that.
		if err := syncDir(dir); err != nil {
			_ = s.Close()
			return nil, fmt.Errorf("open log: %w", err)
		}
	}
	s.setFirst()
	s.durable = s.lastLocked()
	return s, nil
}

func (s *logStore) setFirst() {
	s.first = 0
	if len(s.segs) > 0 && len(s.segs[0].offsets) > 0 {
		s.first = s.segs[0].first
	}
}

func (s *logStore) openSegment(name string, newest bool) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	first, key, ok := decodeSegHeader(b)
	if !ok {
		if newest && len(b) <= segHeader {
			if s.readOnly {
				return nil
			}
			return removeSynced(name) // the power failed while it was made: it never held anything
		}
		return fmt.Errorf("%w: segment header", ErrCorrupt)
	}
	if key == 0 && s.ring.strict() {
		return fmt.Errorf("%w: it is not sealed where everything is", ErrCorrupt)
	}
	if n := len(s.segs); n > 0 && s.segs[n-1].last()+1 != first {
		return fmt.Errorf("%w: entries end at %d and go on at %d", ErrCorrupt, s.segs[n-1].last(), first)
	}
	offsets, good, err := scanSegment(b, first)
	if err != nil {
		return err
	}
	mode := os.O_RDWR
	if s.readOnly {
		mode = os.O_RDONLY
	}
	f, err := os.OpenFile(name, mode, 0)
	if err != nil {
		return err
	}
	if good < len(b) && newest && !s.readOnly {
		if err := truncateSynced(f, int64(good)); err != nil {
			_ = f.Close()
			return err
		}
		b = b[:good]
	}
	if newest && !s.readOnly {
		if err := writeTailAgain(f, b[:good], offsets); err != nil {
			_ = f.Close()
			return err
		}
	}
	s.segs = append(s.segs, &segment{f: f, path: name, first: first, offsets: offsets, size: uint32(good), synced: uint32(good), room: uint32(len(b)), key: key})
	s.bytes += int64(good)
	return nil
}

// writeTailAgain writes and syncs the last batch of a segment once more. After a sync that failed,
// the kernel may hold the bytes as if they were on the disk, and they are not: this process would take
// for durable what the next loss of power takes away. Everything before was synced with success.
func writeTailAgain(f *os.File, b []byte, offsets []uint32) error {
	if len(offsets) == 0 {
		return f.Sync()
	}
	r, _, ok := parseRecord(b[offsets[len(offsets)-1]:])
	if !ok {
		return fmt.Errorf("%w: the last entry", ErrCorrupt)
	}
	if _, err := f.WriteAt(b[r.synced:], int64(r.synced)); err != nil {
		return err
	}
	return syncData(f)
}

func truncateSynced(f *os.File, size int64) error {
	if err := f.Truncate(size); err != nil {
		return err
	}
	return f.Sync()
}

func removeSynced(path string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

// IsMonotonic tells raft that there are no gaps here.
func (s *logStore) IsMonotonic() bool { return true }

func (s *logStore) FirstIndex() (uint64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.first, nil
}

func (s *logStore) LastIndex() (uint64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.lastLocked(), nil
}

func (s *logStore) lastLocked() uint64 {
	if s.first == 0 {
		return 0
	}
	return s.segs[len(s.segs)-1].last()
}

func (s *logStore) size() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.bytes
}

func (s *logStore) GetLog(index uint64, l *raft.Log) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.first == 0 || index < s.first || index > s.lastLocked() {
		return raft.ErrLogNotFound
	}
	i, found := slices.BinarySearchFunc(s.segs, index, func(g *segment, x uint64) int {
		switch {
		case g.first > x:
			return 1
		case g.last() < x:
			return -1
		}
		return 0
	})
	if !found {
		return raft.ErrLogNotFound
	}
	g := s.segs[i]
	k := index - g.first
	start, end := g.offsets[k], g.size
	if int(k+1) < len(g.offsets) {
		end = g.offsets[k+1]
	}
	b := make([]byte, end-start)
	if _, err := g.f.ReadAt(b, int64(start)); err != nil && err != io.EOF {
		return fmt.Errorf("read entry %d: %w", index, err)
	}
	r, _, ok := parseRecord(b)
	if !ok || r.Index != index {
		return fmt.Errorf("%w: entry %d", ErrCorrupt, index)
	}
	if err := r.open(s.ring, g.key); err != nil {
		return fmt.Errorf("read entry %d: %w", index, err)
	}
	*l = r.Log
	return nil
}

func (s *logStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

func (s *logStore) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.poisoned != nil {
		return s.poisoned
	}
	err := s.storeLocked(logs)
	if err == nil && mustSync(logs) {
		err = s.settleLocked()
	}
	if err != nil {
		s.poisoned = fmt.Errorf("write log: %w", err)
		s.tail.Broadcast()
		return s.poisoned
	}
	return nil
}

func (s *logStore) storeLocked(logs []*raft.Log) error {
	if s.hook != nil {
		if err := s.hook("log"); err != nil {
			return err
		}
	}
	if s.first != 0 && logs[0].Index != s.lastLocked()+1 {
		return fmt.Errorf("%w: entry %d cannot follow %d", ErrInvalid, logs[0].Index, s.lastLocked())
	}
	g, err := s.writableLocked(logs[0].Index)
	if err != nil {
		return err
	}
	s.buf = s.buf[:0]
	offsets := make([]uint32, 0, len(logs))
	for i, l := range logs {
		if l.Index != logs[0].Index+uint64(i) {
			return fmt.Errorf("%w: entries %d and %d in one batch", ErrInvalid, logs[0].Index, l.Index)
		}
		offsets = append(offsets, g.size+uint32(len(s.buf)))
		s.buf = appendRecord(s.buf, l, g.synced, g.seal)
	}
	if len(s.buf) > maxRecord {
		return fmt.Errorf("%w: batch of %d bytes", ErrInvalid, len(s.buf))
	}
	g.makeRoom(len(s.buf))
	if _, err := g.f.WriteAt(s.buf, int64(g.size)); err != nil {
		return err
	}
	g.offsets = append(g.offsets, offsets...)
	g.size += uint32(len(s.buf))
	s.bytes += int64(len(s.buf))
	if cap(s.buf) > 1<<20 {
		s.buf = nil // one large batch should not stay in memory
	}
	if s.first == 0 {
		s.setFirst() // and where the front was cut, it stays cut
	}
	s.makeAheadLocked(g)
	return nil
}

// sealable says whether the segment has the key that is current, and can be appended to.
func (g *segment) sealable(ring *keyring) bool {
	if g.seal == nil {
		g.seal = ring.sealer()
	}
	return g.seal.id == g.key && g.key == ring.currentKey()
}

// segRoom is how much a segment grows by, ahead of what is written.
const segRoom = 256 << 10

// makeRoom writes zeros where the next n bytes go and beyond: the sync after them gives them their place on the disk,
// and those that follow have data alone to write. (Room from fallocate would not do: that the blocks are written to for
// the first time is metadata, too.) If it cannot, the write will tell.
func (g *segment) makeRoom(n int) {
	end := g.size + uint32(n)
	if end <= g.room {
		return
	}
	to := (end/segRoom + 1) * segRoom
	from := max(g.room, end) // what is written in any case needs no zeros
	if _, err := g.f.WriteAt(make([]byte, to-from), int64(from)); err == nil {
		g.room = to
	} else {
		_ = g.f.Truncate(int64(g.room))
		g.room = end
	}
}

// writableLocked returns the segment that the entry next goes to.
func (s *logStore) writableLocked(next uint64) (*segment, error) {
	if n := len(s.segs); n > 0 {
		g := s.segs[n-1]
		if len(g.offsets) > 0 && g.sealable(s.ring) {
			if g.size < s.segBytes {
				return g, nil
			}
			if g.name == "" { // one at a time
				if next := s.followLocked(next); next != nil {
					return next, nil
				}
			}
		}
		// Only the newest segment may have a tail.
		if err := s.settleLocked(); err != nil {
			return nil, err
		}
		if len(g.offsets) == 0 {
			if g.first == next && g.sealable(s.ring) {
				return g, nil
			}
			if err := s.dropLocked(n - 1); err != nil {
				return nil, err
			}
		}
	}
	path, seal := s.segPath(next), s.ring.sealer()
	f, err := newSegmentFile(path, encodeSegHeader(next, seal.id))
	if err != nil {
		return nil, err
	}
	return s.beginLocked(&segment{f: f, path: path, first: next, room: segHeader, key: seal.id, seal: seal}), nil
}

func (s *logStore) segPath(first uint64) string {
	return filepath.Join(s.dir, fmt.Sprintf("%020d", first)+segSuffix)
}

// beginLocked adds a segment that has a header.
func (s *logStore) beginLocked(g *segment) *segment {
	g.size, g.synced = segHeader, segHeader
	s.segs = append(s.segs, g)
	s.bytes += segHeader
	return g
}

func newSegmentFile(path string, header []byte) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err = f.Write(header); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// dropLocked removes the file of segment i, for good.
func (s *logStore) dropLocked(i int) error {
	g := s.segs[i]
	if err := removeSynced(g.path); err != nil {
		return err
	}
	s.segs = slices.Delete(s.segs, i, i+1)
	s.bytes -= int64(g.size)
	return g.f.Close()
}

// DeleteRange implements raft.LogStore: lo to hi inclusive, always at one of the two ends.
func (s *logStore) DeleteRange(lo, hi uint64) error {
	s.cutting.Lock()
	defer s.cutting.Unlock()
	gone, err := s.cut(lo, hi)
	for _, g := range gone { // in their order: what a crash leaves is contiguous
		if err == nil {
			err = s.retire(g)
		} else {
			_ = g.f.Close()
		}
	}
	if err != nil && len(gone) > 0 {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.poisoned == nil {
			s.poisoned = fmt.Errorf("truncate log: %w", err)
			s.tail.Broadcast()
		}
		return s.poisoned
	}
	return err
}

// cut takes entries out of the log. What it returns has left it at the front, and its files are still there.
func (s *logStore) cut(lo, hi uint64) (gone []*segment, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.poisoned != nil {
		return nil, s.poisoned
	}
	if s.first == 0 {
		return nil, nil
	}
	last := s.lastLocked()
	if hi >= last || s.segs[len(s.segs)-1].name != "" {
		if err := s.settleLocked(); err != nil {
			s.poisoned = fmt.Errorf("sync log: %w", err)
		}
		if s.poisoned != nil {
			s.tail.Broadcast()
			return nil, s.poisoned
		}
		defer s.cutLocked()
		last = s.lastLocked() // it may have waited
	}
	switch {
	case lo <= s.first && hi >= last:
		// From the back: a crash in the middle leaves a contiguous log.
		for len(s.segs) > 0 && err == nil {
			err = s.dropLocked(len(s.segs) - 1)
		}
		s.setFirst()
	case lo <= s.first:
		for s.segs[0].last() <= hi {
			gone = append(gone, s.segs[0])
			s.bytes -= int64(s.segs[0].size)
			s.segs = s.segs[1:]
		}
		s.segs = slices.Clone(s.segs)
		// What remains of a segment below hi reappears when the log is opened again. It is
		// committed history below a snapshot, and harms nobody.
		s.first = max(s.segs[0].first, hi+1)
	case hi >= last:
		err = s.truncateBackLocked(lo)
	default:
		return nil, fmt.Errorf("%w: delete entries %d to %d out of %d to %d", ErrInvalid, lo, hi, s.first, last)
	}
	if err != nil {
		s.poisoned = fmt.Errorf("truncate log: %w", err)
		return nil, s.poisoned
	}
	return gone, nil
}

func (s *logStore) truncateBackLocked(lo uint64) error {
	for s.segs[len(s.segs)-1].first >= lo {
		if err := s.dropLocked(len(s.segs) - 1); err != nil {
			return err
		}
	}
	g := s.segs[len(s.segs)-1]
	if lo > g.last() {
		return nil
	}
	at := g.offsets[lo-g.first]
	if err := truncateSynced(g.f, int64(at)); err != nil {
		return err
	}
	s.bytes -= int64(g.size - at)
	g.offsets, g.size = g.offsets[:lo-g.first], at
	g.synced, g.room = at, at // synced with what was written before it
	return nil
}

// Close syncs what is left and closes the files.
func (s *logStore) Close() error {
	s.cutting.Lock()
	defer s.cutting.Unlock()
	s.mu.Lock()
	s.ahead.closing = true
	s.mu.Unlock()
	s.making.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stillLocked() // also where the log has failed: a sync that is under way uses the files
	var err error
	if s.poisoned == nil {
		err = s.settleLocked()
	}
	s.dropSparesLocked()
	for _, g := range s.segs {
		if s.poisoned == nil && g.room > g.size {
			_ = g.f.Truncate(int64(g.size)) // whoever opens it would
		}
		if cerr := g.f.Close(); err == nil {
			err = cerr
		}
	}
	s.segs, s.first, s.poisoned = nil, 0, ErrClosed
	s.tail.Broadcast()
	return err
}
