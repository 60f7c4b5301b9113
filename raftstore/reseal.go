package raftstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
)

// Keys change in three steps: KEYS gets the new current key beside the old ones; everything at rest
// is sealed anew; KEYS forgets the old ones. Both keys are known in between, so a crash at any point
// leaves a folder that opens, and the second step is made again.

// begin makes a new key the current one (sealed), or none. mixed says that something at rest may be
// unsealed.
func (r *keyring) begin(sealed, mixed bool) error {
	var key *dataKey
	if sealed {
		ctx, cancel := context.WithTimeout(context.Background(), providerTimeout)
		defer cancel()
		r.mu.RLock()
		p := r.provider
		r.mu.RUnlock()
		var err error
		if key, err = newDataKey(ctx, p); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	old := *r.stateLocked()
	r.mixed = r.mixed || mixed
	r.current = 0
	if key != nil {
		if err := r.learn(key); err != nil {
			return err
		}
		r.keys, r.current = append(r.keys[:len(r.keys):len(r.keys)], key), key.id
	}
	if err := r.saveLocked(); err != nil {
		r.keys, r.current, r.mixed = old.keys, old.current, old.mixed
		return err
	}
	return nil
}

// end forgets all keys but the current one.
func (r *keyring) end() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := *r.stateLocked()
	r.mixed = false
	r.keys = nil
	for _, k := range old.keys {
		if k.id == r.current {
			r.keys = append(r.keys, k)
		}
	}
	if err := r.saveLocked(); err != nil {
		r.keys, r.mixed = old.keys, old.mixed
		return err
	}
	return nil
}

type ringState struct {
	keys    []*dataKey
	current uint32
	mixed   bool
}

func (r *keyring) stateLocked() *ringState {
	return &ringState{keys: r.keys, current: r.current, mixed: r.mixed}
}

// unfinished says whether a change of keys was interrupted; whole, whether it was one between sealed
// and not sealed.
func (r *keyring) unfinished() (unfinished, whole bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	whole = r.mixed || r.current == 0 && len(r.keys) > 0
	return whole || len(r.keys) > 1, whole
}

// resealNow turns sealing on or off, or ends doing so. Nothing else uses the folder meanwhile, so the
// state file is written anew as a whole: pages that bbolt had freed do not keep what was in them.
func (f *files) resealNow(sealed bool) error {
	_, whole := f.ring.unfinished()
	if has := f.ring.currentKey() != 0; has == sealed && !whole {
		return nil
	} else if has != sealed {
		if err := f.ring.begin(sealed, sealed); err != nil {
			return err
		}
	}
	if err := f.state.rewrite(); err != nil {
		return fmt.Errorf("seal the state file anew: %w", err)
	}
	if err := f.resealSmall(); err != nil {
		return err
	}
	return f.ring.end()
}

// resealSmall brings everything but the state file under the current key.
func (f *files) resealSmall() error {
	if err := f.segs.reseal(); err != nil {
		return fmt.Errorf("seal the log anew: %w", err)
	}
	if err := f.stable.(*stableStore).reseal(); err != nil {
		return fmt.Errorf("seal %s anew: %w", fileStable, err)
	}
	if err := f.snaps.reseal(); err != nil {
		return fmt.Errorf("seal the snapshot note anew: %w", err)
	}
	return nil
}

// reseal writes every segment anew that has another key than the current one. Appends wait for one
// segment at a time.
func (s *logStore) reseal() error {
	for {
		done, err := s.resealNext()
		if done || err != nil {
			return err
		}
	}
}

func (s *logStore) resealNext() (done bool, err error) {
	s.cutting.Lock()
	defer s.cutting.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.poisoned != nil {
		return true, s.poisoned
	}
	if err := s.settleLocked(); err != nil {
		s.poisoned = fmt.Errorf("sync log: %w", err)
		return true, s.poisoned
	}
	s.dropSparesLocked() // what they hold is sealed with the old key, or not at all
	key := s.ring.currentKey()
	for _, g := range s.segs {
		if g.key == key {
			continue
		}
		if err := s.rewriteLocked(g); err != nil {
			s.poisoned = fmt.Errorf("write log: %w", err)
			return true, s.poisoned
		}
		return false, nil
	}
	return true, nil
}

