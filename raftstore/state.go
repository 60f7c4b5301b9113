package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	"google.golang.org/protobuf/encoding/protowire"
)

// stateFile is the durable copy of the machine, always some way behind the raft log, which alone
// makes writes durable. It changes only by whole, fully synced transactions that carry the index
// they reach: what is missing is replayed from the log.
//
//	meta     "state" → StateMeta
//	rev      revision, sub (big-endian 8 + 4 bytes) → Record without value
//	val      the same key → value
//	lease    id (8 bytes) → Lease
//	session  id (8 bytes) → Session
//
// Each of these stands in a Blob that is bound to its bucket and key.
//
// Versions and values are apart so that opening reads the small half only.
type stateFile struct {
	stateDB
	lost error // see flushTaken; guarded by flushing
	// flushing makes flushes run one after the other. Taken before the machine's step.
	flushing sync.Mutex
	// durable and brought are what StateMeta says, guarded by flushing.
	durable, brought uint64
	flushed          time.Time // guarded by flushing
	hook             func(op string) error
	ring             *keyring
}

var (
	bucketMeta    = []byte("meta")
	bucketRev     = []byte("rev")
	bucketVal     = []byte("val")
	bucketLease   = []byte("lease")
	bucketSession = []byte("session")
)

// allBuckets are those of the file. Everything in them is a Blob.
var allBuckets = [][]byte{bucketMeta, bucketLease, bucketSession, bucketRev, bucketVal}

// statePage is the size of the pages of a file that is made now, in bytes. Objects of an API often have 1 to 3 KiB, of
// which pages of 4 KiB waste half.
const statePage = 8 << 10

func boltOptions() *bolt.Options {
	return &bolt.Options{
		Timeout:      time.Second, // the folder's lock is taken: nobody else should be here
		FreelistType: bolt.FreelistMapType,
		PageSize:     statePage,
		// Growing a mapping waits for every reader, a backup to a slow writer included. Address
		// space costs nothing, so stores never have to.
		InitialMmapSize: initialMmap,
	}
}

func openState(path string, ring *keyring, hook func(string) error) (*stateFile, error) {
	if info, err := os.Stat(path); err == nil && info.Size() > 0 {
		if findings := checkPages(path, false); len(findings) > 0 {
			return nil, fmt.Errorf("open state file %s: %w. Check the disk; then restore a backup in another folder", path, findings[0])
		}
	}
	db, err := openBolt(path, boltOptions())
	if err != nil {
		return nil, fmt.Errorf("open state file %s: %w", path, err)
	}
	s := &stateFile{stateDB: stateDB{path: path}, hook: hook, ring: ring}
	s.current.Store(db)
	err = s.view(func(tx *bolt.Tx) error {
		if tx.Bucket(bucketMeta) != nil {
			meta, err := ring.stateMeta(tx)
			s.durable, s.brought = meta.applied, meta.brought
			return err
		}
		return errGone
	})
	switch {
	case errors.Is(err, errGone):
		err = s.update(func(tx *bolt.Tx) error {
			for _, name := range allBuckets {
				if _, err := tx.CreateBucketIfNotExists(name); err != nil {
					return err
				}
			}
			return nil
		})
	case err == nil:
		err = db.metaAgain()
	}
	if err != nil {
		_ = s.close()
		return nil, fmt.Errorf("open state file %s: %w", path, err)
	}
	return s, nil
}

// placeIn is what a Blob of the state file is bound to.
func placeIn(bucket, key []byte) string { return string(bucket) + " " + string(key) }

var keyMeta = []byte("state")

// stateMeta is the message StateMeta. In a file that was just made it is all zero.
type stateMeta struct {
	applied                    uint64
	revision, compacted, lease int64
	session                    uint64
	version                    int
	brought                    uint64
}

