package raftstoretest

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/pintle/pintle/raftstore"
)

var txns = []property{
	{name: "every compare holds exactly when its relation does", run: comparesHold},
	{name: "all compares must hold, else Else runs", run: elseRuns},
	{name: "operations see the ones before them", run: seesItsOwnWrites},
	{name: "results stand at the place of their operation", run: resultsInPlace},
	{name: "all writes share one revision", run: oneRevision},
	{name: "what makes no sense is refused and nothing is written", run: refused},
	{name: "a Txn that fails writes nothing", run: failsWhole},
	{name: "keys and values are any bytes", run: anyBytes},
}

func comparesHold(c *caller) {
	c.put("other", "")
	c.put("k", "m")
	c.put("k", "m") // created at 2, changed at 3, version 2
	stored := map[string]map[raftstore.CompareTarget]int64{
		"k":    {raftstore.ModRevision: 3, raftstore.CreateRevision: 2, raftstore.Version: 2},
		"none": {raftstore.ModRevision: 0, raftstore.CreateRevision: 0, raftstore.Version: 0},
	}
	check := func(cmp raftstore.Compare, order int) {
		c.Helper()
		for rel, want := range map[raftstore.Relation]bool{raftstore.Equal: order == 0, raftstore.NotEqual: order != 0,
			raftstore.Less: order < 0, raftstore.Greater: order > 0} {
			cmp.Relation = rel
			if r := c.txn(raftstore.Txn{If: []raftstore.Compare{cmp}}); r.Succeeded != want || r.Revision != 3 {
				c.Errorf("%+v: %v at revision %d, want %v at 3", cmp, r.Succeeded, r.Revision, want)
			}
		}
	}
	for key, targets := range stored {
		for target, n := range targets {
			for given := int64(-1); given < 5; given++ {
				check(raftstore.Compare{Key: key, Target: target, Int: given}, cmp.Compare(n, given))
			}
		}
	}
	for _, given := range []string{"", "l", "m", "m\x00", "n", "\xff"} {
		check(raftstore.Compare{Key: "k", Target: raftstore.Value, Value: []byte(given)}, strings.Compare("m", given))
		check(raftstore.Compare{Key: "none", Target: raftstore.Value, Value: []byte(given)}, strings.Compare("", given))
	}
	// A deleted key is one that does not exist.
	c.do(del("k"))
	r := c.txn(raftstore.Txn{If: []raftstore.Compare{{Key: "k"}, {Key: "k", Target: raftstore.Version}, {Key: "k", Target: raftstore.CreateRevision}}})
	if !r.Succeeded {
		c.Error("a deleted key has numbers")
	}
}

func elseRuns(c *caller) {
	c.put("a", "1")
	yes := raftstore.Compare{Key: "a", Target: raftstore.Version, Int: 1}
	no := raftstore.Compare{Key: "a", Target: raftstore.Version, Int: 7}
	for _, test := range []struct {
		compares []raftstore.Compare
		want     bool
	}{{nil, true}, {[]raftstore.Compare{yes, yes}, true}, {[]raftstore.Compare{yes, no}, false}, {[]raftstore.Compare{no, yes}, false}} {
		r := c.txn(raftstore.Txn{If: test.compares, Then: []raftstore.Op{put("then", "")}, Else: []raftstore.Op{put("else", "")}})
		key := map[bool]string{true: "then", false: "else"}[test.want]
		if kv, _ := c.get(key); r.Succeeded != test.want || kv.ModRevision != r.Revision {
			c.Errorf("%v: %+v", test.compares, r)
		}
	}
}

func seesItsOwnWrites(c *caller) {
	c.put("a", "old")
	r := c.do(get("a"), put("a", "new"), get("a"), put("p/1", "x"), put("q/1", "x"), get("p/1"), delAll("p/none"), del("b"), get("b"))
	for i, want := range map[int]string{0: "old", 2: "new", 5: "x"} {
		if kvs := r.Results[i].KVs; len(kvs) != 1 || string(kvs[0].Value) != want {
			c.Errorf("operation %d read %v, want %q", i, kvs, want)
		}
	}
	// A prefix deletion takes what the same Txn has not written, and compares look at what was before.
	r = c.txn(raftstore.Txn{If: []raftstore.Compare{{Key: "a", Target: raftstore.Value, Value: []byte("new")}},
		Then: []raftstore.Op{del("a"), get("a"), delAll("p/"), get("p/1")}})
	if !r.Succeeded || len(r.Results[1].KVs) != 0 || r.Results[2].Deleted != 1 || len(r.Results[3].KVs) != 0 {
		c.Errorf("%+v", r)
	}
}

