package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func TestABackupIsDueHoweverTheClockJumps(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	year := 365 * 24 * time.Hour
	for _, c := range []struct {
		name string
		last time.Time
		want time.Duration
	}{
		{"never yet", time.Time{}, 0},
		{"just now", now, time.Hour},
		{"half-way", now.Add(-30 * time.Minute), 30 * time.Minute},
		{"on time", now.Add(-time.Hour), 0},
		{"many were missed", now.Add(-10 * time.Hour), 0},
		{"the clock jumped on", now.Add(-30 * year), 0},
		{"the clock was set back a little", now.Add(time.Minute), time.Hour + time.Minute},
		{"the clock was set back by years", now.Add(30 * year), 0},
	} {
		if got := backupWait(now, c.last, time.Hour); got != c.want {
			t.Errorf("%s: wait %s, want %s", c.name, got, c.want)
		}
	}
}

// setClock is a clock that is set while the store runs.
type setClock struct{ now atomic.Int64 }

func (c *setClock) Now() time.Time { return time.Unix(0, c.now.Load()).UTC() }

func (c *setClock) set(now time.Time) { c.now.Store(now.UnixNano()) }

// backupsIn has a store in memory and its backups, with a clock that is set by hand.
func backupsIn(t *testing.T, c BackupSchedule) (*Store, *Backups, *setClock) {
	clock := &setClock{}
	clock.set(time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC))
	s, _ := startStore(t, Config{Clock: clock, NoAutoCompact: true})
	b, err := NewBackups(s, c)
	if err != nil {
		t.Fatal(err)
	}
	return s, b, clock
}

func TestTheNewestBackupsAreKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "backups")
	s, b, clock := backupsIn(t, BackupSchedule{Dir: dir, Keep: 3})
	for i := range 6 {
		if _, err := s.Put(t.Context(), "k", fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
		if err := b.Make(t.Context()); err != nil {
			t.Fatal(err)
		}
		// Back and forth by years: the order is that of the revisions.
		clock.set(clock.Now().AddDate([]int{3, -7}[i%2], 0, 0))
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("other", i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files, err := ListBackups(dir, "")
	if err != nil || len(files) != 3 || files[0].Revision != 6 || files[2].Revision != 4 {
		t.Fatal(files, err)
	}
	if st := b.Status(); st.Newest.Path != files[0].Path || st.Err != nil || st.Size == 0 {
		t.Fatalf("%+v", st)
	}
	all, _ := os.ReadDir(dir)
	if len(all) != 3+6+1 { // and the lock
		t.Fatal("files of others were deleted, or something was left", all)
	}
	f, err := os.Open(files[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := Restore(Config{Dir: filepath.Join(t.TempDir(), "restored")}, f); err != nil {
		t.Fatal(err)
	}
}

func TestABackupThatFailsLeavesTheLastGoodOne(t *testing.T) {
	full := fmt.Errorf("write: %w", syscall.ENOSPC)
	for _, op := range []string{"backup", "verify", "rename", "damage"} {
		t.Run(op, func(t *testing.T) {
			dir := t.TempDir()
			s, b, clock := backupsIn(t, BackupSchedule{Dir: dir, Keep: 1})
			if _, err := s.Put(t.Context(), "k", []byte("v")); err != nil {
				t.Fatal(err)
			}
			if err := b.Make(t.Context()); err != nil {
				t.Fatal(err)
			}
			good := b.Status().Newest
			clock.set(clock.Now().Add(time.Hour))
			b.fault = func(o string) error {
				switch {
				case o == op:
					return full
				case op == "damage" && o == "verify": // the disk lied
					f, err := os.OpenFile(filepath.Join(dir, ".store.tmp"), os.O_WRONLY, 0)
					if err == nil {
						_, err = f.WriteAt([]byte{0xff}, 40)
						_ = f.Close()
					}
					return err
				}
				return nil
			}
			want := full
			if op == "damage" {
				want = ErrCorrupt
			}
			if err := b.Make(t.Context()); !errors.Is(err, want) || !strings.Contains(err.Error(), dir) {
				t.Fatal(err)
			}
			st := b.Status()
			if !errors.Is(st.Err, want) || !st.Failing.Equal(clock.Now()) || st.Newest != good {
				t.Fatalf("%+v", st)
			}
			files, err := os.ReadDir(dir)
			if err != nil || len(files) != 2 || files[1].Name() != filepath.Base(good.Path) {
				t.Fatal(files, err)
			}
			b.fault = nil
			if err := b.Make(t.Context()); err != nil {
				t.Fatal(err)
			}
			if st := b.Status(); st.Err != nil || !st.Failing.IsZero() || st.Newest.Path == good.Path {
				t.Fatalf("%+v", st)
			}
		})
	}
}

func TestTheStoreRunsItsSchedule(t *testing.T) {
	dir := t.TempDir()
	for round := range 3 {
		cfg := Config{Dir: filepath.Join(dir, "store"), KeyProvider: goldenKey(t, 1), Backups: BackupSchedule{Dir: filepath.Join(dir, "backups"), Every: time.Hour}}
		clock := &setClock{}
		clock.set(time.Date(2026+round, 11, 27, 12, 0, 0, 0, time.UTC))
		cfg.Clock = clock
		s, stop := startStore(t, cfg)
		// After downtime of a year, one backup is made up for at once.
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			if st := s.Backups().Status(); st.Newest.Time.Equal(clock.Now()) {
				break
			} else if st.Err != nil || time.Now().After(deadline) {
				t.Fatalf("%+v", st)
			}
		}
		if _, err := s.Put(t.Context(), "k", nil); err != nil {
			t.Fatal(err)
		}
		stop()
	}
	files, err := ListBackups(filepath.Join(dir, "backups"), "")
	if err != nil || len(files) != 3 {
		t.Fatal(files, err)
	}
	b, err := os.ReadFile(files[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := VerifyBackup(bytes.NewReader(b), goldenKey(t, 1)); err != nil || info.Revision != 2 || info.SealedBy == "" {
		t.Fatal(info, err)
	}
}

func TestTwoStoresDoNotShareTheirBackups(t *testing.T) {
	dir := t.TempDir()
	_, a, _ := backupsIn(t, BackupSchedule{Dir: dir, Keep: 1})
	_, b, _ := backupsIn(t, BackupSchedule{Dir: dir, Keep: 1})
	a.fault = func(op string) error {
		if op == "rename" {
			if err := b.Make(t.Context()); !errors.Is(err, ErrLocked) {
				t.Error("both write at once:", err)
			}
		}
		return nil
	}
	if err := a.Make(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := NewBackups(a.s, BackupSchedule{Dir: dir, Name: "../x"}); !errors.Is(err, ErrInvalid) {
		t.Fatal(err)
	}
}
