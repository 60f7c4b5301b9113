package raftstore

import (
	"context"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func TestTheStateMachineHasNoClockAndNoDice(t *testing.T) {
	for _, file := range []string{"fsm.go", "index.go", "session.go", "wire.go", "types.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range f.Imports {
			path, _ := strconv.Unquote(imp.Path.Value)
			if slices.Contains([]string{"time", "math/rand", "math/rand/v2", "crypto/rand", "os", "net", "maps", "context"}, path) {
				t.Errorf("%s imports %s: replicas that apply the same entry would come to different states; "+
					"decide it before it goes into the log", file, path)
			}
		}
	}
}

func TestADiskThatFailsDegradesTheNode(t *testing.T) {
	for _, op := range []string{"log", "stable", "vote", "flush"} {
		t.Run(op, func(t *testing.T) {
			var broken atomic.Bool
			var stables atomic.Int64
			label := op
			if op == "vote" {
				label = "stable" // fails later, on a goroutine of raft's
			}
			early := label == "stable"
			full := errors.New("no space left on device")
			cfg := Config{Dir: t.TempDir(), fault: func(o string) error {
				if o != label || !broken.Load() || op == "vote" && stables.Add(1) < 3 {
					return nil
				}
				return full
			}}
			s, err := Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			if early {
				broken.Store(true) // its votes are written once, at the start
			}
			go func() { done <- s.Run(ctx) }()
			if !early {
				<-s.Ready()
				if _, err := s.Put(ctx, "a", []byte("1")); err != nil {
					t.Fatal(err)
				}
				broken.Store(true)
				_, err := s.Put(ctx, "a", []byte("2"))
				if op == "log" && !errors.Is(err, ErrDegraded) {
					t.Fatal(err)
				}
			}
			<-s.Degraded()
			if _, err := s.Put(ctx, "a", []byte("3")); !errors.Is(err, ErrDegraded) || !errors.Is(err, full) {
				t.Fatal(err)
			}
			if !early {
				r, err := s.Range(ctx, RangeRequest{Key: "a", Local: true})
				if err != nil || len(r.KVs) != 1 {
					t.Fatal(r, err)
				}
			}
			cancel()
			if err := <-done; !errors.Is(err, ErrDegraded) {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			// The disk has room again: all that was acknowledged is there.
			broken.Store(false)
			s, err = Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			go func() { done <- s.Run(t.Context()) }()
			<-s.Ready()
			if _, ok, err := s.Get(t.Context(), "a"); err != nil || ok == early {
				t.Fatal(ok, err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			<-done
		})
	}
}

func TestTheLogKeepsWhatItWasGiven(t *testing.T) {
	dir := t.TempDir()
	s, err := openLog(dir, &keyring{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	reopen := func() {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = openLog(dir, &keyring{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	defer func() { _ = s.Close() }()
	big := make([]byte, 1<<20)
	entry := func(i, term uint64) *raft.Log {
		return &raft.Log{Index: i, Term: term, Type: raft.LogCommand, Data: append([]byte(fmt.Sprint(i, term)), big...),
			Extensions: []byte("e"), AppendedAt: time.Unix(1, int64(i))}
	}
	expect := func(first, last, term uint64) {
		t.Helper()
		f, _ := s.FirstIndex()
		l, _ := s.LastIndex()
		if f != first || l != last {
			t.Fatalf("%d to %d, want %d to %d", f, l, first, last)
		}
		for i := first; i <= last && i > 0; i++ {
			var got raft.Log
			if err := s.GetLog(i, &got); err != nil {
				t.Fatal(i, err)
			}
			if want := entry(i, got.Term); string(got.Data) != string(want.Data) || !got.AppendedAt.Equal(want.AppendedAt) || string(got.Extensions) != "e" {
				t.Fatalf("entry %d differs", i)
			}
		}
		var got raft.Log
		if err := s.GetLog(last+1, &got); !errors.Is(err, raft.ErrLogNotFound) {
			t.Fatal(err)
		}
		if last > 0 {
			_ = s.GetLog(last, &got)
			if got.Term != term {
				t.Fatalf("term %d, want %d", got.Term, term)
			}
		}
	}
	for i := uint64(5); i < 35; i += 3 {
		if err := s.StoreLogs([]*raft.Log{entry(i, 1), entry(i+1, 1), entry(i+2, 1)}); err != nil {
			t.Fatal(err)
		}
	}
	expect(5, 34, 1)
	reopen()
	expect(5, 34, 1)
	if err := s.DeleteRange(20, 34); err != nil {
		t.Fatal(err)
	}
	if err := s.StoreLog(entry(20, 2)); err != nil {
		t.Fatal(err)
	}
	expect(5, 20, 2)
	reopen()
	expect(5, 20, 2)
	if err := s.DeleteRange(5, 17); err != nil {
		t.Fatal(err)
	}
	expect(18, 20, 2)
	if err := s.DeleteRange(18, 20); err != nil {
		t.Fatal(err)
	}
	expect(0, 0, 0)
	reopen()
	if err := s.StoreLog(entry(100, 3)); err != nil {
		t.Fatal(err)
	}
	expect(100, 100, 3)
}

func TestASnapshotCutsTheLogAndNothingIsLost(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	for round := range 3 {
		s, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- s.Run(t.Context()) }()
		<-s.Ready()
		if got := s.Revision(); got != int64(round*200) {
			t.Fatalf("revision %d in round %d", got, round)
		}
		for i := range 200 {
			if _, err := s.Put(t.Context(), fmt.Sprint(i), nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.raft.Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
		first, _ := s.files.log.FirstIndex()
		if first < uint64(round*200+100) {
			t.Fatalf("the log begins at %d", first)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

func TestThePastIsForgottenByNumberAndByAge(t *testing.T) {
	now := time.Unix(0, 0)
	h := history{retain: 100, age: time.Hour}
	if got := h.target(now, 120, 0); got != 0 {
		t.Fatal(got)
	}
	if got := h.target(now, 130, 0); got != 30 {
		t.Fatal(got)
	}
	if got := h.target(now.Add(time.Hour), 135, 30); got != 120 {
		t.Fatal(got)
	}
	if got := h.target(now.Add(3*time.Hour), 135, 120); got != 135 {
		t.Fatal(got)
	}
	if got := h.target(now.Add(6*time.Hour), 135, 135); got != 0 {
		t.Fatal("an idle store compacts", got)
	}
}
