package guest_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/pintle/pintle/policies/guest"
	"github.com/pintle/pintle/policies/internal/asm"
)

func square() []byte { return one(i32, i32, none, "local.get 0 local.get 0 i32.mul").Bytes() }

// works says whether a module computes.
func works(t *testing.T, m *guest.Module) {
	t.Helper()
	if got, _, err := call(newPool(t, m, guest.PoolConfig{}), "run", 12); err != nil || got != 144 {
		t.Errorf("run(12) = %d, %v", got, err)
	}
}

func cacheFiles(t *testing.T, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestTheSameBytesAreCompiledOnceAlsoByTheNextProcess(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		r := newRuntime(t, guest.Config{CacheDir: dir})
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				m, err := r.Compile(context.Background(), square(), nil)
				if err != nil {
					t.Error(err)
					return
				}
				works(t, m)
			})
		}
		all.Wait()
		if files := cacheFiles(t, dir); len(files) != 1 {
			t.Errorf("the cache holds %q", files)
		}
	}
}

func TestADamagedCacheIsNoReasonToRefuseAModule(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"cut":     func(path string) error { return os.Truncate(path, 100) },
		"garbage": func(path string) error { return os.WriteFile(path, bytes.Repeat([]byte{7}, 500), 0o600) },
		"a folder in its place": func(path string) error {
			return errors.Join(os.Remove(path), os.Mkdir(path, 0o700))
		},
		"the folder is gone": func(path string) error { return os.RemoveAll(filepath.Dir(path)) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			works(t, compile(t, newRuntime(t, guest.Config{CacheDir: dir}), square()))
			var log bytes.Buffer
			r := newRuntime(t, guest.Config{CacheDir: dir, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			for _, f := range cacheFiles(t, dir) {
				if err := damage(f); err != nil {
					t.Fatal(err)
				}
			}
			works(t, compile(t, r, square()))
			if name == "the folder is gone" && !strings.Contains(log.String(), "cache") {
				t.Errorf("nobody is told: %q", log.String())
			}
		})
	}
}

func TestInspectTellsWhatAModuleIs(t *testing.T) {
	m := &asm.Module{}
	m.ImportFunc("env", "f", asm.Types{asm.I64}, none)
	m.Memory(3, -1)
	m.Export("run", 0, m.Func(i32, i64, none, "i64.const 1"))
	m.Custom("metadata", []byte("mine"))
	m.Custom("metadata", []byte("another"))
	producers := append([]byte{2}, asm.Name("language")...)
	producers = append(append(append(producers, 1), asm.Name("Rust")...), asm.Name("")...)
	producers = append(producers, asm.Name("processed-by")...)
	producers = append(append(append(producers, 1), asm.Name("rustc")...), asm.Name("1.80")...)
	m.Custom("producers", producers)
	wasm := m.Bytes()
	info, err := guest.Inspect(wasm)
	if err != nil {
		t.Fatal(err)
	}
	run, ok := info.Export("run")
	if !ok || run.Kind != "func" || !bytes.Equal(run.Params, i32) || !bytes.Equal(run.Results, i64) {
		t.Errorf("run is %+v", run)
	}
	if len(info.Imports) != 1 || !info.ImportsFrom("env") || info.ImportsFrom("run") {
		t.Errorf("imports %+v", info.Imports)
	}
	if b, _ := info.CustomSection("metadata"); string(b) != "mine" {
		t.Errorf("metadata is %q", b)
	}
	if info.Toolchain != "Rust, rustc 1.80" || info.MinMemory != 3<<16 || info.Size != len(wasm) || len(info.Digest) != 71 {
		t.Errorf("%+v", info)
	}
	if _, err := guest.Inspect(wasm[:len(wasm)-1]); err == nil {
		t.Error("a module that is cut passes")
	}
}

func TestAHostMayReplaceFunctionsOfWASI(t *testing.T) {
	m := &asm.Module{}
	m.ImportFunc("wasi_snapshot_preview1", "sched_yield", none, i32)
	m.ImportFunc("wasi_snapshot_preview1", "proc_raise", i32, i32)
	m.Export("run", 0, m.Func(none, i32, none, "call 0 i32.const 1 call 1 i32.add"))
	mine := guest.HostModule{Name: "wasi_snapshot_preview1", Funcs: []guest.HostFunc{{Name: "sched_yield", Results: i32,
		Call: func(_ context.Context, _ *guest.Instance, s []uint64) error { s[0] = 1000; return nil }}}}
	if got, _, err := call(pool(t, m, guest.PoolConfig{}, mine), "run"); err != nil || got != 1052 {
		t.Errorf("returned %d, %v", got, err)
	}
}

func TestTheRuntimeClosesWhatItMade(t *testing.T) {
	r, err := guest.New(guest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	m := compile(t, r, square())
	p := newPool(t, m, guest.PoolConfig{})
	works(t, m)
	if err := r.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if _, _, err := call(p, "run", 1); !errors.Is(err, guest.ErrClosed) {
		t.Errorf("a call: %v", err)
	}
	if _, err := m.NewPool(guest.PoolConfig{}); !errors.Is(err, guest.ErrClosed) {
		t.Errorf("a pool: %v", err)
	}
	if _, err := r.Compile(context.Background(), square(), nil); !errors.Is(err, guest.ErrClosed) {
		t.Errorf("a compilation: %v", err)
	}
	if err := r.Close(context.Background()); err != nil {
		t.Errorf("once more: %v", err)
	}
}
