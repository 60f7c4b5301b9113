package raftstore

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestAChangeOfKeysMayBeCutAtAnyStep copies the folder, as a crash would leave it, after each step of
// each change of keys, and opens the copies in every way that the configuration allows.
func TestAChangeOfKeysMayBeCutAtAnyStep(t *testing.T) {
	plain, sealed := Config{NoAutoCompact: true}, Config{NoAutoCompact: true, KeyProvider: goldenKey(t, 1)}
	unseal := sealed
	unseal.Unseal = true
	for _, change := range []struct {
		name     string
		from, to Config
	}{{"on", plain, sealed}, {"off", sealed, unseal}, {"rotation", sealed, sealed}} {
		t.Run(change.name, func(t *testing.T) {
			cfg := change.from
			cfg.Dir = filepath.Join(t.TempDir(), "store")
			s, stop := startStore(t, cfg)
			want := map[string]string{}
			for i := range 120 {
				k, v := fmt.Sprint("/k", i), fmt.Sprint("v", i)
				want[k] = v
				if _, err := s.Put(t.Context(), k, []byte(v)); err != nil {
					t.Fatal(err)
				}
				if i == 60 {
					if err := s.raft.Snapshot().Error(); err != nil {
						t.Fatal(err)
					}
				}
			}
			stop()
			cfg = change.to
			cfg.Dir = s.cfg.Dir
			cfg, err := cfg.withDefaults()
			if err != nil {
				t.Fatal(err)
			}
			f := openForSteps(t, &cfg)
			seal := !cfg.Unseal
			steps := []func() error{
				func() error { return f.ring.begin(seal, seal && change.name == "on") },
				func() error { return f.segs.reseal() },
				func() error { return f.stable.(*stableStore).reseal() },
				func() error { return f.snaps.reseal() },
			}
			if change.name == "rotation" {
				for _, b := range [][]byte{bucketMeta, bucketLease, bucketRev, bucketVal} {
					steps = append(steps, func() error { _, _, err := f.state.resealSome(b, []byte{}); return err })
				}
			} else {
				steps = append(steps, func() error { return f.state.rewrite() })
			}
			steps = append(steps, func() error { return f.ring.end() })
			for i, step := range steps {
				if err := step(); err != nil {
					t.Fatal(i, err)
				}
				ways := []Config{change.to}
				if change.name == "off" {
					ways = append(ways, sealed) // somebody thought better of it
				}
				for _, way := range ways {
					dir := filepath.Join(t.TempDir(), "crashed")
					if err := os.CopyFS(dir, os.DirFS(cfg.Dir)); err != nil {
						t.Fatal(err)
					}
					way.Dir = dir
					s, stop := startStore(t, way)
					waitFinished(t, s)
					if got := s.files.ring.currentKey() != 0; got == way.Unseal {
						t.Fatalf("step %d: sealed is %v", i, got)
					}
					for k, v := range want {
						if kv, _, err := s.Get(t.Context(), k); err != nil || string(kv.Value) != v {
							t.Fatalf("step %d: %s is %q, %v", i, k, kv.Value, err)
						}
					}
					if err := s.Check(t.Context()); err != nil {
						t.Fatalf("step %d: %v", i, err)
					}
					stop()
				}
			}
			if err := f.close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func waitFinished(t *testing.T, s *Store) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if unfinished, _ := s.files.ring.unfinished(); !unfinished {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the change of keys is not finished")
		}
	}
}

// openForSteps opens a folder's files without the change of keys that opening would make.
func openForSteps(t *testing.T, cfg *Config) *files {
	t.Helper()
	ring, err := openKeys(filepath.Join(cfg.Dir, fileKeys))
	if err == nil {
		err = ring.unlock(cfg.KeyProvider)
	}
	if err != nil {
		t.Fatal(err)
	}
	f := &files{ring: ring}
	path := func(name string) string { return filepath.Join(cfg.Dir, name) }
	if f.state, err = openState(path(fileState), ring, nil); err != nil {
		t.Fatal(err)
	}
	if f.segs, err = openLog(path(dirLog), ring, nil); err != nil {
		t.Fatal(err)
	}
	stable, err := openStable(path(fileStable), ring, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.stable = stable
	if f.snaps, err = openSnapshots(path(fileSnap), ring, nil); err != nil {
		t.Fatal(err)
	}
	f.closers = append(f.closers, f.state.close, f.segs.Close, stable.Close)
	return f
}

func TestARotationGoesOnAfterARestart(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), KeyProvider: goldenKey(t, 1)}
	s, stop := startStore(t, cfg)
	for i := range 50 {
		if _, err := s.Put(t.Context(), fmt.Sprint(i), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.RotateKey(ctx); err == nil {
		t.Fatal("it did not notice that its context had ended")
	}
	if unfinished, _ := s.files.ring.unfinished(); !unfinished {
		t.Fatal("the rotation was not begun: nothing to go on with")
	}
	stop()
	s, _ = startStore(t, cfg)
	waitFinished(t, s)
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
}
