package raftstore_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/pintle/pintle/raftstore"
)

// TestCrashChild is no test: it is the process that TestAcknowledgedWritesSurviveKill kills.
func TestCrashChild(t *testing.T) {
	dir := os.Getenv("RAFTSTORE_CRASH_DIR")
	if dir == "" {
		t.Skip("for TestAcknowledgedWritesSurviveKill")
	}
	s, err := raftstore.Open(raftstore.Config{Dir: dir})
	if err != nil {
		fmt.Println("error", err)
		return
	}
	go func() { _ = s.Run(context.Background()) }()
	<-s.Ready()
	var out sync.Mutex
	for c := range 8 {
		go func() {
			key := fmt.Sprintf("/c/%d", c)
			kv, _, err := s.Get(context.Background(), key)
			n, _ := strconv.Atoi(string(kv.Value))
			for err == nil {
				n++
				if _, err = s.Put(context.Background(), key, []byte(strconv.Itoa(n))); err == nil {
					out.Lock()
					fmt.Println("ack", key, n)
					out.Unlock()
				}
			}
		}()
	}
	select {}
}

// A kill takes nothing that was written, synced or not: this proves that what is acknowledged was
// written, and that recovery works. internal/e2e/powerloss proves the syncs.
func TestAcknowledgedWritesSurviveKill(t *testing.T) {
	dir := t.TempDir()
	acked := map[string]int{}
	for cycle := range 8 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestCrashChild$", "-test.v")
		cmd.Env = append(os.Environ(), "RAFTSTORE_CRASH_DIR="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		scan := bufio.NewScanner(out)
		for n := 0; scan.Scan(); {
			f := strings.Fields(scan.Text())
			if len(f) == 0 || f[0] != "ack" {
				continue
			}
			acked[f[1]], _ = strconv.Atoi(f[2])
			if n++; n == 100+77*cycle {
				_ = cmd.Process.Kill() // and read on: what was printed was promised
			}
		}
		_ = cmd.Wait()
		s, stop := run(t, raftstore.Config{Dir: dir})
		for key, n := range acked {
			kv, _, err := s.Get(t.Context(), key)
			got, _ := strconv.Atoi(string(kv.Value))
			if err != nil || got < n || got > n+1 {
				t.Fatalf("cycle %d: %s is %d, %d was acknowledged (%v)", cycle, key, got, n, err)
			}
		}
		if err := s.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		stop()
	}
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func TestATornLogTailIsCutAndDamageIsReported(t *testing.T) {
	src := filepath.Join(t.TempDir(), "src")
	s, stop := run(t, raftstore.Config{Dir: src})
	for i := range 20 {
		put(t, s, fmt.Sprint("k", i), strings.Repeat("v", 100))
	}
	// As after a loss of power: without the flush that an orderly stop makes.
	crashed := filepath.Join(t.TempDir(), "crashed")
	copyDir(t, src, crashed)
	stop()
	segs, _ := filepath.Glob(filepath.Join(crashed, "log", "*.seg"))
	seg, err := os.ReadFile(segs[len(segs)-1])
	if err != nil {
		t.Fatal(err)
	}
	seg = bytes.TrimRight(seg, "\x00") // the room for what would have come next
	for cut := 1; cut < 200; cut += 13 {
		dir := filepath.Join(t.TempDir(), "cut")
		copyDir(t, crashed, dir)
		path := filepath.Join(dir, "log", filepath.Base(segs[len(segs)-1]))
		if err := os.WriteFile(path, seg[:len(seg)-cut], 0o600); err != nil {
			t.Fatal(err)
		}
		s, stop := run(t, raftstore.Config{Dir: dir})
		if s.Revision() < 18 {
			t.Fatalf("%d bytes cut: revision %d", cut, s.Revision())
		}
		put(t, s, "after", "")
		if err := s.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		stop()
	}
	dir := filepath.Join(t.TempDir(), "damaged")
	copyDir(t, crashed, dir)
	bad := append([]byte(nil), seg...)
	bad[len(bad)/2] ^= 0xff
	if err := os.WriteFile(filepath.Join(dir, "log", filepath.Base(segs[len(segs)-1])), bad, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := raftstore.Open(raftstore.Config{Dir: dir}); !errors.Is(err, raftstore.ErrCorrupt) {
		t.Fatalf("damage in the middle of the log: %v", err)
	}
}

func TestAFolderIsOpenedOnce(t *testing.T) {
	dir := t.TempDir()
	_, stop := run(t, raftstore.Config{Dir: dir})
	if _, err := raftstore.Open(raftstore.Config{Dir: dir}); !errors.Is(err, raftstore.ErrLocked) {
		t.Fatal(err)
	}
	stop()
	run(t, raftstore.Config{Dir: dir})
}

func TestAnInterruptedFirstStartBeginsAnew(t *testing.T) {
	dir := t.TempDir()
	for name, b := range map[string]string{"INITIALIZING": "", "state.db": "half", "stable": "x"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, _ := run(t, raftstore.Config{Dir: dir})
	put(t, s, "a", "b")
}