func (m *stateMeta) encode() []byte {
	b := putVarint(nil, 1, m.applied)
	b = putVarint(b, 2, uint64(m.revision))
	b = putVarint(b, 3, uint64(m.compacted))
	b = putVarint(b, 4, uint64(m.lease))
	b = putVarint(b, 5, m.session)
	b = putVarint(b, 6, uint64(m.version))
	return putVarint(b, 7, m.brought)
}

func (r *keyring) stateMeta(tx *bolt.Tx) (stateMeta, error) {
	var m stateMeta
	raw := tx.Bucket(bucketMeta).Get(keyMeta)
	if raw == nil {
		return m, nil
	}
	open := r.opener()
	b, err := open.blob(raw, placeIn(bucketMeta, keyMeta))
	if err != nil {
		return m, fmt.Errorf("state: %w", err)
	}
	return m, eachField(b, func(num protowire.Number, v uint64, _ []byte) error {
		switch num {
		case 1:
			m.applied = v
		case 2:
			m.revision = int64(v)
		case 3:
			m.compacted = int64(v)
		case 4:
			m.lease = int64(v)
		case 5:
			m.session = v
		case 6:
			m.version = int(v)
		case 7:
			m.brought = v
		default:
			return unknownField("StateMeta", num)
		}
		return nil
	})
}

func u64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

func (v *version) diskKey() []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(make([]byte, 0, 12), uint64(v.mod)), v.sub)
}

