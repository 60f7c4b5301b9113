package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// checkable fills a store with some of everything that Check looks at.
func checkable(t *testing.T, cfg Config) (*Store, func()) {
	t.Helper()
	cfg.NoAutoCompact = true
	s, stop := startStore(t, cfg)
	id, err := s.Grant(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		op := Op{Type: OpPut, Key: fmt.Sprintf("/k/%02d", i%15), Value: []byte(fmt.Sprint("value ", i))}
		if i == 32 {
			op.Lease = id
		}
		if _, err := s.Txn(t.Context(), Txn{Then: []Op{op}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Delete(t.Context(), "/k/04"); err != nil {
		t.Fatal(err)
	}
	if err := s.Compact(t.Context(), 20); err != nil {
		t.Fatal(err)
	}
	if err := s.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), "/k/04", []byte("again")); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, stop
}

// TestCheckNamesWhatIsWrongInMemory breaks each invariant of the index.
func TestCheckNamesWhatIsWrongInMemory(t *testing.T) {
	// last is the newest version of a key, whose fields are everybody's.
	last := func(s *Store, key string) *version {
		vers := s.m.view.Load().root.find(key)
		return vers[len(vers)-1]
	}
	change := func(s *Store, fn func(v *view)) {
		v := *s.m.view.Load()
		fn(&v)
		s.m.view.Store(&v)
	}
	for _, c := range []struct {
		name  string
		spoil func(s *Store)
		says  string
	}{
		{"a revision from the future", func(s *Store) { last(s, "/k/01").mod = 9999 }, "version 9999.0 of \"/k/01\""},
		{"a creation after the write", func(s *Store) { last(s, "/k/01").create = 9000 }, "created at 9000"},
		{"a version number that does not chain", func(s *Store) { last(s, "/k/01").ver += 3 }, "does not follow"},
		{"a creation that does not chain", func(s *Store) { last(s, "/k/01").create++ }, "does not follow"},
		{"a first version that is not one", func(s *Store) { last(s, "/k/04").ver = 2 }, "write number 2"},
		{"one version twice", func(s *Store) { x, y := last(s, "/k/01"), last(s, "/k/02"); x.mod, x.sub = y.mod, y.sub }, "have both version"},
		{"a key under another", func(s *Store) { last(s, "/k/01").key = "/k/xx" }, "of \"/k/01\""},
		{"keys out of order", func(s *Store) { change(s, func(v *view) { n := *v.root; n.key = "/a"; v.root = &n }) }, "comes after"},
		{"a wrong priority", func(s *Store) { change(s, func(v *view) { n := *v.root; n.prio++; v.root = &n }) }, "wrong priority"},
		{"a change that watchers would miss", func(s *Store) { change(s, func(v *view) { v.log = v.log[:len(v.log)-1] }) }, "log of changes has"},
		{"changes out of order", func(s *Store) {
			change(s, func(v *view) { l := slices.Clone(v.log); l[0], l[1] = l[1], l[0]; v.log = l })
		}, "log of changes has"},
		{"a version that should be forgotten", func(s *Store) { change(s, func(v *view) { v.compacted = 38 }) }, "was replaced before 38 and is kept"},
		{"a lease that is gone", func(s *Store) { delete(s.m.leases, 1) }, "attached to lease 1, which is not there"},
		{"a lease that lost a key", func(s *Store) { clear(s.m.leases[1].keys) }, "which does not know it"},
		{"a lease that holds a stranger", func(s *Store) { s.m.leases[1].keys["/x"] = struct{}{} }, "lease 1 holds \"/x\""},
		{"a revision that the file lacks", func(s *Store) { change(s, func(v *view) { v.rev++ }) }, "the file is at revision 42"},
		{"a version that the file lacks", func(s *Store) {
			change(s, func(v *view) {
				x := &version{key: "/new", mod: 40, sub: 7, create: 40, ver: 1}
				v.root = v.root.with("/new", []*version{x}, 0)
			})
		}, "in memory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, _ := checkable(t, Config{Dir: t.TempDir()})
			s.m.step.Lock()
			c.spoil(s)
			s.m.step.Unlock()
			err := s.Check(t.Context())
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("found: %v", err)
			}
		})
	}
}

