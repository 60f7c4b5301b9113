package raftstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// filled makes a closed folder whose last entries are in the log alone, and says what is in it.
func filled(t *testing.T, cfg Config) (dir, dump string) {
	t.Helper()
	cfg.Dir = t.TempDir()
	s, stop := checkable(t, cfg)
	if err := s.files.state.flush(s.m); err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(t.TempDir(), "crashed")
	if err := os.CopyFS(dir, os.DirFS(cfg.Dir)); err != nil {
		t.Fatal(err)
	}
	dump = dumpStore(t, s)
	stop()
	// bbolt's file is larger than it needs to be; pages that hold nothing need no faults.
	path := filepath.Join(dir, fileState)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b = bytes.TrimRight(b, "\x00")
	if err := os.WriteFile(path, append(b, make([]byte, statePage-len(b)%statePage)...), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, dump
}

// openOrRefuse opens a copy of a folder in which one file was changed. It must be refused, or hold what
// it held: whatever else is damage that nobody sees.
func openOrRefuse(t *testing.T, from, file string, changed []byte, cfg Config, dump string) error {
	t.Helper()
	cfg.Dir = filepath.Join(t.TempDir(), "copy")
	cfg.NoAutoCompact = true
	if err := os.CopyFS(cfg.Dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(cfg.Dir)
	if err := os.WriteFile(filepath.Join(cfg.Dir, file), changed, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(cfg)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(context.Background()) }()
	defer func() { _ = s.Close(); <-done }()
	select {
	case <-s.Ready():
	case <-s.Degraded():
		return s.Err()
	case <-time.After(time.Minute):
		t.Fatal("it hangs")
	}
	// Reading everything sees every value.
	for rev := max(1, s.CompactedRevision()); rev <= s.Revision(); rev++ {
		if _, err := s.Range(t.Context(), RangeRequest{Revision: rev}); err != nil {
			return err
		}
	}
	if got := dumpStore(t, s); got != dump {
		t.Fatalf("it opened with other content:\n%s\ninstead of\n%s", got, dump)
	}
	if _, err := s.Put(t.Context(), "/k/07", []byte("on")); err != nil {
		return err
	}
	return s.Check(t.Context())
}

// TestEveryDamagedPageIsAnErrorAndNoPanic spoils each page of the state file in several ways.
func TestEveryDamagedPageIsAnErrorAndNoPanic(t *testing.T) {
	for _, cfg := range []Config{{}, {KeyProvider: goldenKey(t, 1)}} {
		dir, dump := filled(t, cfg)
		good, err := os.ReadFile(filepath.Join(dir, fileState))
		if err != nil {
			t.Fatal(err)
		}
		const size = statePage
		pages := len(good) / size
		dice := rand.New(rand.NewPCG(7, 7))
		refused, total := 0, 0
		try := func(what string, b []byte) {
			total++
			if err := openOrRefuse(t, dir, fileState, b, cfg, dump); err != nil {
				refused++
				if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrKey) {
					t.Errorf("%s: %v", what, err)
				}
			}
		}
		for p := range pages {
			if cfg.KeyProvider != nil && p%3 != 0 {
				continue // what bbolt trusts is the same: a sample
			}
			page := func(b []byte) []byte { return b[p*size : (p+1)*size] }
			for name, spoil := range map[string]func(b []byte){
				"zeros":   func(b []byte) { clear(page(b)) },
				"ones":    func(b []byte) { copy(page(b), bytes.Repeat([]byte{0xff}, size)) },
				"another": func(b []byte) { copy(page(b), good[(p+1)%pages*size:]) },
				"half":    func(b []byte) { clear(page(b)[size/2:]) },
				"noise": func(b []byte) {
					for i := range page(b) {
						page(b)[i] = byte(dice.Uint32())
					}
				},
			} {
				b := bytes.Clone(good)
				spoil(b)
				try(fmt.Sprintf("page %d is %s", p, name), b)
			}
			for range 12 {
				// Most of what bbolt trusts is at the beginning of a page.
				at := dice.IntN([]int{32, 128, size}[dice.IntN(3)])
				b := bytes.Clone(good)
				page(b)[at] ^= 1 << dice.IntN(8)
				try(fmt.Sprintf("page %d has a bit flipped at %d", p, at), b)
			}
			try(fmt.Sprintf("%d pages are left", p), good[:p*size])
		}
		if refused < total/10 { // many pages are free, and their content is nobody's
			t.Errorf("only %d of %d damages were seen", refused, total)
		}
	}
}

// TestEveryDamageOfASmallFileIsSeen flips each byte of the files of a folder and cuts them at each.
func TestEveryDamageOfASmallFileIsSeen(t *testing.T) {
	sealed := Config{KeyProvider: goldenKey(t, 1)}
	dir, dump := filled(t, sealed)
	for _, name := range []string{fileFormat, fileKeys, fileStable, fileSnap} {
		good, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		step := 1 + len(good)/60
		for i := 0; i < len(good); i += step {
			bad := bytes.Clone(good)
			bad[i] ^= 0x04
			for what, b := range map[string][]byte{"flipped": bad, "cut": good[:i]} {
				err := openOrRefuse(t, dir, name, b, sealed, dump)
				if err == nil && name != fileStable { // whose last record may be torn
					t.Errorf("%s, %s at byte %d of %d, opened", name, what, i, len(good))
				}
			}
		}
	}
}

// TestALogThatIsDamagedIsRefusedOrCut flips bytes of the log, and cuts it. What the state file has is
// never lost in silence; here it has everything.
func TestALogThatIsDamagedIsRefusedOrCut(t *testing.T) {
	for _, cfg := range []Config{{}, {KeyProvider: goldenKey(t, 1)}} {
		dir, dump := filled(t, cfg)
		names, _ := filepath.Glob(filepath.Join(dir, dirLog, "*.seg"))
		last := names[len(names)-1]
		good, err := os.ReadFile(last)
		if err != nil {
			t.Fatal(err)
		}
		good = bytes.TrimRight(good, "\x00") // the room for what would have come next
		name := filepath.Join(dirLog, filepath.Base(last))
		for i := 0; i < len(good); i += 1 + len(good)/80 {
			bad := bytes.Clone(good)
			bad[i] ^= 0x40
			for what, b := range map[string][]byte{"flipped": bad, "cut": good[:i]} {
				if err := openOrRefuse(t, dir, name, b, cfg, dump); !errors.Is(err, ErrCorrupt) {
					t.Errorf("the log, %s at byte %d of %d: %v", what, i, len(good), err)
				}
			}
		}
	}
}

// TestSomethingElseInTheirPlace puts a folder where each file belongs, and a file where the log does.
func TestSomethingElseInTheirPlace(t *testing.T) {
	cfg := Config{KeyProvider: goldenKey(t, 1)}
	dir, dump := filled(t, cfg)
	for _, name := range []string{fileLock, fileFormat, fileKeys, fileState, fileStable, fileSnap, fileInit, dirLog,
		fileFormat + ".tmp", fileStable + ".tmp", fileSnap + ".tmp", fileKeys + ".tmp", fileState + ".new", filepath.Join(dirLog, "00000000000000000001.seg")} {
		t.Run(name, func(t *testing.T) {
			cfg := cfg
			cfg.Dir = filepath.Join(t.TempDir(), "copy")
			if err := os.CopyFS(cfg.Dir, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			path, aside := filepath.Join(cfg.Dir, name), filepath.Join(t.TempDir(), "aside")
			had := os.Rename(path, aside) == nil
			var err error
			if name == dirLog {
				err = os.WriteFile(path, []byte("x"), 0o600)
			} else {
				err = os.MkdirAll(filepath.Join(path, "full"), 0o700)
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := useOrRefuse(t, cfg); err == nil && had {
				t.Error("nobody noticed")
			}
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			if had {
				if err := os.Rename(aside, path); err != nil {
					t.Fatal(err)
				}
			}
			s, _ := startStore(t, cfg) // the cause is gone
			if !strings.Contains(dumpStore(t, s), dump[strings.Index(dump, "\n"):][:200]) {
				t.Error("something is lost")
			}
		})
	}
}

// TestAFileThatShrinksUnderTheStoreIsAnError: reading a mapping beyond its file's end raises SIGBUS.
func TestAFileThatShrinksUnderTheStoreIsAnError(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	s, _ := startStore(t, cfg)
	for i := range 200 {
		if _, err := s.Put(t.Context(), fmt.Sprintf("/k/%03d", i), bytes.Repeat([]byte("v"), 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.files.state.flush(s.m); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(cfg.Dir, fileState), 3*statePage); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Range(t.Context(), RangeRequest{Local: true}); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
	if err := s.Check(t.Context()); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
	if err := s.Backup(t.Context(), &bytes.Buffer{}); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrDegraded) {
		t.Fatal(err)
	}
}

// TestASyncThatFailsIsNotBelieved fails the sync of each kind of file, after its bytes were written.
func TestASyncThatFailsIsNotBelieved(t *testing.T) {
	for _, op := range []string{"log sync", "stable sync", "flush", "snapshot"} {
		t.Run(op, func(t *testing.T) {
			var broken atomic.Bool
			cfg := Config{Dir: t.TempDir(), fault: func(o string) error {
				if o == op && broken.Load() {
					return &os.PathError{Op: "fdatasync", Path: "x", Err: syscall.EIO}
				}
				return nil
			}}
			s, stop := startStore(t, cfg)
			acked := 0
			for range 20 {
				if _, err := s.Put(t.Context(), "k", fmt.Append(nil, acked+1)); err != nil {
					t.Fatal(err)
				}
				acked++
			}
			broken.Store(true)
			switch op {
			case "stable sync": // raft's vote, at the next start
				stop()
				early, err := Open(cfg)
				if err != nil {
					t.Fatal(err)
				}
				s = early
				done := make(chan error, 1)
				go func() { done <- s.Run(context.Background()) }()
				stop = func() { _ = s.Close(); <-done }
			case "snapshot":
				_ = s.raft.Snapshot().Error()
			default:
				for s.Err() == nil {
					if _, err := s.Put(t.Context(), "k", fmt.Append(nil, acked+1)); err == nil {
						acked++
					}
				}
			}
			if op != "snapshot" { // which only keeps the log from being cut
				<-s.Degraded()
				if err := s.Err(); !errors.Is(err, ErrDegraded) || !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "the disk fails") {
					t.Fatal(err)
				}
			}
			broken.Store(false)
			stop()
			s, _ = startStore(t, cfg)
			kv, _, err := s.Get(t.Context(), "k")
			if got := string(kv.Value); err != nil || got != fmt.Sprint(acked) && got != fmt.Sprint(acked+1) {
				t.Fatalf("%s, %d were acknowledged: %v", got, acked, err)
			}
			if err := s.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestAClockThatJumpsByYearsHarmsNobody(t *testing.T) {
	clock := &setClock{}
	set := func(year int) { clock.set(time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)) }
	set(2026)
	cfg := Config{Dir: t.TempDir(), Clock: clock, Backups: BackupSchedule{Dir: t.TempDir()}}
	s, _ := startStore(t, cfg)
	for i, year := range []int{2027, 2001, 1971, 2200, 2026, 2026} {
		id, err := s.Grant(t.Context(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Txn(t.Context(), Txn{Then: []Op{{Type: OpPut, Key: "/leased", Lease: id}, {Type: OpPut, Key: "/kept", Value: fmt.Append(nil, i)}}}); err != nil {
			t.Fatal(err)
		}
		set(year)
		signal(s.kick)
		if year < 2027 { // back in time: the lease lives on
			if err := s.KeepAlive(t.Context(), id); err != nil && !errors.Is(err, ErrLeaseNotFound) {
				t.Fatal(err)
			}
		}
		if kv, ok, err := s.Get(t.Context(), "/kept"); err != nil || !ok || string(kv.Value) != fmt.Sprint(i) {
			t.Fatal(kv, ok, err)
		}
	}
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.Err() != nil {
		t.Fatal(s.Err())
	}
}

func TestTheAgeOfThePastSurvivesAClockThatIsSetBack(t *testing.T) {
	h := history{retain: 1000, age: time.Hour}
	now := time.Date(2056, 1, 1, 0, 0, 0, 0, time.UTC)
	h.target(now, 10, 0)
	if got := h.target(now.Add(time.Hour), 20, 0); got != 10 {
		t.Fatal(got)
	}
	now = now.AddDate(-30, 0, 0)
	h.target(now, 30, 10)
	if got := h.target(now.Add(time.Hour), 40, 10); got != 30 {
		t.Fatalf("after the clock was set back, compaction by age goes to %d", got)
	}
}

// TestNoFlushFollowsOneThatFailed: the next one would say that the file has entries which it lacks.
func TestNoFlushFollowsOneThatFailed(t *testing.T) {
	var fail atomic.Bool
	cfg := Config{Dir: t.TempDir(), fault: func(op string) error {
		if op == "flush" && fail.Swap(false) {
			return syscall.ENOSPC
		}
		return nil
	}}
	s, stop := startStore(t, cfg)
	if err := s.files.state.flush(s.m); err != nil {
		t.Fatal(err)
	}
	fail.Store(true)
	for i := range 10 {
		if _, err := s.Put(t.Context(), fmt.Sprint(i), []byte("v")); err != nil && i == 0 {
			t.Fatal(err)
		}
	}
	<-s.Degraded()
	if err := s.files.state.flush(s.m); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal("a flush went on where another had failed:", err)
	}
	stop()
	s, _ = startStore(t, cfg)
	if _, ok, err := s.Get(t.Context(), "0"); err != nil || !ok {
		t.Fatal("lost:", err)
	}
}

func TestEachErrorOfTheDiskSaysWhatToDo(t *testing.T) {
	for err, says := range map[error]string{
		syscall.ENOSPC: "the disk is full: make room, then open the store again",
		syscall.EDQUOT: "the disk is full",
		syscall.EROFS:  "mount it for writing",
		syscall.EACCES: "change its owner or mode",
		syscall.EPERM:  "change its owner or mode",
		syscall.EIO:    "the disk fails",
		syscall.EMFILE: "too many files open",
		syscall.EISDIR: "stands where a file of the store belongs",
		ErrLocked:      "end that one",
	} {
		got := advised(fmt.Errorf("write log: %w", &os.PathError{Op: "write", Path: "x", Err: err}))
		if !errors.Is(got, err) || !strings.Contains(got.Error(), says) {
			t.Error(got)
		}
	}
}
