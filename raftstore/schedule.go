package raftstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// BackupSchedule says when to write backups, and where.
type BackupSchedule struct {
	// Dir is where the backups go; it is made if it is not there. It should be on another disk. ""
	// makes none.
	Dir string
	// Every is the time from one to the next; 0 is 24 hours. What was missed while nothing ran, or
	// because the clock was set, is made up for by one backup at once.
	Every time.Duration
	// Keep is how many are kept; 0 is 7. One is deleted only after a newer one was written, read back
	// and found right.
	Keep int
	// Name begins the names of the files; "" is "store". Files of other names are left alone.
	Name string
	// Options are for each backup.
	Options BackupOptions
}

func (c BackupSchedule) withDefaults() (BackupSchedule, error) {
	if c.Every < 0 || c.Keep < 0 {
		return c, fmt.Errorf("%w: BackupSchedule: Every and Keep cannot be negative", ErrInvalid)
	}
	if c.Name == "" {
		c.Name = "store"
	}
	if !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`).MatchString(c.Name) {
		return c, fmt.Errorf("%w: BackupSchedule.Name %q: letters, digits, and _ . - inside", ErrInvalid, c.Name)
	}
	if c.Every == 0 {
		c.Every = 24 * time.Hour
	}
	if c.Keep == 0 {
		c.Keep = 7
	}
	return c, nil
}

// BackupFile is a backup in a folder.
type BackupFile struct {
	Path     string
	Revision int64
	Time     time.Time // when it was begun, by the clock of then
}

const backupTime = "20060102T150405Z"

func backupFileName(name string, rev int64, at time.Time) string {
	return fmt.Sprintf("%s-%020d-%s.backup", name, rev, at.UTC().Format(backupTime))
}

func parseBackupFileName(name, file string) (BackupFile, bool) {
	rest, ok := strings.CutPrefix(file, name+"-")
	rest, ok2 := strings.CutSuffix(rest, ".backup")
	rev, at, ok3 := strings.Cut(rest, "-")
	n, err := strconv.ParseInt(rev, 10, 64)
	t, terr := time.Parse(backupTime, at)
	return BackupFile{Revision: n, Time: t}, ok && ok2 && ok3 && len(rev) == 20 && err == nil && terr == nil
}

// ListBackups returns the backups of that name ("": "store") in a folder, newest first. The order is
// that of their revisions: clocks are set, revisions only grow.
func ListBackups(dir, name string) ([]BackupFile, error) {
	if name == "" {
		name = "store"
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list backups: %w", err)
	}
	var files []BackupFile
	for _, e := range entries {
		if f, ok := parseBackupFileName(name, e.Name()); ok && e.Type().IsRegular() {
			f.Path = filepath.Join(dir, e.Name())
			files = append(files, f)
		}
	}
	slices.SortFunc(files, func(a, b BackupFile) int {
		return cmp.Or(cmp.Compare(b.Revision, a.Revision), b.Time.Compare(a.Time))
	})
	return files, nil
}

// Backups makes the backups of a schedule.
type Backups struct {
	s     *Store
	c     BackupSchedule
	fault func(op string) error // in tests, is asked before "backup", "verify" and "rename"

	mu     sync.Mutex
	status BackupStatus
}

// BackupStatus says how the backups are doing.
type BackupStatus struct {
	// Newest is the newest good backup, and Size its size; zero until there is one.
	Newest BackupFile
	Size   int64
	// Err is why the last attempt failed, nil if it did not. It is tried again within a minute.
	Err error
	// Failing is since when attempts have failed.
	Failing time.Time
}

// NewBackups is for whoever wants a second schedule, or to run it apart from Store.Run, which runs
// that of Config.Backups. It starts nothing.
func NewBackups(s *Store, c BackupSchedule) (*Backups, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	if c.Dir == "" {
		return nil, fmt.Errorf("%w: BackupSchedule.Dir is not set", ErrInvalid)
	}
	return &Backups{s: s, c: c}, nil
}

// Backups is the schedule of Config.Backups, nil without one.
func (s *Store) Backups() *Backups { return s.backups }

// Status may be called at any time.
func (b *Backups) Status() BackupStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.status
}

const backupLook = time.Minute

// Run makes backups until ctx ends, or the store stops. Failures are in Status and in the log; they
// end nothing.
func (b *Backups) Run(ctx context.Context) {
	// Not one long timer: it would not notice that the clock was set.
	timer := time.NewTimer(0)
	defer timer.Stop()
	var last time.Time
	for first := true; ; first = false {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		case <-b.s.stopped:
			return
		}
		now := b.s.cfg.Clock.Now()
		if first {
			last = b.lastAttempt()
		}
		wait := backupWait(now, last, b.c.Every)
		if wait == 0 {
			if err := b.Make(ctx); err == nil {
				last = now
				wait = b.c.Every
			} else if ctx.Err() == nil {
				b.s.cfg.Logger.Error("no backup", "folder", b.c.Dir, "error", err)
				wait = b.c.Every
			}
		}
		timer.Reset(min(wait, backupLook))
	}
}

// backupWait is how long to wait for the next backup; last is when the last one was made, by the
// clock of then. A last one that lies further ahead than the next should says that the clock was set
// back.
func backupWait(now, last time.Time, every time.Duration) time.Duration {
	if last.IsZero() || last.Sub(now) > every {
		return 0
	}
	return max(0, last.Add(every).Sub(now))
}

// lastAttempt looks what earlier runs have left.
func (b *Backups) lastAttempt() time.Time {
	files, err := ListBackups(b.c.Dir, b.c.Name)
	if err != nil || len(files) == 0 {
		return time.Time{}
	}
	newest := files[0]
	info, err := os.Stat(newest.Path)
	if err != nil {
		return time.Time{}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.status.Newest, b.status.Size = newest, info.Size()
	return newest.Time
}

// Make makes a backup now: writes it, reads it back, gives it its name, and deletes those beyond Keep.
func (b *Backups) Make(ctx context.Context) error {
	file, size, err := b.make(ctx)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		if b.status.Failing.IsZero() {
			b.status.Failing = b.s.cfg.Clock.Now()
		}
		err = fmt.Errorf("backup to %s: %w", b.c.Dir, backupAdvised(err))
		b.status.Err = err
		if file.Path != "" { // what failed is the deletion of others
			b.status.Newest, b.status.Size = file, size
		}
		return err
	}
	b.status = BackupStatus{Newest: file, Size: size}
	return nil
}

func backupAdvised(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w (the disk of the backups is full: make room, or lower Keep; the last good one is untouched)", err)
	}
	return err
}

func (b *Backups) make(ctx context.Context) (file BackupFile, size int64, err error) {
	if err := os.MkdirAll(b.c.Dir, 0o700); err != nil {
		return file, 0, err
	}
	// Two stores with one folder and name would delete each other's.
	lock, err := lockFile(filepath.Join(b.c.Dir, "."+b.c.Name+".lock"))
	if err != nil {
		return file, 0, err
	}
	defer lock.Close()
	tmp := filepath.Join(b.c.Dir, "."+b.c.Name+".tmp")
	defer func() {
		if err != nil {
			_ = os.Remove(tmp)
		}
	}()
	at := b.s.cfg.Clock.Now()
	info, size, err := b.write(ctx, tmp)
	if err != nil {
		return file, 0, err
	}
	file = BackupFile{Path: filepath.Join(b.c.Dir, backupFileName(b.c.Name, info.Revision, at)), Revision: info.Revision, Time: at}
	if err = b.asked("rename"); err == nil {
		if err = os.Rename(tmp, file.Path); err == nil {
			err = syncDir(b.c.Dir)
		}
	}
	if err != nil {
		return BackupFile{}, 0, err
	}
	return file, size, b.prune(file.Path)
}

func (b *Backups) asked(op string) error {
	if b.fault == nil {
		return nil
	}
	return b.fault(op)
}

func (b *Backups) write(ctx context.Context, tmp string) (info BackupInfo, size int64, err error) {
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return info, 0, err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	if err := b.asked("backup"); err != nil {
		return info, 0, err
	}
	if err := b.s.BackupWith(ctx, f, b.c.Options); err != nil {
		return info, 0, err
	}
	if err := f.Sync(); err != nil {
		return info, 0, err
	}
	if size, err = f.Seek(0, io.SeekEnd); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err == nil {
		err = b.asked("verify")
	}
	if err != nil {
		return info, 0, err
	}
	key := b.c.Options.Key
	if key == nil {
		key = b.s.files.ring.sealedBy()
	}
	untilEnd := readerFunc(func(p []byte) (int, error) {
		if err := context.Cause(ctx); err != nil {
			return 0, err
		}
		return f.Read(p)
	})
	if info, err = VerifyBackup(untilEnd, key); err != nil {
		return info, 0, fmt.Errorf("what was written cannot be read back: %w", err)
	}
	return info, size, nil
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// prune deletes the oldest beyond Keep, never the one that was just made.
func (b *Backups) prune(just string) error {
	files, err := ListBackups(b.c.Dir, b.c.Name)
	if err != nil {
		return err
	}
	files = slices.DeleteFunc(files, func(f BackupFile) bool { return f.Path == just })
	var errs []error
	for _, f := range files[min(len(files), b.c.Keep-1):] {
		if err := os.Remove(f.Path); err != nil {
			errs = append(errs, fmt.Errorf("delete an old backup: %w", err))
		}
	}
	return errors.Join(errs...)
}