// tamper changes a bucket of a closed folder behind the store's back, with sound pages.
func tamper(t *testing.T, dir string, fn func(tx *bolt.Tx) error) {
	t.Helper()
	db, err := bolt.Open(filepath.Join(dir, fileState), 0o600, nil)
	if err == nil {
		err = db.Update(fn)
		if cerr := db.Close(); err == nil {
			err = cerr
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// someKey returns key number n of a bucket, counted from the end.
func someKey(b *bolt.Bucket, n int) (k, v []byte) {
	c := b.Cursor()
	for k, v = c.Last(); n > 0; n-- {
		k, v = c.Prev()
	}
	return bytes.Clone(k), bytes.Clone(v)
}

// TestCheckNamesWhatIsWrongOnDisk damages each kind of thing in a closed folder, sealed and not. The
// check names it and changes nothing; opening, reading and writing end well or with an error.
func TestCheckNamesWhatIsWrongOnDisk(t *testing.T) {
	flip := func(name string, at func(size int) int) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			path := filepath.Join(dir, name)
			if strings.Contains(name, "*") {
				m, _ := filepath.Glob(path)
				path = m[0]
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			b[at(len(b))] ^= 0x10
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(name string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	inBucket := func(bucket []byte, fn func(b *bolt.Bucket) error) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			tamper(t, dir, func(tx *bolt.Tx) error { return fn(tx.Bucket(bucket)) })
		}
	}
	swap := func(b *bolt.Bucket) error {
		k1, v1 := someKey(b, 1)
		k2, v2 := someKey(b, 3)
		if err := b.Put(k1, v2); err != nil {
			return err
		}
		return b.Put(k2, v1)
	}
	drop := func(b *bolt.Bucket) error { k, _ := someKey(b, 2); return b.Delete(k) }
	half := func(n int) int { return n / 2 }
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, dir string)
		says   string
	}{
		{"FORMAT is garbage", flip(fileFormat, half), "names no format"},
		{"FORMAT is gone", remove(fileFormat), "no folder of a store"},
		{"two records are exchanged", inBucket(bucketRev, swap), "the checksum is wrong"},
		{"two values are exchanged", inBucket(bucketVal, swap), "the checksum is wrong"},
		{"a value is gone", inBucket(bucketVal, drop), "has a value only if"},
		{"a record is gone", inBucket(bucketRev, drop), "belong to no version"},
		{"a value too many", inBucket(bucketVal, func(b *bolt.Bucket) error { _, v := someKey(b, 0); return b.Put([]byte("stray"), v) }), "belong to no version"},
		{"a bit of a value", inBucket(bucketVal, func(b *bolt.Bucket) error {
			k, v := someKey(b, 2)
			v[len(v)/2] ^= 1
			return b.Put(k, v)
		}), "value of"},
		{"a lease is gone", inBucket(bucketLease, func(b *bolt.Bucket) error { return b.Delete(u64(1)) }), "lease 1, which is not there"},
		{"a lease under another number", inBucket(bucketLease, func(b *bolt.Bucket) error { return b.Put(u64(2), b.Get(u64(1))) }), "lease"},
		{"the meta record is gone", inBucket(bucketMeta, func(b *bolt.Bucket) error { return b.Delete(keyMeta) }), "in a file of revision 0"},
		{"a bucket is gone", func(t *testing.T, dir string) {
			tamper(t, dir, func(tx *bolt.Tx) error { return tx.DeleteBucket(bucketVal) })
		}, "no bucket val"},
		{"the state file is gone", remove(fileState), "state.db"},
		{"the state file is empty", func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, fileState), 0); err != nil {
				t.Fatal(err)
			}
		}, "neither of the two meta pages"},
		{"a record of the log", flip(dirLog+"/*.seg", half), "is damaged"},
		{"the header of the log", flip(dirLog+"/*.seg", func(int) int { return 9 }), "segment header"},
		{"the end of the log", func(t *testing.T, dir string) {
			m, _ := filepath.Glob(filepath.Join(dir, dirLog, "*.seg"))
			if err := os.Truncate(m[len(m)-1], 500); err != nil {
				t.Fatal(err)
			}
		}, "the log ends at"},
		{"the log is gone", remove(dirLog), "the log ends at 0"},
		{"a stable value", flip(fileStable, func(int) int { return 12 }), "a record is damaged"},
		{"the stable values are gone", remove(fileStable), "stable"},
		{"the stable values are empty", func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, fileStable), 0); err != nil {
				t.Fatal(err)
			}
		}, "raft's term is 0"},
		{"the snapshot note", flip(fileSnap, half), "the checksum is wrong"},
	} {
		for _, kind := range []string{"plain", "sealed"} {
			t.Run(c.name+"/"+kind, func(t *testing.T) {
				cfg := Config{Dir: t.TempDir(), NoAutoCompact: true}
				if kind == "sealed" {
					cfg.KeyProvider = goldenKey(t, 1)
				}
				_, stop := checkable(t, cfg)
				stop()
				if err := CheckFolder(t.Context(), cfg); err != nil {
					t.Fatal("before the damage:", err)
				}
				c.damage(t, cfg.Dir)
				before := folderBytes(t, cfg.Dir)
				err := CheckFolder(t.Context(), cfg)
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Fatalf("found: %v", err)
				}
				if folderBytes(t, cfg.Dir) != before {
					t.Fatal("the check changed something")
				}
				useOrRefuse(t, cfg)
			})
		}
	}
}

// useOrRefuse opens a folder that may be damaged and uses it: everything either works or is an error.
func useOrRefuse(t *testing.T, cfg Config) (err error) {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(t.Context()) }()
	select {
	case <-s.Ready():
		_, err = s.Range(t.Context(), RangeRequest{})
		if _, perr := s.Put(t.Context(), "/k/03", []byte("x")); err == nil {
			err = perr
		}
		if cerr := s.Check(t.Context()); err == nil {
			err = cerr
		}
	case <-s.Degraded():
		err = s.Err()
	case rerr := <-done:
		done <- rerr
		err = rerr
	case <-time.After(time.Minute):
		t.Fatal("it hangs")
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Close()
		if rerr := <-done; err == nil {
			err = rerr
		}
	}()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("closing hangs")
	}
	return err
}

func TestACheckOfAFolderThatIsOpenIsRefused(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	checkable(t, cfg)
	if err := CheckFolder(t.Context(), cfg); !errors.Is(err, ErrLocked) {
		t.Fatal(err)
	}
	if err := CheckFolder(t.Context(), Config{Dir: filepath.Join(t.TempDir(), "none")}); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}
