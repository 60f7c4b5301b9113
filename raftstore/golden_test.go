package raftstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The folders and backups of every format version, as the version's own program wrote them, stand in
// testdata. They are never written again. When formatVersion is raised,
//
//	go test ./raftstore -run TestEveryVersionOpens -update
//
// adds those of the new one; without a new version it refuses.
var update = flag.Bool("update", false, "add the golden folders of a new format version")

func goldenDir(version int) string { return fmt.Sprintf("testdata/v%d", version) }

// goldenKey is the wrapping key of a version's sealed folder. It guards nothing.
func goldenKey(t *testing.T, version int) KeyProvider {
	t.Helper()
	key := sha256.Sum256([]byte(goldenDir(version)))
	p, err := newFileKey(key[:])
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// startStore runs a store until stop is called.
func startStore(t *testing.T, cfg Config) (s *Store, stop func()) {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(context.Background()) }()
	select {
	case <-s.Ready():
	case <-s.Degraded():
		t.Fatal(s.Err())
	case <-time.After(time.Minute):
		t.Fatal("not ready")
	}
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if err := <-done; err != nil && s.Err() == nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(stop)
	return s, stop
}

// writeGolden fills a folder with some of everything: versions, deletions, leases, a compacted past,
// a log that was cut, entries that only the log has.
func writeGolden(t *testing.T, cfg Config, to, backupTo string) {
	s, stop := startStore(t, cfg)
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 60 {
		_, err := s.Put(ctx, fmt.Sprintf("/golden/%02d", i%20), []byte(fmt.Sprintf("value %d", i)))
		must(err)
	}
	id, err := s.Grant(ctx, 24*time.Hour)
	must(err)
	gone, err := s.Grant(ctx, time.Hour)
	must(err)
	_, err = s.Txn(ctx, Txn{Then: []Op{{Type: OpPut, Key: "/leased/a", Value: []byte("1"), Lease: id},
		{Type: OpPut, Key: "/leased/b", Lease: gone}, {Type: OpDelete, Key: "/golden/03"}, {Type: OpPut, Key: "\xff\x00bytes", Value: []byte{0, 0xff}}}})
	must(err)
	must(s.Compact(ctx, 50))
	must(s.Revoke(ctx, gone))
	must(s.raft.Snapshot().Error())
	_, err = s.Put(ctx, "/big", bytes.Repeat([]byte("big "), 4<<10))
	must(err)
	_, err = s.Delete(ctx, "/golden/05")
	must(err)
	_, err = s.Put(ctx, "/golden/05", []byte("again"))
	must(err)
	var backup bytes.Buffer
	must(s.Backup(ctx, &backup))
	must(os.MkdirAll(filepath.Dir(backupTo), 0o755))
	must(os.WriteFile(backupTo, backup.Bytes(), 0o644))
	_, err = s.Put(ctx, "/last", []byte("in the log alone, perhaps"))
	must(err)
	must(os.CopyFS(to, os.DirFS(cfg.Dir)))
	stop()
	// bbolt makes its file larger than it needs.
	path := filepath.Join(to, fileState)
	b, err := os.ReadFile(path)
	must(err)
	b = bytes.TrimRight(b, "\x00")
	must(os.WriteFile(path, append(b, make([]byte, 4096-len(b)%4096)...), 0o644))
}

// dumpStore writes out everything that can be seen of a store, lease deadlines aside.
func dumpStore(t *testing.T, s *Store) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "revision %d, compacted %d\n", s.Revision(), s.CompactedRevision())
	_, leases, last := s.m.still()
	for id := int64(1); id <= last; id++ {
		fmt.Fprintf(&b, "lease %d of %d ms\n", id, leases[id])
	}
	for rev := max(1, s.CompactedRevision()); rev <= s.Revision(); rev++ {
		r, err := s.Range(t.Context(), RangeRequest{Revision: rev})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "at %d\n", rev)
		for _, kv := range r.KVs {
			fmt.Fprintf(&b, "\t%q created %d modified %d version %d lease %d %.40q of %d\n",
				kv.Key, kv.CreateRevision, kv.ModRevision, kv.Version, kv.Lease, kv.Value, len(kv.Value))
		}
	}
	return b.String()
}