func (s *logStore) rewriteLocked(g *segment) error {
	old := make([]byte, g.size)
	if _, err := g.f.ReadAt(old, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	seal := s.ring.sealer()
	b := append(make([]byte, 0, len(old)+64*len(g.offsets)), encodeSegHeader(g.first, seal.id)...)
	offsets := make([]uint32, 0, len(g.offsets))
	for i, at := range g.offsets {
		r, _, ok := parseRecord(old[at:])
		if !ok || r.Index != g.first+uint64(i) {
			return fmt.Errorf("%w: entry %d", ErrCorrupt, g.first+uint64(i))
		}
		if err := r.open(s.ring, g.key); err != nil {
			return fmt.Errorf("entry %d: %w", r.Index, err)
		}
		offsets = append(offsets, uint32(len(b)))
		b = appendRecord(b, &r.Log, uint32(len(b)), seal)
	}
	if err := writeFileSynced(g.path, b); err != nil {
		return err
	}
	f, err := os.OpenFile(g.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_ = g.f.Close()
	s.bytes += int64(len(b)) - int64(g.size)
	g.f, g.offsets, g.size, g.key, g.seal = f, offsets, uint32(len(b)), seal.id, seal
	g.synced, g.room = g.size, g.size
	return nil
}

func (s *stableStore) reseal() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return s.failed
	}
	if err := s.rewriteLocked(); err != nil {
		s.failed = fmt.Errorf("write %s: %w", s.path, err)
		return s.failed
	}
	return nil
}

func (s *snapshots) reseal() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.meta == nil || s.path == "" {
		return nil
	}
	return writeFileSynced(s.path, s.meta.encode(s.ring.sealer()))
}

const resealBytes = 4 << 20

// rewrite replaces the file by one that is sealed with the current key. Nothing else may use it.
func (s *stateFile) rewrite() error {
	path := s.path
	tmp := path + ".new"
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	to, err := openBolt(tmp, boltOptions())
	if err != nil {
		return err
	}
	// Nobody knows of this file before it is synced as a whole.
	to.NoSync = true
	err = contain(func() error { return s.copyTo(to.DB) })
	if err == nil {
		err = to.Sync()
	}
	if cerr := to.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = os.Remove(tmp)
		return err
	}
	if err := s.close(); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return err
	}
	db, err := openBolt(path, boltOptions())
	if err != nil {
		return err
	}
	s.current.Store(db)
	return nil
}

