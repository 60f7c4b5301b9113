package raftstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// The folders and backups of every format version, as the version's own program wrote them, stand in
// testdata, with that of a member that was sent its state. They are never written again. When formatVersion is raised,
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
	// A member's session, with an outcome that is still kept.
	opened, err := s.submitHere(ctx, &command{open: true})
	must(err)
	for seq := range uint64(3) {
		put := &Txn{Then: []Op{{Type: OpPut, Key: "/golden/07", Value: []byte("once")}, {Type: OpGet, Key: "/leased/a"}}}
		_, err = s.submitHere(ctx, &command{txn: put, request: request{opened.session, 1 + seq, seq}})
		must(err)
	}
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
	shrinkState(t, to)
}

// shrinkState cuts the end of a state file: bbolt makes it larger than it needs.
func shrinkState(t *testing.T, dir string) {
	path := filepath.Join(dir, fileState)
	b, err := os.ReadFile(path)
	if err == nil {
		b = bytes.TrimRight(b, "\x00")
		err = os.WriteFile(path, append(b, make([]byte, statePage-len(b)%statePage)...), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
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
	dumpSessions(&b, s.m)
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

func dumpSessions(b *strings.Builder, m *machine) {
	fmt.Fprintf(b, "sessions up to %d\n", m.sessions.last)
	for _, id := range slices.Sorted(maps.Keys(m.sessions.byClient)) {
		s := m.sessions.byClient[id]
		fmt.Fprintf(b, "session %d used at %d, outcomes from %d\n", id, s.used, s.floor)
		for _, seq := range slices.Sorted(maps.Keys(s.results)) {
			fmt.Fprintf(b, "\twrite %d: %+v\n", seq, s.results[seq])
		}
	}
}

// loopback is a Network over the machine itself.
type loopback struct{ net.Listener }

func newLoopback(t *testing.T) loopback {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return loopback{l}
}

func (l loopback) address() string { return l.Addr().String() }

func (loopback) Dial(ctx context.Context, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", address)
}

// writeGoldenMember leaves the folder of a member that was sent the whole state by another, and wrote
// afterwards. from is a backup, to what the first member of the two is.
func writeGoldenMember(t *testing.T, key KeyProvider, from, to string) {
	backup, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	stores := map[string]*Store{}
	var last func()
	for _, id := range []string{"a", "b"} {
		network := newLoopback(t)
		cfg := Config{Dir: filepath.Join(t.TempDir(), id), NodeID: id, KeyProvider: key, Network: network, Address: network.address(),
			Join: id == "b", NoAutoCompact: true}
		if id == "a" {
			if err := Restore(cfg, bytes.NewReader(backup)); err != nil {
				t.Fatal(err)
			}
		}
		s, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- s.Run(context.Background()) }()
		stores[id] = s
		last = sync.OnceFunc(func() {
			if err := errors.Join(s.Close(), <-done); err != nil {
				t.Error(err)
			}
		})
		t.Cleanup(last)
		if id == "b" {
			if err := stores["a"].AddMember(t.Context(), id, network.address()); err != nil {
				t.Fatal(err)
			}
			if err := stores["a"].PromoteMember(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		<-s.Ready()
		for i := range 5 {
			if _, err := s.Put(t.Context(), fmt.Sprintf("/by/%s/%d", id, i), []byte("member")); err != nil {
				t.Fatal(err)
			}
		}
	}
	b := stores["b"]
	if b.files.state.brought == 0 {
		t.Fatal("no state was sent")
	}
	dir := b.cfg.Dir
	last()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	shrinkState(t, to)
}

// dumpMember writes out what a folder holds, of which no member runs.
func dumpMember(t *testing.T, cfg Config) string {
	t.Helper()
	if err := CheckFolder(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	f, err := openFolder(&cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	m := newMachine(f.state)
	if err := f.state.fill(m); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	e, err := f.ends(f.state.durableIndex())
	if err != nil {
		t.Fatal(err)
	}
	v := m.view.Load()
	fmt.Fprintf(&b, "revision %d, compacted %d, version %d\n", v.rev, v.compacted, m.formatVersion())
	fmt.Fprintf(&b, "entries up to %d, %d of them brought; the log from %d to %d in term %d\n", e.durable, e.brought, e.first, e.last, e.lastTerm)
	fmt.Fprintf(&b, "note %+v\n", *e.note)
	for index := e.first; index <= e.last; index++ {
		var l raft.Log
		if err := f.log.GetLog(index, &l); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "entry %d in term %d, type %d: %x\n", index, l.Term, l.Type, l.Data)
	}
	for _, id := range slices.Sorted(maps.Keys(m.leases)) {
		fmt.Fprintf(&b, "lease %d of %d ms\n", id, m.leases[id].ttlMillis)
	}
	dumpSessions(&b, m)
	kvs, err := m.read(v.versions())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range kvs {
		fmt.Fprintf(&b, "%q created %d modified %d version %d lease %d %.40q of %d\n",
			kv.Key, kv.CreateRevision, kv.ModRevision, kv.Version, kv.Lease, kv.Value, len(kv.Value))
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
			writeGoldenMember(t, cfg.KeyProvider, base+".backup", base+"-member")
			cfg.Dir, cfg.NodeID = filepath.Join(t.TempDir(), "member"), "b"
			if err := os.CopyFS(cfg.Dir, os.DirFS(base+"-member")); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(base+"-member.txt", []byte(dumpMember(t, cfg)), 0o644); err != nil {
				t.Fatal(err)
			}
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
			t.Run(fmt.Sprintf("v%d/%s-member", version, kind), func(t *testing.T) {
				cfg := keyed(Config{Dir: filepath.Join(t.TempDir(), "copy"), NodeID: "b"}, version, kind)
				if err := os.CopyFS(cfg.Dir, os.DirFS(base+"-member")); err != nil {
					t.Fatal(err)
				}
				want, err := os.ReadFile(base + "-member.txt")
				if err != nil {
					t.Fatal(err)
				}
				if got := dumpMember(t, cfg); got != string(want) {
					t.Fatalf("it holds\n%s\nand held\n%s", got, want)
				}
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