func TestEveryVersionOpens(t *testing.T) {
	kinds := []string{"plain", "sealed"}
	keyed := func(cfg Config, version int, kind string) Config {
		if kind == "sealed" {
			cfg.KeyProvider = goldenKey(t, version)
		}
		return cfg
	}
	if *update {
		if _, err := os.Stat(goldenDir(formatVersion)); err == nil {
			t.Fatal("the golden folders of a version are never written again")
		}
		for _, kind := range kinds {
			base := filepath.Join(goldenDir(formatVersion), kind)
			cfg := keyed(Config{Dir: filepath.Join(t.TempDir(), "store"), NoAutoCompact: true}, formatVersion, kind)
			writeGolden(t, cfg, base, base+".backup")
			cfg.Dir = filepath.Join(t.TempDir(), "copy")
			if err := os.CopyFS(cfg.Dir, os.DirFS(base)); err != nil {
				t.Fatal(err)
			}
			s, stop := startStore(t, cfg)
			if err := os.WriteFile(base+".txt", []byte(dumpStore(t, s)), 0o644); err != nil {
				t.Fatal(err)
			}
			stop()
		}
	}
	for version := 1; version <= formatVersion; version++ {
		for _, kind := range kinds {
			base := filepath.Join(goldenDir(version), kind)
			t.Run(fmt.Sprintf("v%d/%s", version, kind), func(t *testing.T) {
				cfg := keyed(Config{Dir: filepath.Join(t.TempDir(), "copy"), NoAutoCompact: true}, version, kind)
				if err := os.CopyFS(cfg.Dir, os.DirFS(base)); err != nil {
					t.Fatal(err)
				}
				want, err := os.ReadFile(base + ".txt")
				if err != nil {
					t.Fatal(err)
				}
				goesOn(t, cfg, string(want))
			})
			t.Run(fmt.Sprintf("v%d/%s.backup", version, kind), func(t *testing.T) {
				f, err := os.Open(base + ".backup")
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				cfg := keyed(Config{Dir: filepath.Join(t.TempDir(), "restored"), NoAutoCompact: true}, version, kind)
				if err := Restore(cfg, f); err != nil {
					t.Fatal(err)
				}
				restored(t, cfg)
			})
		}
	}
}

// goesOn checks that a golden folder is what it was, and that writing to it goes on.
func goesOn(t *testing.T, cfg Config, want string) {
	s, stop := startStore(t, cfg)
	if got := dumpStore(t, s); got != want {
		t.Fatalf("it holds\n%s\nand held\n%s", got, want)
	}
	rev := s.Revision()
	if got, err := s.Put(t.Context(), "/new", []byte("x")); err != nil || got != rev+1 {
		t.Fatal(got, err)
	}
	if id, err := s.Grant(t.Context(), time.Hour); err != nil || id != 3 {
		t.Fatal(id, err)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop()
	s, _ = startStore(t, cfg)
	if kv, _, err := s.Get(t.Context(), "/new"); err != nil || kv.ModRevision != rev+1 {
		t.Fatal(kv, err)
	}
}

func restored(t *testing.T, cfg Config) {
	s, _ := startStore(t, cfg)
	r, err := s.Range(t.Context(), RangeRequest{})
	// Twenty keys less one deleted, one leased, one of any bytes, one big.
	if err != nil || len(r.KVs) != 19+1+1+1 {
		t.Fatal(len(r.KVs), err)
	}
	if s.Revision() < restoreGap || s.CompactedRevision() != s.Revision() {
		t.Fatal(s.Revision(), s.CompactedRevision())
	}
	if kv, ok, err := s.Get(t.Context(), "/golden/05"); err != nil || !ok || string(kv.Value) != "again" || kv.Version != 1 {
		t.Fatal(kv, err)
	}
	if err := s.Revoke(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := s.Get(t.Context(), "/leased/a"); err != nil || ok {
		t.Fatal(ok, err)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
}