func (s *stateFile) copyTo(to *bolt.DB) error {
	for _, bucket := range allBuckets {
		if err := to.Update(func(tx *bolt.Tx) error { _, err := tx.CreateBucketIfNotExists(bucket); return err }); err != nil {
			return err
		}
		next, done := []byte{}, false
		for !done {
			err := to.Update(func(tx *bolt.Tx) (err error) {
				b := tx.Bucket(bucket)
				b.FillPercent = 0.95
				next, done, err = s.resealFrom(bucket, next, false, b.Put)
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// resealFrom calls put for some of the blobs of a bucket, from key next on, sealed with the current
// key; stale skips those that have it already. It returns where to go on.
func (s *stateFile) resealFrom(bucket, next []byte, stale bool, put func(k, v []byte) error) (_ []byte, done bool, err error) {
	seal, open := s.ring.sealer(), s.ring.opener()
	done = true
	err = s.view(func(tx *bolt.Tx) error {
		size, looked := 0, 0
		c := tx.Bucket(bucket).Cursor()
		for k, v := c.Seek(next); k != nil; k, v = c.Next() {
			if size > resealBytes || looked > 100_000 {
				next, done = append([]byte(nil), k...), false
				return nil
			}
			looked++
			if stale {
				x, err := parseBlob(v)
				if err != nil {
					return fmt.Errorf("%s %x: %w", bucket, k, err)
				}
				if x.key == seal.id {
					continue
				}
			}
			data, err := open.blob(v, placeIn(bucket, k))
			if err != nil {
				return fmt.Errorf("%s %x: %w", bucket, k, err)
			}
			size += len(data) + 100
			if err := put(append([]byte(nil), k...), seal.blob(nil, placeIn(bucket, k), data)); err != nil {
				return err
			}
		}
		return nil
	})
	return next, done, err
}

// reseal brings the state file under the current key while it is in use, some of it at a time.
func (s *stateFile) reseal(ctx context.Context) error {
	for _, bucket := range allBuckets {
		next, done := []byte{}, false
		for !done {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			var err error
			if next, done, err = s.resealSome(bucket, next); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *stateFile) resealSome(bucket, next []byte) (_ []byte, done bool, err error) {
	// With flushing held, nothing is deleted or written between reading and writing.
	s.flushing.Lock()
	defer s.flushing.Unlock()
	type item struct{ k, v []byte }
	var items []item
	next, done, err = s.resealFrom(bucket, next, true, func(k, v []byte) error {
		items = append(items, item{k, v})
		return nil
	})
	if err != nil || len(items) == 0 {
		return next, done, err
	}
	if s.hook != nil {
		if err := s.hook("flush"); err != nil {
			return nil, false, err
		}
	}
	err = s.update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucket)
		for _, it := range items {
			if err := b.Put(it.k, it.v); err != nil {
				return err
			}
		}
		return nil
	})
	return next, done, err
}

// RotateKey replaces the data key: what is written from now on is sealed with a new one, and what is
// at rest is sealed anew while reads and writes go on. It returns when nothing needs the old key any
// more. Interrupted, by ctx or by a crash, it is ended by the next Run. ErrInvalid when the store is
// not sealed.
func (s *Store) RotateKey(ctx context.Context) error {
	ring := s.files.ring
	ring.changing.Lock()
	defer ring.changing.Unlock()
	if s.files.state == nil || ring.currentKey() == 0 {
		return fmt.Errorf("rotate key: %w: the store is not sealed: open it with Config.KeyProvider", ErrInvalid)
	}
	if err := s.waitStarted(ctx); err != nil {
		return fmt.Errorf("rotate key: %w", err)
	}
	if err := ring.begin(true, false); err != nil {
		return fmt.Errorf("rotate key: %w", err)
	}
	return s.endRotation(ctx)
}

// endRotation is called with ring.changing held.
func (s *Store) endRotation(ctx context.Context) error {
	err := s.files.resealSmall()
	if err == nil {
		if err = s.files.state.reseal(ctx); err != nil && ctx.Err() != nil {
			return fmt.Errorf("rotate key: %w", context.Cause(ctx))
		}
	}
	if err == nil {
		err = s.files.ring.end()
	}
	if err != nil {
		err = fmt.Errorf("rotate key: %w", err)
		s.fail.set(err)
	}
	return err
}

// finishRotation ends what a crash interrupted.
func (s *Store) finishRotation(ctx context.Context) {
	if s.files.state == nil {
		return
	}
	ring := s.files.ring
	ring.changing.Lock()
	defer ring.changing.Unlock()
	if unfinished, _ := ring.unfinished(); unfinished {
		if err := s.endRotation(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Logger.Error("the rotation of the data key was not finished", "error", err)
		}
	}
}

// RewrapKey wraps the data key with another wrapping key, and nothing else changes. From now on the
// folder opens with that provider. A provider that the folder has already is asked to wrap it again,
// as after a KMS has made a new version of its key.
func (s *Store) RewrapKey(ctx context.Context, to KeyProvider) error {
	ring := s.files.ring
	ring.changing.Lock()
	defer ring.changing.Unlock()
	if to == nil || s.files.state == nil || ring.currentKey() == 0 {
		return fmt.Errorf("rewrap key: %w: the store is not sealed, or there is no key to wrap with", ErrInvalid)
	}
	if err := ring.rewrap(ctx, to); err != nil {
		return fmt.Errorf("rewrap key: %w", err)
	}
	return nil
}

func (r *keyring) rewrap(ctx context.Context, to KeyProvider) error {
	r.mu.RLock()
	keys := make([]*dataKey, len(r.keys))
	for i, k := range r.keys {
		c := *k
		keys[i] = &c
	}
	r.mu.RUnlock()
	for _, k := range keys {
		if err := k.wrap(ctx, to); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	old := *r.stateLocked()
	r.keys = keys
	if err := r.saveLocked(); err != nil {
		r.keys = old.keys
		return err
	}
	r.provider = to
	return nil
}
