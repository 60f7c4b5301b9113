package raftstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// needRoot says that a test mounts something. Without root it is skipped on a developer's machine and
// fails in CI.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("needs root, to mount a file system")
	}
	t.Skip("needs root, to mount a file system")
}

// smallDisk is a file system of its own; resize changes its options.
func smallDisk(t *testing.T, options string) (dir string, remount func(options string)) {
	t.Helper()
	needRoot(t)
	dir = t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatal("mount a small disk:", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error("unmount the small disk:", err)
		}
	})
	return dir, func(options string) {
		flags := uintptr(syscall.MS_REMOUNT)
		if options == "ro" {
			flags, options = flags|syscall.MS_RDONLY, ""
		}
		if err := syscall.Mount("tmpfs", dir, "tmpfs", flags, options); err != nil {
			t.Fatal("remount the small disk:", err)
		}
	}
}

// TestAFullDiskDegradesAndLosesNothing fills real disks of several sizes, so that it is now the log that
// finds no room, now the state file, a new segment, or the first start.
func TestAFullDiskDegradesAndLosesNothing(t *testing.T) {
	for _, kib := range []int{16, 40, 64, 80, 100, 128, 192, 300, 500, 1000, 2500} {
		t.Run(fmt.Sprint(kib, "KiB"), func(t *testing.T) {
			disk, remount := smallDisk(t, fmt.Sprintf("size=%dk", kib))
			cfg := Config{Dir: filepath.Join(disk, "store"), NoAutoCompact: true, Backups: BackupSchedule{Dir: filepath.Join(disk, "backups"), Every: time.Hour}}
			if kib%3 == 0 {
				cfg.KeyProvider = goldenKey(t, 1)
			}
			acked := fillUp(t, cfg)
			// Once more, with the disk still full.
			if err := useOrRefuse(t, cfg); err == nil && acked == 0 {
				t.Error("there was room for a start")
			}
			remount("size=200m")
			s, stop := startStore(t, cfg)
			for i := range acked {
				kv, ok, err := s.Get(t.Context(), fmt.Sprintf("/k/%05d", i))
				if err != nil || !ok || !bytes.HasPrefix(kv.Value, fmt.Appendf(nil, "value %d ", i)) {
					t.Fatalf("of %d acknowledged writes number %d is lost: %q, %v", acked, i, kv.Value, err)
				}
			}
			if _, err := s.Put(t.Context(), "/on", nil); err != nil {
				t.Fatal(err)
			}
			if err := s.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := s.Backups().Make(t.Context()); err != nil && !errors.Is(err, ErrLocked) {
				t.Fatal(err)
			}
			stop()
		})
	}
}

// fillUp writes until the disk is full and returns how many writes were acknowledged.
func fillUp(t *testing.T, cfg Config) (acked int) {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		sayFull(t, err)
		return 0
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(context.Background()) }()
	pad := strings.Repeat("x", 3000)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		_, err := s.Put(ctx, fmt.Sprintf("/k/%05d", acked), fmt.Appendf(nil, "value %d %s", acked, pad))
		cancel()
		if err != nil {
			if !errors.Is(err, ErrDegraded) {
				t.Fatal(err)
			}
			break
		}
		acked++
	}
	select {
	case <-s.Degraded():
	case <-time.After(time.Minute):
		t.Fatal("it is not degraded")
	}
	sayFull(t, s.Err())
	if acked > 0 {
		if r, err := s.Range(t.Context(), RangeRequest{Local: true, CountOnly: true}); err != nil || r.Count < int64(acked) {
			t.Fatal("local reads do not go on:", r.Count, acked, err)
		}
	}
	if _, err := s.Put(t.Context(), "/x", nil); !errors.Is(err, ErrDegraded) {
		t.Fatal(err)
	}
	if err := s.Backups().Make(t.Context()); err == nil {
		t.Fatal("a backup was made of a degraded store on a full disk")
	}
	_ = s.Close()
	select {
	case err := <-done:
		if !errors.Is(err, ErrDegraded) {
			t.Fatal(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("Run hangs")
	}
	return acked
}

func sayFull(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "the disk is full: make room, then open the store again") {
		t.Fatal(err)
	}
}