// load implements valueStore.
func (s *stateFile) load(vs []*version, values [][]byte) error {
	err := s.view(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketVal)
		open := s.ring.opener()
		for i, v := range vs {
			if values[i] != nil || v.tomb {
				continue
			}
			var err error
			if values[i], err = readValue(b, &open, v); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, bolt.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	return err
}

func readValue(b *bolt.Bucket, open *opener, v *version) ([]byte, error) {
	k := v.diskKey()
	raw := b.Get(k)
	if raw == nil {
		return nil, errGone
	}
	value, err := open.blob(raw, placeIn(bucketVal, k))
	if err != nil {
		return nil, fmt.Errorf("the value of %q at revision %d: %w", v.key, v.mod, err)
	}
	return value, nil
}

// fill reads the whole file into a new machine.
func (s *stateFile) fill(m *machine) error {
	v := &view{}
	byKey := map[string][]*version{}
	err := s.view(func(tx *bolt.Tx) error {
		meta, err := s.ring.stateMeta(tx)
		if err != nil {
			return err
		}
		m.applied, m.lastLease = meta.applied, meta.lease
		m.sessions.last = meta.session
		m.version.Store(int64(max(1, meta.version)))
		v.rev, v.compacted = meta.revision, meta.compacted
		open := s.ring.opener()
		err = tx.Bucket(bucketLease).ForEach(func(k, t []byte) error {
			id, ttl, err := openLease(k, t, &open)
			if err != nil {
				return err
			}
			m.leases[id] = &lease{ttlMillis: ttl, keys: map[string]struct{}{}}
			return nil
		})
		if err != nil {
			return err
		}
		err = tx.Bucket(bucketSession).ForEach(func(k, b []byte) error {
			id, s, err := openSession(k, b, &open)
			m.sessions.byClient[id] = s
			return err
		})
		if err != nil {
			return err
		}
		return tx.Bucket(bucketRev).ForEach(func(k, rec []byte) error {
			r, err := openRecord(k, rec, &open)
			if err != nil {
				return err
			}
			if string(r.diskKey()) != string(k) {
				return fmt.Errorf("%w: record %x says %d.%d", ErrCorrupt, k, r.mod, r.sub)
			}
			if r.mod > v.rev {
				return fmt.Errorf("%w: record %x in a file of revision %d", ErrCorrupt, k, v.rev)
			}
			addVersion(byKey, v, r)
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("read state file: %w", err)
	}
	m.install(v, byKey)
	return nil
}

func openLease(k, t []byte, open *opener) (id, ttlMillis int64, err error) {
	b, err := open.blob(t, placeIn(bucketLease, k))
	if err == nil {
		err = eachField(b, pair("Lease", &id, &ttlMillis))
	}
	if err == nil && string(u64(uint64(id))) != string(k) {
		err = fmt.Errorf("%w: it says %d", ErrCorrupt, id)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("lease %x: %w", k, err)
	}
	return id, ttlMillis, nil
}

func openRecord(k, rec []byte, open *opener) (*version, error) {
	b, err := open.blob(rec, placeIn(bucketRev, k))
	if err != nil {
		return nil, fmt.Errorf("record %x: %w", k, err)
	}
	r, _, err := decodeRecord(b)
	if err != nil {
		return nil, fmt.Errorf("record %x: %w", k, err)
	}
	return r, nil
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
	m.pending.after = v.rev
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
	brought   uint64
}

func (m *machine) take() (taken, error) {
	m.step.Lock()
	defer m.step.Unlock()
	return m.takeStill()
}

// takeStill is called with step held.
func (m *machine) takeStill() (taken, error) {
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
	m.pending = pending{after: t.view.rev}
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
	return s.flushTaken(t)
}

// flushTaken is called with flushing held.
func (s *stateFile) flushTaken(t taken) error {
	if s.lost != nil {
		return s.lost
	}
	if !t.any {
		return nil
	}
	t.brought = s.brought
	if err := s.writeTaken(&t); err != nil {
		// What was taken is lost to the file for this run. A later flush must not succeed: it would
		// say that the file has everything up to its entry.
		s.lost = fmt.Errorf("flush: %w", err)
		return s.lost
	}
	s.durable, s.flushed = t.applied, time.Now()
	for _, v := range t.puts {
		if !v.spared {
			v.value.Store(nil) // from now on it is read from the file
		}
	}
	return nil
}

func (s *stateFile) writeTaken(t *taken) error {
	if s.hook != nil {
		if err := s.hook("flush"); err != nil {
			return err
		}
	}
	return s.update(func(tx *bolt.Tx) error { return writeTaken(tx, t, s.ring.sealer()) })
}

func writeTaken(tx *bolt.Tx, t *taken, seal *sealer) error {
	rev, val := tx.Bucket(bucketRev), tx.Bucket(bucketVal)
	// Keys only ever grow: full pages, not half-full ones.
	rev.FillPercent, val.FillPercent = 0.95, 0.95
	for _, v := range t.puts {
		if v.spared {
			continue
		}
		k := v.diskKey()
		if err := rev.Put(k, seal.blob(nil, placeIn(bucketRev, k), encodeRecord(v, nil))); err != nil {
			return err
		}
		if p := v.value.Load(); p != nil {
			if err := val.Put(k, seal.blob(nil, placeIn(bucketVal, k), *p)); err != nil {
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
			k := u64(uint64(id))
			msg := putVarint(putVarint(nil, 1, uint64(id)), 2, uint64(ttl))
			if err := b.Put(k, seal.blob(nil, placeIn(bucketLease, k), msg)); err != nil {
				return err
			}
		}
	}
	if err := t.sessions.write(tx, seal); err != nil {
		return err
	}
	return putMeta(tx, &stateMeta{applied: t.applied, revision: t.view.rev, compacted: t.view.compacted, lease: t.lastLease,
		session: t.sessions.last, version: t.sessions.version, brought: t.brought}, seal)
}

func putMeta(tx *bolt.Tx, m *stateMeta, seal *sealer) error {
	return tx.Bucket(bucketMeta).Put(keyMeta, seal.blob(nil, placeIn(bucketMeta, keyMeta), m.encode()))
}

// sinceFlush is how long ago the last flush ended.
func (s *stateFile) sinceFlush() time.Duration {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	return time.Since(s.flushed)
}

func (s *stateFile) durableIndex() uint64 {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	return s.durable
}
