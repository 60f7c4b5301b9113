package raftstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/pintle/pintle/raftstore"
)

// model is the store as a list of all the states it was ever in.
type model struct {
	states    []map[string]raftstore.KV // by revision
	events    []raftstore.Event
	compacted int64
}

func newModel() *model { return &model{states: []map[string]raftstore.KV{{}}} }

func (m *model) rev() int64 { return int64(len(m.states) - 1) }

func (m *model) change(f func(next map[string]raftstore.KV, rev int64)) {
	next := maps.Clone(m.states[m.rev()])
	f(next, m.rev()+1)
	m.states = append(m.states, next)
}

func (m *model) put(next map[string]raftstore.KV, rev int64, key string, value []byte) {
	old, had := next[key]
	kv := raftstore.KV{Key: key, Value: value, CreateRevision: rev, ModRevision: rev, Version: 1}
	e := raftstore.Event{Type: raftstore.Put, KV: kv}
	if had {
		e.KV.CreateRevision, e.KV.Version, e.Prev = old.CreateRevision, old.Version+1, &old
	}
	next[key] = e.KV
	m.events = append(m.events, e)
}

func (m *model) delete(next map[string]raftstore.KV, rev int64, key string) {
	old := next[key]
	delete(next, key)
	m.events = append(m.events, raftstore.Event{Type: raftstore.Delete,
		KV: raftstore.KV{Key: key, ModRevision: rev}, Prev: &old})
}

func sameKV(a, b raftstore.KV) bool {
	return a.Key == b.Key && a.CreateRevision == b.CreateRevision && a.ModRevision == b.ModRevision &&
		a.Version == b.Version && bytes.Equal(a.Value, b.Value)
}

func (m *model) compare(t *testing.T, s *raftstore.Store, prefix string, rev int64) {
	t.Helper()
	r, err := s.Range(t.Context(), raftstore.RangeRequest{Prefix: prefix, Revision: rev})
	if rev < m.compacted && rev != 0 {
		if !errors.Is(err, raftstore.ErrCompacted) {
			t.Fatalf("range at %d, compacted to %d: %v", rev, m.compacted, err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if rev == 0 {
		rev = m.rev()
	}
	var want []string
	for k := range m.states[rev] {
		if strings.HasPrefix(k, prefix) {
			want = append(want, k)
		}
	}
	slices.Sort(want)
	if len(want) != len(r.KVs) || r.Count != int64(len(want)) {
		t.Fatalf("at %d: %d keys with %q, want %d", rev, len(r.KVs), prefix, len(want))
	}
	for i, k := range want {
		if !sameKV(r.KVs[i], m.states[rev][k]) {
			t.Fatalf("at %d: %+v, want %+v", rev, r.KVs[i], m.states[rev][k])
		}
	}
}

func (m *model) compareWatch(t *testing.T, s *raftstore.Store, from int64, prefix string) {
	t.Helper()
	w, err := s.Watch(t.Context(), raftstore.WatchRequest{Prefix: prefix, From: from, Progress: true})
	if from <= m.compacted {
		if !errors.Is(err, raftstore.ErrCompacted) {
			t.Fatalf("watch from %d, compacted to %d: %v", from, m.compacted, err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var got []raftstore.Event
	for rev := from - 1; rev < m.rev(); {
		b, err := w.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, b.Events...)
		rev = b.Revision
	}
	var want []raftstore.Event
	for _, e := range m.events {
		if e.KV.ModRevision >= from && strings.HasPrefix(e.KV.Key, prefix) {
			want = append(want, e)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("watch from %d: %d events, want %d", from, len(got), len(want))
	}
	for i := range want {
		g, x := got[i], want[i]
		if g.Type != x.Type || !sameKV(g.KV, x.KV) || (g.Prev == nil) != (x.Prev == nil) || g.Prev != nil && !sameKV(*g.Prev, *x.Prev) {
			t.Fatalf("event %d: %+v, want %+v", i, g, x)
		}
	}
}

func TestTheStoreAgreesWithTheModelThroughRestarts(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 7))
			cfg := raftstore.Config{Dir: t.TempDir(), NoAutoCompact: true}
			s, stop := run(t, cfg)
			m := newModel()
			key := func() string { return fmt.Sprintf("/%c/%02d", 'a'+r.IntN(4), r.IntN(12)) }
			for step := range 600 {
				switch n := r.IntN(100); {
				case n < 45:
					k, v := key(), []byte(fmt.Sprint(step, strings.Repeat("x", r.IntN(300))))
					m.change(func(next map[string]raftstore.KV, rev int64) { m.put(next, rev, k, v) })
					if rev := put(t, s, k, string(v)); rev != m.rev() {
						t.Fatalf("revision %d, want %d", rev, m.rev())
					}
				case n < 60:
					k := key()
					_, had := m.states[m.rev()][k]
					if had {
						m.change(func(next map[string]raftstore.KV, rev int64) { m.delete(next, rev, k) })
					}
					if ok, err := s.Delete(t.Context(), k); err != nil || ok != had {
						t.Fatal(ok, err, had)
					}
				case n < 70: // several writes at one revision
					prefix := fmt.Sprintf("/%c/", 'a'+r.IntN(2))
					k := fmt.Sprintf("/%c/%02d", 'c'+r.IntN(2), r.IntN(12))
					m.change(func(next map[string]raftstore.KV, rev int64) {
						for _, x := range slices.Sorted(maps.Keys(next)) {
							if strings.HasPrefix(x, prefix) {
								m.delete(next, rev, x)
							}
						}
						m.put(next, rev, k, []byte("txn"))
					})
					res, err := s.Txn(t.Context(), raftstore.Txn{Then: []raftstore.Op{
						{Type: raftstore.OpDeletePrefix, Key: prefix}, {Type: raftstore.OpPut, Key: k, Value: []byte("txn")}}})
					if err != nil || res.Revision != m.rev() {
						t.Fatal(res, err)
					}
				case n < 74 && m.rev() > m.compacted:
					rev := m.compacted + 1 + r.Int64N(m.rev()-m.compacted)
					if err := s.Compact(t.Context(), rev); err != nil {
						t.Fatal(err)
					}
					m.compacted = rev
				case n < 76:
					stop()
					s, stop = run(t, cfg)
				case n < 90:
					m.compare(t, s, []string{"", "/a/", "/b", "/d/1"}[r.IntN(4)], r.Int64N(m.rev()+1))
				default:
					m.compareWatch(t, s, 1+r.Int64N(m.rev()+1), []string{"", "/a/", "/c/0"}[r.IntN(3)])
				}
			}
			m.compare(t, s, "", 0)
			if err := s.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
}
