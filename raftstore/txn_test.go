package raftstore_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pintle/pintle/raftstore"
)

func TestCompares(t *testing.T) {
	s, _ := run(t, raftstore.Config{})
	put(t, s, "other", "")
	put(t, s, "k", "a")
	put(t, s, "k", "b") // create 2, mod 3, version 2
	for _, c := range []struct {
		c    raftstore.Compare
		want string // for Equal, NotEqual, Less, Greater
	}{
		{raftstore.Compare{Key: "k", Target: raftstore.ModRevision, Int: 3}, "t f f f"},
		{raftstore.Compare{Key: "k", Target: raftstore.ModRevision, Int: 4}, "f t t f"},
		{raftstore.Compare{Key: "k", Target: raftstore.CreateRevision, Int: 1}, "f t f t"},
		{raftstore.Compare{Key: "k", Target: raftstore.Version, Int: 2}, "t f f f"},
		{raftstore.Compare{Key: "k", Target: raftstore.Value, Value: []byte("b")}, "t f f f"},
		{raftstore.Compare{Key: "k", Target: raftstore.Value, Value: []byte("c")}, "f t t f"},
		{raftstore.Compare{Key: "none", Target: raftstore.ModRevision}, "t f f f"},
		{raftstore.Compare{Key: "none", Target: raftstore.Version, Int: 1}, "f t t f"},
		{raftstore.Compare{Key: "none", Target: raftstore.Value}, "t f f f"},
	} {
		var got []string
		for rel := raftstore.Equal; rel <= raftstore.Greater; rel++ {
			c.c.Relation = rel
			r, err := s.Txn(t.Context(), raftstore.Txn{If: []raftstore.Compare{c.c}})
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprint(r.Succeeded)[:1])
			if r.Revision != 3 {
				t.Fatalf("a Txn that writes nothing took revision %d", r.Revision)
			}
		}
		if g := strings.Join(got, " "); g != c.want {
			t.Errorf("%+v: %s, want %s", c.c, g, c.want)
		}
	}
}

func TestATxnSeesItsOwnWrites(t *testing.T) {
	s, _ := run(t, raftstore.Config{})
	r, err := s.Txn(t.Context(), raftstore.Txn{Then: []raftstore.Op{
		{Type: raftstore.OpPut, Key: "a", Value: []byte("1")}, {Type: raftstore.OpGet, Key: "a"},
		{Type: raftstore.OpPut, Key: "b", Value: nil}, {Type: raftstore.OpDelete, Key: "c"}}})
	if err != nil {
		t.Fatal(err)
	}
	if kv := r.Results[1].KVs; len(kv) != 1 || string(kv[0].Value) != "1" || kv[0].ModRevision != 1 || r.Results[3].Deleted != 0 {
		t.Fatalf("%+v", r)
	}
}

func TestInvalidTxnsAreRefused(t *testing.T) {
	s, _ := run(t, raftstore.Config{})
	op := func(typ raftstore.OpType, key string) raftstore.Op { return raftstore.Op{Type: typ, Key: key} }
	for name, ops := range map[string][]raftstore.Op{
		"empty key":      {op(raftstore.OpPut, "")},
		"twice":          {op(raftstore.OpPut, "a"), op(raftstore.OpDelete, "a")},
		"under a prefix": {op(raftstore.OpDeletePrefix, "a"), op(raftstore.OpPut, "ab")},
		"unknown":        {op(99, "a")},
		"too large":      {{Type: raftstore.OpPut, Key: "a", Value: make([]byte, raftstore.MaxTxnBytes+1)}},
	} {
		if _, err := s.Txn(t.Context(), raftstore.Txn{Then: ops}); !errors.Is(err, raftstore.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	lost := raftstore.Txn{Then: []raftstore.Op{op(raftstore.OpPut, "a"), {Type: raftstore.OpPut, Key: "b", Lease: 9}}}
	if _, err := s.Txn(t.Context(), lost); !errors.Is(err, raftstore.ErrLeaseNotFound) || s.Revision() != 0 {
		t.Error(err)
	}
}

func TestAFencedWriteOfAnEarlierTermIsRefused(t *testing.T) {
	cfg := raftstore.Config{Dir: t.TempDir()}
	s, stop := run(t, cfg)
	txn := raftstore.Txn{Term: s.Term(), Then: []raftstore.Op{{Type: raftstore.OpPut, Key: "a"}}}
	if _, err := s.Txn(t.Context(), txn); err != nil {
		t.Fatal(err)
	}
	stop()
	s, _ = run(t, cfg)
	if _, err := s.Txn(t.Context(), txn); !errors.Is(err, raftstore.ErrFenced) {
		t.Fatal(err)
	}
}