func resultsInPlace(c *caller) {
	c.do(put("a/1", "x"), put("a/2", "y"), put("b", "z"))
	r := c.do(del("b"), delAll("a/"), put("c", ""), del("none"), delAll("nothing"), get("none"))
	if len(r.Results) != 6 {
		c.Fatalf("%d results", len(r.Results))
	}
	for i, want := range []string{"b=z", "a/1=x a/2=y", "", "", "", ""} {
		var got []string
		for _, kv := range r.Results[i].KVs {
			got = append(got, kv.Key+"="+string(kv.Value))
			if kv.ModRevision != 1 {
				c.Errorf("what was deleted was not at revision 1: %+v", kv)
			}
		}
		if g := strings.Join(got, " "); g != want {
			c.Errorf("operation %d: %q, want %q", i, g, want)
		}
		if d := r.Results[i].Deleted; int(d) != len(got) {
			c.Errorf("operation %d deleted %d", i, d)
		}
	}
}

func oneRevision(c *caller) {
	c.put("old", "")
	r := c.do(put("a", ""), put("b", ""), del("old"))
	if r.Revision != 2 || c.s.Revision() != 2 {
		c.Fatalf("revision %d, store at %d, want 2", r.Revision, c.s.Revision())
	}
	for _, key := range []string{"a", "b"} {
		if kv, ok := c.get(key); !ok || kv.ModRevision != 2 {
			c.Errorf("%+v", kv)
		}
	}
	if _, ok := c.get("old"); ok {
		c.Error("old is there")
	}
}

func refused(c *caller) {
	op := func(typ raftstore.OpType, key string) raftstore.Op { return raftstore.Op{Type: typ, Key: key} }
	for name, t := range map[string]raftstore.Txn{
		"empty key":           {Then: []raftstore.Op{put("", "")}},
		"empty key to get":    {Then: []raftstore.Op{get("")}},
		"empty key in Else":   {Else: []raftstore.Op{del("")}},
		"put twice":           {Then: []raftstore.Op{put("a", ""), put("a", "")}},
		"put and deleted":     {Then: []raftstore.Op{put("a", ""), del("a")}},
		"put under a prefix":  {Then: []raftstore.Op{delAll("a"), put("ab", "")}},
		"prefixes overlap":    {Then: []raftstore.Op{delAll("a"), delAll("ab")}},
		"unknown operation":   {Then: []raftstore.Op{op(99, "a")}},
		"compare without key": {If: []raftstore.Compare{{}}, Then: []raftstore.Op{put("a", "")}},
		"unknown target":      {If: []raftstore.Compare{{Key: "a", Target: 99}}},
		"unknown relation":    {If: []raftstore.Compare{{Key: "a", Relation: 99}}},
		"too large":           {Then: []raftstore.Op{put("a", strings.Repeat("x", raftstore.MaxTxnBytes+1))}},
	} {
		if _, err := c.s.Txn(c.Context(), t); !errors.Is(err, raftstore.ErrInvalid) {
			c.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	// The same key in Then and in Else is written once.
	c.txn(raftstore.Txn{Then: []raftstore.Op{put("a", "")}, Else: []raftstore.Op{put("a", "")}})
	if c.s.Revision() != 1 {
		c.Errorf("revision %d after one write", c.s.Revision())
	}
}

func failsWhole(c *caller) {
	c.put("a", "1")
	_, err := c.s.Txn(c.Context(), raftstore.Txn{Then: []raftstore.Op{put("a", "2"), {Type: raftstore.OpPut, Key: "b", Lease: 99}}})
	if !errors.Is(err, raftstore.ErrLeaseNotFound) {
		c.Fatalf("%v, want ErrLeaseNotFound", err)
	}
	if kv, _ := c.get("a"); string(kv.Value) != "1" || c.s.Revision() != 1 {
		c.Errorf("%+v at %d", kv, c.s.Revision())
	}
}

func anyBytes(c *caller) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for i, key := range []string{"\x00", "\xff", "\xff\xff", string(all), "a b\n", "é", strings.Repeat("k", 4000)} {
		value := fmt.Sprint(string(all), i)
		c.put(key, value)
		if kv, ok := c.get(key); !ok || kv.Key != key || string(kv.Value) != value {
			c.Errorf("%q came back as %q: %v", key, kv.Key, ok)
		}
	}
	c.put("empty", "")
	if kv, ok := c.get("empty"); !ok || len(kv.Value) != 0 {
		c.Errorf("an empty value: %+v", kv)
	}
}