// TestAKeyIsRotatedOnAFullDisk also turns sealing on and restores a backup there.
func TestAKeyIsRotatedOnAFullDisk(t *testing.T) {
	disk, remount := smallDisk(t, "size=200m")
	cfg := Config{Dir: filepath.Join(disk, "store"), KeyProvider: goldenKey(t, 1), NoAutoCompact: true}
	s, stop := startStore(t, cfg)
	for i := range 300 {
		if _, err := s.Put(t.Context(), fmt.Sprintf("/k/%05d", i), bytes.Repeat([]byte("v"), 3000)); err != nil {
			t.Fatal(err)
		}
	}
	var backup bytes.Buffer
	if err := s.Backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	if err := s.files.state.flush(s.m); err != nil {
		t.Fatal(err)
	}
	remount(fmt.Sprintf("size=%d", usedOn(t, disk)+64<<10))
	if err := s.RotateKey(t.Context()); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if s.Err() == nil {
		t.Fatal("it is not degraded")
	}
	stop()
	plain := cfg
	plain.KeyProvider, plain.Dir = nil, filepath.Join(disk, "restored")
	if err := RestoreWith(plain, bytes.NewReader(backup.Bytes()), RestoreOptions{Key: cfg.KeyProvider}); err == nil {
		t.Fatal("there was room for a restore")
	} else {
		sayFull(t, err)
	}
	unseal := cfg
	unseal.Unseal = true
	if _, err := Open(unseal); err == nil {
		t.Fatal("there was room to unseal")
	} else {
		sayFull(t, err)
	}
	remount("size=200m")
	if err := RestoreWith(plain, bytes.NewReader(backup.Bytes()), RestoreOptions{Key: cfg.KeyProvider}); err != nil {
		t.Fatal(err)
	}
	s, stop = startStore(t, unseal)
	if err := s.Check(t.Context()); err != nil || s.Revision() != 300 {
		t.Fatal(s.Revision(), err)
	}
	stop()
	s, _ = startStore(t, cfg)
	waitFinished(t, s)
	if err := s.Check(t.Context()); err != nil || s.Revision() != 300 {
		t.Fatal(s.Revision(), err)
	}
}

func usedOn(t *testing.T, dir string) int64 {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Blocks-st.Bfree) * st.Bsize
}

func TestAReadOnlyFileSystemIsAnError(t *testing.T) {
	disk, remount := smallDisk(t, "size=200m")
	cfg := Config{Dir: filepath.Join(disk, "store")}
	s, stop := startStore(t, cfg)
	if _, err := s.Put(t.Context(), "k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	stop()
	remount("ro")
	for _, dir := range []string{cfg.Dir, filepath.Join(disk, "another")} {
		if _, err := Open(Config{Dir: dir}); !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), "mount it for writing") {
			t.Fatal(err)
		}
	}
	remount("size=200m")
	s, _ = startStore(t, cfg)
	if _, ok, err := s.Get(t.Context(), "k"); !ok || err != nil {
		t.Fatal(ok, err)
	}
}

// TestPermissionChild is no test: it is what TestAFolderOfSomebodyElseIsAnError runs as nobody.
func TestPermissionChild(t *testing.T) {
	dir := os.Getenv("RAFTSTORE_PERMISSION_DIR")
	if dir == "" {
		t.Skip("for TestAFolderOfSomebodyElseIsAnError")
	}
	fmt.Println("uid", os.Geteuid())
	fmt.Println("error:", useOrRefuse(t, Config{Dir: dir}))
}

func TestAFolderOfSomebodyElseIsAnError(t *testing.T) {
	needRoot(t)
	base, err := os.MkdirTemp("", "raftstore-permission")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	const nobody = 65534
	binary := filepath.Join(base, "test")
	if err := copyFile(os.Args[0], binary); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(base, 0o755); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(base, "store")
	s, stop := startStore(t, Config{Dir: dir})
	if _, err := s.Put(t.Context(), "k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	if err := s.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	stop()
	asNobody := func() string {
		cmd := exec.CommandContext(t.Context(), binary, "-test.run=^TestPermissionChild$", "-test.v")
		cmd.Env = append(os.Environ(), "RAFTSTORE_PERMISSION_DIR="+dir)
		cmd.Dir = base
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		out, err := cmd.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte(fmt.Sprint("uid ", nobody))) {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	own := func(name string, uid int) {
		if err := os.Chown(filepath.Join(dir, name), uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	err = filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, path)
		names = append(names, name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		own(name, nobody)
	}
	for _, name := range names {
		own(name, 0)
		if out := asNobody(); !strings.Contains(out, "permission denied") || !strings.Contains(out, "must belong to this process's user") {
			t.Errorf("with %s of root: %s", name, out)
		}
		own(name, nobody)
	}
	if out := asNobody(); !strings.Contains(out, "error: <nil>") {
		t.Errorf("with everything its own: %s", out)
	}
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	return err
}
