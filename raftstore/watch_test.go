package raftstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/pintle/pintle/raftstore"
	"github.com/pintle/pintle/raftstore/raftstoretest"
)

func TestWatchersSeeEveryChangeOnceAndInOrder(t *testing.T) {
	kinds(t, func(t *testing.T, cfg raftstore.Config) {
		s, _ := run(t, cfg)
		const writers, each, watchers = 8, 100, 4
		var wg sync.WaitGroup
		for i := range watchers {
			w, err := s.Watch(t.Context(), raftstore.WatchRequest{Prefix: "/w/", From: 1})
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				defer w.Close()
				next := int64(1)
				for next <= writers*each {
					b, err := w.Next(t.Context())
					if err != nil {
						t.Errorf("watcher %d: %v", i, err)
						return
					}
					for _, e := range b.Events {
						if e.KV.ModRevision != next {
							t.Errorf("watcher %d: revision %d, want %d", i, e.KV.ModRevision, next)
							return
						}
						next++
					}
				}
			})
		}
		for c := range writers {
			wg.Go(func() {
				for range each {
					if _, err := s.Put(t.Context(), fmt.Sprintf("/w/%d", c), nil); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
	})
}

func TestASlowWatcherEndsCompacted(t *testing.T) {
	s, _ := run(t, raftstore.Config{Dir: t.TempDir()})
	put(t, s, "a", "1")
	w, err := s.Watch(t.Context(), raftstore.WatchRequest{From: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	rev := put(t, s, "a", "2")
	if err := s.Compact(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Next(t.Context()); !errors.Is(err, raftstore.ErrCompacted) {
		t.Fatal(err)
	}
}

func TestNextEndsWithItsContextAndWithClose(t *testing.T) {
	s, stop := run(t, raftstore.Config{})
	w, err := s.Watch(t.Context(), raftstore.WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	put(t, s, "a", "")
	if b, err := w.Next(t.Context()); err != nil || len(b.Events) != 1 {
		t.Fatal(b, err)
	}
	go w.Close()
	if _, err := w.Next(t.Context()); !errors.Is(err, raftstore.ErrClosed) {
		t.Fatal(err)
	}
	w, err = s.Watch(t.Context(), raftstore.WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	go stop()
	if _, err := w.Next(t.Context()); !errors.Is(err, raftstore.ErrClosed) {
		t.Fatal(err)
	}
}

func TestAnExpiredLeaseTakesItsKeys(t *testing.T) {
	s, _ := run(t, raftstore.Config{})
	id, err := s.Grant(t.Context(), 50*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.Watch(t.Context(), raftstore.WatchRequest{Prefix: "l"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	_, err = s.Txn(t.Context(), raftstore.Txn{Then: []raftstore.Op{{Type: raftstore.OpPut, Key: "l", Lease: id}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []raftstore.EventType{raftstore.Put, raftstore.Delete} {
		b, err := w.Next(t.Context())
		if err != nil || len(b.Events) != 1 || b.Events[0].Type != want {
			t.Fatal(b, err)
		}
	}
	if err := s.KeepAlive(t.Context(), id); !errors.Is(err, raftstore.ErrLeaseNotFound) {
		t.Fatal(err)
	}
}

func TestARestoredStoreNeverGoesBack(t *testing.T) {
	kinds(t, func(t *testing.T, cfg raftstore.Config) {
		s, stop := run(t, cfg)
		for i := range 50 {
			put(t, s, fmt.Sprintf("k%02d", i%20), fmt.Sprint(i))
		}
		var b bytes.Buffer
		if err := s.Backup(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		before, err := s.Range(t.Context(), raftstore.RangeRequest{})
		if err != nil {
			t.Fatal(err)
		}
		put(t, s, "later", "")
		after := s.Revision()
		stop()

		bad := bytes.Clone(b.Bytes())
		bad[len(bad)/2] ^= 1
		dir := t.TempDir()
		if err := raftstore.Restore(raftstore.Config{Dir: dir}, bytes.NewReader(bad)); !errors.Is(err, raftstore.ErrCorrupt) {
			t.Fatalf("a damaged backup: %v", err)
		}
		if err := raftstore.Restore(raftstore.Config{Dir: dir}, bytes.NewReader(b.Bytes()[:b.Len()-1])); !errors.Is(err, raftstore.ErrCorrupt) {
			t.Fatalf("a backup cut short: %v", err)
		}
		if err := raftstore.Restore(raftstore.Config{Dir: dir}, &b); err != nil {
			t.Fatal(err)
		}
		s, _ = run(t, raftstore.Config{Dir: dir})
		got, err := s.Range(t.Context(), raftstore.RangeRequest{})
		if err != nil || len(got.KVs) != len(before.KVs) || got.Revision <= after {
			t.Fatal(got.Revision, err)
		}
		for i := range got.KVs {
			if !raftstoretest.SameKV(got.KVs[i], before.KVs[i]) {
				t.Fatalf("%+v, want %+v", got.KVs[i], before.KVs[i])
			}
		}
		if _, err := s.Watch(t.Context(), raftstore.WatchRequest{From: after}); !errors.Is(err, raftstore.ErrCompacted) {
			t.Fatal(err)
		}
		put(t, s, "k00", "new")
		if err := s.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := raftstore.Restore(raftstore.Config{Dir: t.TempDir()}, &b); !errors.Is(err, raftstore.ErrCorrupt) {
			t.Fatalf("an empty backup: %v", err)
		}
	})
}
