package raftstore

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
)

// check reads every segment again and compares it with what is known of it.
func (s *logStore) check(bad func(string, ...any)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.poisoned == nil {
		if err := s.settleLocked(); err != nil { // the newest then has its name
			s.poisoned = fmt.Errorf("sync log: %w", err)
			s.tail.Broadcast()
			bad("log: %v", err)
			return
		}
	}
	for i, g := range s.segs {
		name := filepath.Base(g.path)
		b, err := os.ReadFile(g.path)
		if err != nil {
			bad("log: %v", err)
			continue
		}
		first, key, ok := decodeSegHeader(b)
		if !ok || first != g.first || key != g.key {
			bad("log: the header of %s is damaged", name)
			continue
		}
		if i > 0 && s.segs[i-1].last()+1 != first {
			bad("log: entries end at %d and go on at %d", s.segs[i-1].last(), first)
		}
		for k, at := range g.offsets {
			index := g.first + uint64(k)
			r, _, ok := parseRecord(b[min(int(at), len(b)):])
			if !ok || r.Index != index {
				bad("log: entry %d in %s fails its checksum", index, name)
				break
			}
			if err := r.open(s.ring, g.key); err != nil {
				bad("log: entry %d in %s: %v", index, name, err)
				break
			}
		}
		if extra := int64(len(b)) - int64(g.room); extra != 0 && !s.readOnly {
			bad("log: %s has %d bytes more than were written", name, extra)
		}
	}
}

func (s *stableStore) check(bad func(string, ...any)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := os.ReadFile(s.path)
	if err != nil {
		bad("stable values: %v", err)
		return
	}
	values, good, err := readStable(b, s.ring)
	switch {
	case err != nil:
		bad("stable values: %v", err)
	case good != len(b) && s.f != nil:
		bad("stable values: a record of %s fails its checksum", filepath.Base(s.path))
	case !maps.Equal(values, s.values):
		bad("stable values: the file has others than memory")
	}
}

func (s *snapshots) check(bad func(string, ...any)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := os.ReadFile(s.path)
	if err != nil {
		if s.meta != nil || !os.IsNotExist(err) {
			bad("snapshot note: %v", err)
		}
		return
	}
	n, err := decodeNote(b, s.ring)
	switch {
	case err != nil:
		bad("snapshot note: %v", err)
	case s.meta == nil || n.Index != s.meta.Index || n.Durable != s.meta.Durable:
		bad("snapshot note: the file says entry %d, memory does not", n.Index)
	}
}

// openToRead opens the files of a folder and writes to none of them. A log that ends in a torn write,
// which Open would cut off, is no damage.
func openToRead(cfg *Config) (_ *files, err error) {
	path := func(name string) string { return filepath.Join(cfg.Dir, name) }
	f := &files{}
	defer func() {
		if err != nil {
			_ = f.close()
		}
	}()
	if _, err := os.Stat(cfg.Dir); err != nil {
		return nil, err
	}
	if f.lock, err = lockFile(path(fileLock)); err != nil {
		return nil, err
	}
	f.closers = append(f.closers, f.lock.Close)
	b, err := os.ReadFile(path(fileFormat))
	if err != nil {
		return nil, fmt.Errorf("this is no folder of a store, or it was never filled: %w", err)
	}
	version, err := parseFormat(b)
	if err != nil {
		return nil, err
	}
	if version > formatVersion {
		return nil, fmt.Errorf("%w: format %d, this program knows %s", ErrNewer, version, knownFormats(formatVersion, migrations()))
	}
	if version < formatVersion {
		return nil, fmt.Errorf("%w: format %d is from before this program: open it once, which brings it to format %d", ErrInvalid, version, formatVersion)
	}
	if f.ring, err = openKeys(path(fileKeys)); err != nil {
		return nil, err
	}
	if err := f.ring.read(cfg.KeyProvider); err != nil {
		return nil, err
	}
	if damage := checkPages(path(fileState), true); len(damage) > 0 {
		return nil, fmt.Errorf("state file: %w", damage[0])
	}
	opts := boltOptions()
	opts.ReadOnly = true
	db, err := openBolt(path(fileState), opts)
	if err != nil {
		return nil, err
	}
	f.state = &stateFile{stateDB: stateDB{path: path(fileState)}, ring: f.ring}
	f.state.current.Store(db)
	f.closers = append(f.closers, f.state.close)
	err = f.state.view(func(tx *bolt.Tx) error {
		for _, b := range allBuckets {
			if tx.Bucket(b) == nil {
				return fmt.Errorf("%w: the state file has no bucket %s", ErrCorrupt, b)
			}
		}
		meta, err := f.ring.stateMeta(tx)
		f.state.durable, f.state.brought = meta.applied, meta.brought
		return err
	})
	if err != nil {
		return nil, err
	}
	if f.segs, err = readLog(path(dirLog), f.ring); err != nil {
		return nil, err
	}
	f.log = f.segs
	f.closers = append(f.closers, f.segs.Close)
	b, err = os.ReadFile(path(fileStable))
	if err != nil {
		return nil, err
	}
	values, good, err := readStable(b, f.ring)
	if err != nil {
		return nil, err
	}
	stable := &stableStore{path: path(fileStable), ring: f.ring, values: values, size: int64(good)}
	f.stable = stable
	f.snaps, err = openSnapshots(path(fileSnap), f.ring, nil)
	return f, err
}
