package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
)

// stateFile is the durable copy of the machine, always some way behind the raft log, which alone
// makes writes durable. It changes only by whole, fully synced transactions that carry the index
// they reach: what is missing is replayed from the log.
//
//	meta   "applied", "revision", "compacted", "lease": big-endian uint64
//	rev    revision, sub (big-endian 8 + 4 bytes) → Record without value
//	val    the same key → value
//	lease  id (8 bytes) → time to live in ms (8 bytes)
//
// Versions and values are apart so that opening reads the small half only.
type stateFile struct {
	stateDB
	// flushing makes flushes run one after the other.
	flushing sync.Mutex
	durable  uint64 // guarded by flushing
	hook     func(op string) error
}

var (
	bucketMeta  = []byte("meta")
	bucketRev   = []byte("rev")
	bucketVal   = []byte("val")
	bucketLease = []byte("lease")
)

func openState(path string, hook func(string) error) (*stateFile, error) {
	opts := &bolt.Options{
		Timeout:      time.Second, // the folder's lock is taken: nobody else should be here
		FreelistType: bolt.FreelistMapType,
		// Growing a mapping waits for every reader, a backup to a slow writer included. Address
		// space costs nothing, so most stores never have to.
		InitialMmapSize: initialMmap,
	}
	db, err := bolt.Open(path, 0o600, opts)
	if err != nil {
		return nil, fmt.Errorf("open state file %s: %w", path, err)
	}
	s := &stateFile{hook: hook}
	s.current.Store(db)
	err = db.View(func(tx *bolt.Tx) error {
		if b := tx.Bucket(bucketMeta); b != nil {
			s.durable = metaGet(b, "applied")
			return nil
		}
		return errGone
	})
	if errors.Is(err, errGone) {
		err = db.Update(func(tx *bolt.Tx) error {
			for _, name := range [][]byte{bucketMeta, bucketRev, bucketVal, bucketLease} {
				if _, err := tx.CreateBucketIfNotExists(name); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("open state file %s: %w", path, err)
	}
	return s, nil
}

func metaGet(b *bolt.Bucket, key string) uint64 {
	v := b.Get([]byte(key))
	if len(v) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(v)
}

func u64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

func (v *version) diskKey() []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(make([]byte, 0, 12), uint64(v.mod)), v.sub)
}

// load implements valueStore.
func (s *stateFile) load(vs []*version, values [][]byte) error {
	err := s.view(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketVal)
		for i, v := range vs {
			if values[i] != nil || v.tomb {
				continue
			}
			value := b.Get(v.diskKey())
			if value == nil {
				return errGone
			}
			values[i] = append(make([]byte, 0, len(value)), value...)
		}
		return nil
	})
	if errors.Is(err, bolt.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	return err
}

// fill reads the whole file into a new machine.
func (s *stateFile) fill(m *machine) error {
	v := &view{}
	byKey := map[string][]*version{}
	err := s.view(func(tx *bolt.Tx) error {
		meta := tx.Bucket(bucketMeta)
		m.applied = metaGet(meta, "applied")
		m.lastLease = int64(metaGet(meta, "lease"))
		v.rev, v.compacted = int64(metaGet(meta, "revision")), int64(metaGet(meta, "compacted"))
		err := tx.Bucket(bucketLease).ForEach(func(k, t []byte) error {
			if len(k) != 8 || len(t) != 8 {
				return fmt.Errorf("%w: lease record", ErrCorrupt)
			}
			m.leases[int64(binary.BigEndian.Uint64(k))] = &lease{
				ttlMillis: int64(binary.BigEndian.Uint64(t)), keys: map[string]struct{}{}}
			return nil
		})
		if err != nil {
			return err
		}
		err = tx.Bucket(bucketRev).ForEach(func(k, rec []byte) error {
			r, _, err := decodeRecord(rec)
			if err != nil {
				return err
			}
			if string(r.diskKey()) != string(k) {
				return fmt.Errorf("%w: record %x says %d.%d", ErrCorrupt, k, r.mod, r.sub)
			}
			addVersion(byKey, v, r)
			return nil
		})
		if err != nil {
			return err
		}
		return m.readSessions(tx)
	})
	if err != nil {
		return fmt.Errorf("read state file: %w", err)
	}
	m.install(v, byKey)
	return nil
}

