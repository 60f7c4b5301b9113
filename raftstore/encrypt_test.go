package raftstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/pintle/pintle/raftstore"
)

func newKey(t testing.TB) raftstore.KeyProvider {
	t.Helper()
	k, err := raftstore.CreateFileKey(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// secrets are in names and values; found says in which files they can be read.
const secret = "sesame-opens-the-cave"

func found(t testing.TB, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(secret)) {
			files = append(files, filepath.Base(path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func fill(t testing.TB, s *raftstore.Store, from, n int) {
	t.Helper()
	for i := from; i < from+n; i++ {
		put(t, s, fmt.Sprintf("/%s/%d", secret, i%50), fmt.Sprintf("%s %d %s", secret, i, strings.Repeat("x", 100)))
	}
}

func expectFilled(t testing.TB, s *raftstore.Store, last int) {
	t.Helper()
	for i := last - 49; i <= last; i++ {
		kv, ok, err := s.Get(t.Context(), fmt.Sprintf("/%s/%d", secret, i%50))
		if err != nil || !ok || !strings.HasPrefix(string(kv.Value), fmt.Sprintf("%s %d ", secret, i)) {
			t.Fatalf("%d: %q, %v, %v", i, kv.Value, ok, err)
		}
	}
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestNothingCanBeReadInASealedFolder(t *testing.T) {
	cfg := raftstore.Config{Dir: t.TempDir(), KeyProvider: newKey(t)}
	s, stop := run(t, cfg)
	fill(t, s, 0, 200)
	if files := found(t, cfg.Dir); files != nil {
		t.Fatalf("while it runs the secret is in %v", files)
	}
	stop()
	if files := found(t, cfg.Dir); files != nil {
		t.Fatalf("the secret is in %v", files)
	}
	s, _ = run(t, cfg)
	expectFilled(t, s, 199)
	var backup bytes.Buffer
	if err := s.Backup(t.Context(), &backup); err != nil || bytes.Contains(backup.Bytes(), []byte(secret)) {
		t.Fatal("the secret is in the backup, or", err)
	}
	// The test can fail: a plain folder has it in the log and in the state.
	plain := raftstore.Config{Dir: t.TempDir()}
	s, stop = run(t, plain)
	fill(t, s, 0, 10)
	stop()
	if files := found(t, plain.Dir); len(files) != 2 {
		t.Fatal(files)
	}
}

func TestSealingIsTurnedOnAndOff(t *testing.T) {
	dir, key := t.TempDir(), newKey(t)
	s, stop := run(t, raftstore.Config{Dir: dir})
	fill(t, s, 0, 100)
	stop()
	sealed := raftstore.Config{Dir: dir, KeyProvider: key}
	s, stop = run(t, sealed)
	if files := found(t, dir); files != nil {
		t.Fatalf("after sealing the secret is in %v", files)
	}
	expectFilled(t, s, 99)
	fill(t, s, 100, 50)
	stop()
	s, stop = run(t, sealed)
	expectFilled(t, s, 149)
	stop()
	if _, err := raftstore.Open(raftstore.Config{Dir: dir}); !errors.Is(err, raftstore.ErrKey) || !strings.Contains(err.Error(), key.Name()) {
		t.Fatal("opened without the key:", err)
	}
	s, stop = run(t, raftstore.Config{Dir: dir, KeyProvider: key, Unseal: true})
	expectFilled(t, s, 149)
	fill(t, s, 150, 50)
	stop()
	if _, err := os.Stat(filepath.Join(dir, "KEYS")); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("KEYS is still there:", err)
	}
	s, stop = run(t, raftstore.Config{Dir: dir})
	expectFilled(t, s, 199)
	stop()
	s, _ = run(t, sealed) // and on again
	expectFilled(t, s, 199)
}

func TestAWrongOrLostKeyIsAnErrorBeforeAnythingIsWritten(t *testing.T) {
	dir, key := t.TempDir(), newKey(t)
	s, stop := run(t, raftstore.Config{Dir: dir, KeyProvider: key})
	fill(t, s, 0, 20)
	stop()
	before := snapshotOf(t, dir)
	refused := func(what string, cfg raftstore.Config, says string) {
		t.Helper()
		cfg.Dir = dir
		_, err := raftstore.Open(cfg)
		if !errors.Is(err, raftstore.ErrKey) || !strings.Contains(err.Error(), says) {
			t.Fatalf("%s: %v", what, err)
		}
		if snapshotOf(t, dir) != before {
			t.Fatalf("%s: something was written", what)
		}
	}
	refused("no key", raftstore.Config{}, "set Config.KeyProvider")
	refused("no key to unseal with", raftstore.Config{Unseal: true}, "set Config.KeyProvider")
	other := newKey(t)
	refused("another key", raftstore.Config{KeyProvider: other}, other.Name())
	refused("another key", raftstore.Config{KeyProvider: other}, key.Name())
	refused("a key that lies", raftstore.Config{KeyProvider: liar{key}}, "another key")
	refused("a provider that is down", raftstore.Config{KeyProvider: down{key}}, "the TPM does not answer")

	keys := filepath.Join(dir, "KEYS")
	saved, err := os.ReadFile(keys)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(keys); err != nil {
		t.Fatal(err)
	}
	before = snapshotOf(t, dir)
	refused("KEYS is lost", raftstore.Config{KeyProvider: key}, "bring that file back")
	refused("KEYS is lost, and no key", raftstore.Config{}, "bring that file back")
	if err := os.WriteFile(keys, saved[:len(saved)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := raftstore.Open(raftstore.Config{Dir: dir, KeyProvider: key}); !errors.Is(err, raftstore.ErrCorrupt) {
		t.Fatal(err)
	}
	if err := os.WriteFile(keys, saved, 0o600); err != nil {
		t.Fatal(err)
	}
	s, _ = run(t, raftstore.Config{Dir: dir, KeyProvider: key})
	if s.Revision() != 20 {
		t.Fatal(s.Revision())
	}
}

// snapshotOf is everything in a folder but its lock.
func snapshotOf(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "LOCK" {
			return err
		}
		content, err := os.ReadFile(path)
		fmt.Fprintf(&b, "%s %x\n", path, bytes.TrimRight(content, "\x00"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// liar unwraps to some other key.
type liar struct{ raftstore.KeyProvider }

func (l liar) Unwrap(context.Context, []byte) ([]byte, error) { return make([]byte, 32), nil }

type down struct{ raftstore.KeyProvider }

func (down) Unwrap(context.Context, []byte) ([]byte, error) {
	return nil, errors.New("the TPM does not answer")
}

// mute wraps and never unwraps.
type mute struct{ down }

func TestAProviderThatCannotUnwrapIsRefusedAtOnce(t *testing.T) {
	if _, err := raftstore.Open(raftstore.Config{Dir: t.TempDir(), KeyProvider: mute{down{newKey(t)}}}); !errors.Is(err, raftstore.ErrKey) {
		t.Fatal(err)
	}
}

func TestTheDataKeyIsRotatedWhileWritesGoOn(t *testing.T) {
	cfg := raftstore.Config{Dir: t.TempDir(), KeyProvider: newKey(t)}
	s, stop := run(t, cfg)
	fill(t, s, 0, 300)
	before := keysFile(t, cfg.Dir)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var written [4]int
	for c := range written {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := s.Put(t.Context(), fmt.Sprintf("/writer/%d", c), []byte(fmt.Sprint(written[c]+1))); err != nil {
					t.Error(err)
					return
				}
				written[c]++
				if _, _, err := s.Get(t.Context(), fmt.Sprintf("/%s/%d", secret, written[c]%50)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 3 {
		if err := s.RotateKey(t.Context()); err != nil {
			t.Fatal(err)
		}
		after := keysFile(t, cfg.Dir)
		if after == before {
			t.Fatal("the key is the same")
		}
		before = after
		if err := s.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	wg.Wait()
	stop()
	s, _ = run(t, cfg)
	expectFilled(t, s, 299)
	for c := range written {
		if kv, _, err := s.Get(t.Context(), fmt.Sprintf("/writer/%d", c)); err != nil || string(kv.Value) != fmt.Sprint(written[c]) {
			t.Fatalf("%q, %d were written: %v", kv.Value, written[c], err)
		}
	}
}

func keysFile(t testing.TB, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "KEYS"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestTheWrappingKeyIsChangedRunningAndAtTheStart(t *testing.T) {
	dir := t.TempDir()
	one, two, three := newKey(t), newKey(t), newKey(t)
	s, stop := run(t, raftstore.Config{Dir: dir, KeyProvider: one})
	fill(t, s, 0, 60)
	if err := s.RewrapKey(t.Context(), two); err != nil {
		t.Fatal(err)
	}
	if err := s.RewrapKey(t.Context(), mute{down{three}}); !errors.Is(err, raftstore.ErrKey) {
		t.Fatal(err)
	}
	if err := s.RotateKey(t.Context()); err != nil { // with the new wrapping key
		t.Fatal(err)
	}
	stop()
	if _, err := raftstore.Open(raftstore.Config{Dir: dir, KeyProvider: one}); !errors.Is(err, raftstore.ErrKey) {
		t.Fatal(err)
	}
	s, stop = run(t, raftstore.Config{Dir: dir, KeyProvider: raftstore.FirstKey(three, two)})
	expectFilled(t, s, 59)
	stop()
	s, _ = run(t, raftstore.Config{Dir: dir, KeyProvider: three})
	expectFilled(t, s, 59)
}

func TestASealedBackupNeedsItsKey(t *testing.T) {
	key, escrow := newKey(t), newKey(t)
	kinds(t, func(t *testing.T, cfg raftstore.Config) {
		cfg.KeyProvider = key
		s, _ := run(t, cfg)
		fill(t, s, 0, 50)
		backup := func(opts raftstore.BackupOptions) []byte {
			var b bytes.Buffer
			if err := s.BackupWith(t.Context(), &b, opts); err != nil {
				t.Fatal(err)
			}
			return b.Bytes()
		}
		restore := func(b []byte, cfg raftstore.Config, opts raftstore.RestoreOptions) error {
			cfg.Dir = filepath.Join(t.TempDir(), "restored")
			if err := raftstore.RestoreWith(cfg, bytes.NewReader(b), opts); err != nil {
				if _, err := os.Stat(filepath.Join(cfg.Dir, "FORMAT")); err == nil {
					t.Error("a restore that failed left a folder that opens")
				}
				return err
			}
			r, stop := run(t, cfg)
			expectFilled(t, r, 49)
			stop()
			if files := found(t, cfg.Dir); (files == nil) != (cfg.KeyProvider != nil) {
				t.Errorf("the secret is in %v", files)
			}
			return nil
		}
		own := backup(raftstore.BackupOptions{})
		given := backup(raftstore.BackupOptions{Key: escrow})
		plain := backup(raftstore.BackupOptions{Plain: true})
		for _, c := range []struct {
			name   string
			backup []byte
			cfg    raftstore.Config
			opts   raftstore.RestoreOptions
			want   error
		}{
			{"own key", own, raftstore.Config{KeyProvider: key}, raftstore.RestoreOptions{}, nil},
			{"no key", own, raftstore.Config{}, raftstore.RestoreOptions{}, raftstore.ErrKey},
			{"wrong key", own, raftstore.Config{KeyProvider: escrow}, raftstore.RestoreOptions{}, raftstore.ErrKey},
			{"into a plain folder", own, raftstore.Config{}, raftstore.RestoreOptions{Key: key}, nil},
			{"given key", given, raftstore.Config{KeyProvider: key}, raftstore.RestoreOptions{Key: escrow}, nil},
			{"given key, not given", given, raftstore.Config{KeyProvider: key}, raftstore.RestoreOptions{}, raftstore.ErrKey},
			{"plain", plain, raftstore.Config{KeyProvider: key}, raftstore.RestoreOptions{}, nil},
		} {
			if err := restore(c.backup, c.cfg, c.opts); !errors.Is(err, c.want) {
				t.Errorf("%s: %v", c.name, err)
			}
		}
		info, err := raftstore.VerifyBackup(bytes.NewReader(given), escrow)
		if err != nil || info != (raftstore.BackupInfo{Revision: 50, Keys: 50, SealedBy: escrow.Name()}) {
			t.Errorf("%+v, %v", info, err)
		}
	})
}

func TestAKeyFileIsMadeOnlyOnRequestAndMustBePrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if _, err := raftstore.FileKey(path); !errors.Is(err, raftstore.ErrKey) || !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	made, err := raftstore.CreateFileKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := raftstore.CreateFileKey(path); !errors.Is(err, raftstore.ErrKey) {
		t.Fatal("it was made twice:", err)
	}
	again, err := raftstore.FileKey(path)
	if err != nil || again.Name() != made.Name() {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := raftstore.FileKey(path); !errors.Is(err, raftstore.ErrKey) || !strings.Contains(err.Error(), "chmod 600") {
		t.Fatal(err)
	}
	for _, size := range []int{0, 31, 33} {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := raftstore.FileKey(path); !errors.Is(err, raftstore.ErrKey) {
			t.Fatal(size, err)
		}
	}
	if _, err := raftstore.FileKey(t.TempDir()); !errors.Is(err, raftstore.ErrKey) {
		t.Fatal(err)
	}
}
