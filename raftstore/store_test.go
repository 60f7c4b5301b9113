package raftstore_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pintle/pintle/raftstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run opens a store and runs it until the test ends, or until stop is called.
func run(t testing.TB, cfg raftstore.Config) (s *raftstore.Store, stop func()) {
	t.Helper()
	s, err := raftstore.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(context.Background()) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := <-done; err != nil && s.Err() == nil {
			t.Errorf("run: %v", err)
		}
	}
	t.Cleanup(stop)
	select {
	case <-s.Ready():
	case err := <-done:
		t.Fatalf("run ended before the store was ready: %v", err)
	case <-time.After(30 * time.Second):
		t.Fatal("not ready")
	}
	return s, stop
}

func put(t testing.TB, s *raftstore.Store, key, value string) int64 {
	t.Helper()
	rev, err := s.Put(t.Context(), key, []byte(value))
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

// kinds runs a test in memory and on disk.
func kinds(t *testing.T, f func(t *testing.T, cfg raftstore.Config)) {
	t.Run("memory", func(t *testing.T) { f(t, raftstore.Config{}) })
	t.Run("disk", func(t *testing.T) { f(t, raftstore.Config{Dir: t.TempDir()}) })
}

func TestWritesAreReadBack(t *testing.T) {
	kinds(t, func(t *testing.T, cfg raftstore.Config) {
		s, _ := run(t, cfg)
		for i := range 5 {
			if rev := put(t, s, fmt.Sprintf("/a/%d", i), fmt.Sprint(i)); rev != int64(i+1) {
				t.Fatalf("revision %d, want %d", rev, i+1)
			}
		}
		r, err := s.Range(t.Context(), raftstore.RangeRequest{Prefix: "/a/", Limit: 2})
		if err != nil {
			t.Fatal(err)
		}
		if len(r.KVs) != 2 || !r.More || r.Count != 5 || r.Revision != 5 || string(r.KVs[1].Value) != "1" {
			t.Fatalf("%+v", r)
		}
		if ok, err := s.Delete(t.Context(), "/a/1"); err != nil || !ok {
			t.Fatal(ok, err)
		}
		if _, ok, err := s.Get(t.Context(), "/a/1"); ok || err != nil {
			t.Fatal(ok, err)
		}
		r, err = s.Range(t.Context(), raftstore.RangeRequest{Key: "/a/1", Revision: 5})
		if err != nil || len(r.KVs) != 1 {
			t.Fatal(r, err)
		}
	})
}

func TestStateSurvivesARestart(t *testing.T) {
	cfg := raftstore.Config{Dir: t.TempDir()}
	s, stop := run(t, cfg)
	for i := range 100 {
		put(t, s, fmt.Sprintf("k%03d", i%10), fmt.Sprint(i))
	}
	stop()
	s, stop = run(t, cfg)
	if s.Revision() != 100 {
		t.Fatalf("revision %d", s.Revision())
	}
	kv, ok, err := s.Get(t.Context(), "k009")
	if err != nil || !ok || string(kv.Value) != "99" || kv.Version != 10 || kv.CreateRevision != 10 {
		t.Fatalf("%+v %v %v", kv, ok, err)
	}
	if rev := put(t, s, "x", ""); rev != 101 {
		t.Fatal(rev)
	}
	stop()
	if _, err := s.Put(t.Context(), "x", nil); !errors.Is(err, raftstore.ErrClosed) {
		t.Fatal(err)
	}
}