// addVersion collects r, which comes after everything collected before.
func addVersion(byKey map[string][]*version, v *view, r *version) {
	vers := byKey[r.key]
	if len(vers) > 0 {
		r.key = vers[0].key // one string for all versions
	}
	byKey[r.key] = append(vers, r)
	if r.mod > v.compacted {
		v.log = append(v.log, r)
	}
}

func (m *machine) install(v *view, byKey map[string][]*version) {
	for key, vers := range byKey {
		if r := current(vers); r != nil && r.lease != 0 {
			if l := m.leases[r.lease]; l != nil {
				l.keys[key] = struct{}{}
			}
		}
	}
	v.root = buildIndex(byKey)
	m.publish(v)
}

// taken is a consistent state between two entries.
type taken struct {
	pending
	view      *view
	applied   uint64
	lastLease int64
	ttls      map[int64]int64 // nil: unchanged
	sessions  takenSessions
}

func (m *machine) take() (taken, error) {
	m.step.Lock()
	defer m.step.Unlock()
	if m.broken != nil {
		return taken{}, m.broken // an entry stopped half-way: what is in memory is no state to keep
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	t := taken{pending: m.pending, view: m.view.Load(), applied: m.applied, lastLease: m.lastLease}
	if t.leases {
		t.ttls = make(map[int64]int64, len(m.leases))
		for id, l := range m.leases {
			t.ttls[id] = l.ttlMillis
		}
	}
	t.sessions = m.takeSessions()
	m.pending = pending{}
	return t, nil
}

// flush makes everything that has been applied durable, in one transaction.
func (s *stateFile) flush(m *machine) error {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	t, err := m.take()
	if err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	if !t.any {
		return nil
	}
	if s.hook != nil {
		if err := s.hook("flush"); err != nil {
			return fmt.Errorf("flush: %w", err)
		}
	}
	if err := s.update(func(tx *bolt.Tx) error { return writeTaken(tx, &t) }); err != nil {
		// What was taken is lost to the file for this run; the node must stop flushing, and does.
		return fmt.Errorf("flush: %w", err)
	}
	s.durable = t.applied
	for _, v := range t.puts {
		v.value.Store(nil) // from now on it is read from the file
	}
	return nil
}

func writeTaken(tx *bolt.Tx, t *taken) error {
	t.spare()
	rev, val := tx.Bucket(bucketRev), tx.Bucket(bucketVal)
	// Keys only ever grow: full pages, not half-full ones.
	rev.FillPercent, val.FillPercent = 0.95, 0.95
	for _, v := range t.puts {
		k := v.diskKey()
		if err := rev.Put(k, encodeRecord(v, nil)); err != nil {
			return err
		}
		if p := v.value.Load(); p != nil {
			if err := val.Put(k, *p); err != nil {
				return err
			}
		}
	}
	for _, v := range t.dels {
		k := v.diskKey()
		if err := rev.Delete(k); err != nil {
			return err
		}
		if err := val.Delete(k); err != nil {
			return err
		}
	}
	if t.ttls != nil {
		if err := tx.DeleteBucket(bucketLease); err != nil {
			return err
		}
		b, err := tx.CreateBucket(bucketLease)
		if err != nil {
			return err
		}
		for id, ttl := range t.ttls {
			if err := b.Put(u64(uint64(id)), u64(uint64(ttl))); err != nil {
				return err
			}
		}
	}
	if err := t.sessions.write(tx); err != nil {
		return err
	}
	return writeMeta(tx, t.applied, t.view.rev, t.view.compacted, t.lastLease)
}

func writeMeta(tx *bolt.Tx, applied uint64, rev, compacted, lease int64) error {
	meta := tx.Bucket(bucketMeta)
	for k, v := range map[string]uint64{"applied": applied, "revision": uint64(rev),
		"compacted": uint64(compacted), "lease": uint64(lease)} {
		if err := meta.Put([]byte(k), u64(v)); err != nil {
			return err
		}
	}
	return nil
}

func (s *stateFile) durableIndex() uint64 {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	return s.durable
}
