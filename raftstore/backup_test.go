package raftstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/pintle/pintle/raftstore"
)

// refusal says whether an error is one that a bad backup may end with.
func refusal(err error) bool {
	return errors.Is(err, raftstore.ErrCorrupt) || errors.Is(err, raftstore.ErrNewer) || errors.Is(err, raftstore.ErrKey)
}

func TestABackupThatIsCutOrChangedIsRefused(t *testing.T) {
	key := newKey(t)
	for name, opts := range map[string]raftstore.BackupOptions{"plain": {}, "sealed": {Key: key}} {
		t.Run(name, func(t *testing.T) {
			s, _ := run(t, raftstore.Config{})
			id, err := s.Grant(t.Context(), time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 4 {
				_, err := s.Txn(t.Context(), raftstore.Txn{Then: []raftstore.Op{{Type: raftstore.OpPut, Key: fmt.Sprint("k", i), Value: []byte("v"), Lease: id}}})
				if err != nil {
					t.Fatal(err)
				}
			}
			var buf bytes.Buffer
			if err := s.BackupWith(t.Context(), &buf, opts); err != nil {
				t.Fatal(err)
			}
			good := buf.Bytes()
			if _, err := raftstore.VerifyBackup(bytes.NewReader(good), key); err != nil {
				t.Fatal(err)
			}
			refused := func(what string, b []byte, restore bool) {
				if _, err := raftstore.VerifyBackup(bytes.NewReader(b), key); !refusal(err) {
					t.Fatalf("%s: verified: %v", what, err)
				}
				if !restore {
					return
				}
				dir := filepath.Join(t.TempDir(), "restored")
				if err := raftstore.RestoreWith(raftstore.Config{Dir: dir}, bytes.NewReader(b), raftstore.RestoreOptions{Key: key}); !refusal(err) {
					t.Fatalf("%s: restored: %v", what, err)
				}
				// What is there is no store with half of the data, but nothing yet.
				s, stop := run(t, raftstore.Config{Dir: dir})
				if s.Revision() != 0 {
					t.Fatalf("%s: revision %d was restored", what, s.Revision())
				}
				stop()
			}
			for n := range good {
				refused(fmt.Sprintf("the first %d bytes of %d", n, len(good)), good[:n], n%100 == 0)
			}
			for i := range good {
				for bit := range 8 {
					bad := bytes.Clone(good)
					bad[i] ^= 1 << bit
					refused(fmt.Sprintf("bit %d of byte %d of %d", bit, i, len(good)), bad, bit == 0 && i%100 == 0)
				}
			}
			newer := bytes.Replace(good, []byte("backup 1\n"), []byte("backup 2\n"), 1)
			if _, err := raftstore.VerifyBackup(bytes.NewReader(newer), key); !errors.Is(err, raftstore.ErrNewer) {
				t.Fatal(err)
			}
		})
	}
}

// slow is a writer that lets many writes happen between two of its own.
type slow struct {
	bytes.Buffer
	s *raftstore.Store
}

func (w *slow) Write(b []byte) (int, error) {
	for rev := w.s.Revision(); w.s.Revision() < rev+20; {
		time.Sleep(100 * time.Microsecond)
	}
	return w.Buffer.Write(b)
}

// TestABackupIsOneMomentWhileWritesGoOn moves sums between accounts, with the total unchanged at every
// revision, and compacts what a backup is reading.
func TestABackupIsOneMomentWhileWritesGoOn(t *testing.T) {
	kinds(t, func(t *testing.T, cfg raftstore.Config) {
		cfg.RetainRevisions = 10 // compaction follows closely
		s, _ := run(t, cfg)
		const accounts, total = 100, 100 * 50
		for i := range accounts {
			put(t, s, fmt.Sprintf("/account/%03d", i), fmt.Sprintf("%d %s", 50, bytes.Repeat([]byte("x"), 2000)))
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				for i := w; ctx.Err() == nil; i += 7 {
					if err := move(s, fmt.Sprintf("/account/%03d", i%accounts), fmt.Sprintf("/account/%03d", (i*31+1)%accounts)); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		out := &slow{s: s}
		before := s.Revision()
		if err := s.Backup(t.Context(), out); err != nil {
			t.Fatal(err)
		}
		if s.Revision() < before+40 {
			t.Error("the backup held up the writes")
		}
		cancel()
		wg.Wait()
		last := s.Revision()
		info, err := raftstore.VerifyBackup(bytes.NewReader(out.Bytes()), nil)
		if err != nil || info.Keys != accounts {
			t.Fatal(info, err)
		}
		restored := raftstore.Config{Dir: filepath.Join(t.TempDir(), "restored")}
		if err := raftstore.Restore(restored, bytes.NewReader(out.Bytes())); err != nil {
			t.Fatal(err)
		}
		r, _ := run(t, restored)
		all, err := r.Range(t.Context(), raftstore.RangeRequest{Prefix: "/account/"})
		if err != nil {
			t.Fatal(err)
		}
		sum := 0
		for _, kv := range all.KVs {
			sum += balance(kv)
			if kv.ModRevision > info.Revision {
				t.Errorf("%s is of revision %d, the backup of %d", kv.Key, kv.ModRevision, info.Revision)
			}
		}
		if len(all.KVs) != accounts || sum != total {
			t.Fatalf("%d accounts hold %d, want %d", len(all.KVs), sum, total)
		}
		if rev := put(t, r, "/next", ""); rev <= last {
			t.Fatalf("revision %d after the restore, and %d before", rev, last)
		}
		if _, err := r.Watch(t.Context(), raftstore.WatchRequest{From: last}); !errors.Is(err, raftstore.ErrCompacted) {
			t.Fatal("a watcher goes on as if nothing had happened:", err)
		}
	})
}

func balance(kv raftstore.KV) int {
	n, _, _ := bytes.Cut(kv.Value, []byte(" "))
	i, _ := strconv.Atoi(string(n))
	return i
}

func move(s *raftstore.Store, from, to string) error {
	if from == to {
		return nil
	}
	ctx := context.Background()
	for {
		a, _, err := s.Get(ctx, from)
		if err != nil {
			return err
		}
		b, _, err := s.Get(ctx, to)
		if err != nil {
			return err
		}
		pad := bytes.Repeat([]byte("y"), 2000)
		r, err := s.Txn(ctx, raftstore.Txn{
			If: []raftstore.Compare{{Key: from, Target: raftstore.ModRevision, Int: a.ModRevision}, {Key: to, Target: raftstore.ModRevision, Int: b.ModRevision}},
			Then: []raftstore.Op{{Type: raftstore.OpPut, Key: from, Value: fmt.Appendf(nil, "%d %s", balance(a)-1, pad)},
				{Type: raftstore.OpPut, Key: to, Value: fmt.Appendf(nil, "%d %s", balance(b)+1, pad)}},
		})
		if err != nil || r.Succeeded {
			return err
		}
	}
}
