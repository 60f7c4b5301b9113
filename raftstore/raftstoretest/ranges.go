package raftstoretest

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pintle/pintle/raftstore"
)

var ranges = []property{
	{name: "keys come in bytewise order", run: bytewise},
	{name: "each way of naming keys finds exactly those", run: naming},
	{name: "limits, pages and counts agree", run: pages},
	{name: "keys only and count only leave out what they say", run: lessThanAll},
	{name: "what makes no sense is refused", run: rangeRefused},
	{name: "a read of the past does not see what came later", run: pastIsPast},
}

func keysOf(r raftstore.RangeResult) []string {
	keys := []string{}
	for _, kv := range r.KVs {
		keys = append(keys, kv.Key)
	}
	return keys
}

func bytewise(c *caller) {
	keys := []string{"b", "a", "a\x00", "\x00", "ab", "a\xff", "\xff", "B", "é"}
	for _, k := range keys {
		c.put(k, k)
	}
	slices.Sort(keys)
	if got := keysOf(c.list(raftstore.RangeRequest{})); !slices.Equal(got, keys) {
		c.Errorf("%q, want %q", got, keys)
	}
}

func naming(c *caller) {
	keys := []string{"/a", "/a/1", "/a/2", "/a/2/x", "/b", "0", "\xff", "\xff\xff", "\xff\xffz"}
	for _, k := range keys {
		c.put(k, "")
	}
	for _, test := range []struct {
		req   raftstore.RangeRequest
		holds func(k string) bool
	}{
		{raftstore.RangeRequest{}, func(string) bool { return true }},
		{raftstore.RangeRequest{Key: "/a"}, func(k string) bool { return k == "/a" }},
		{raftstore.RangeRequest{Key: "/none"}, func(string) bool { return false }},
		{raftstore.RangeRequest{Key: "/a", End: "/b"}, func(k string) bool { return k >= "/a" && k < "/b" }},
		{raftstore.RangeRequest{Key: "/b", End: "/a"}, func(string) bool { return false }},
		{raftstore.RangeRequest{End: "/a/2"}, func(k string) bool { return k < "/a/2" }},
		{raftstore.RangeRequest{Prefix: "/a/"}, func(k string) bool { return strings.HasPrefix(k, "/a/") }},
		{raftstore.RangeRequest{Prefix: "/a/", Key: "/a/1\x00"}, func(k string) bool { return strings.HasPrefix(k, "/a/") && k > "/a/1" }},
		{raftstore.RangeRequest{Prefix: "\xff\xff"}, func(k string) bool { return strings.HasPrefix(k, "\xff\xff") }},
	} {
		want := []string{}
		for _, k := range keys {
			if test.holds(k) {
				want = append(want, k)
			}
		}
		r := c.list(test.req)
		if got := keysOf(r); !slices.Equal(got, want) || r.Count != int64(len(want)) || r.More {
			c.Errorf("%+v: %q (count %d), want %q", test.req, got, r.Count, want)
		}
	}
}

func pages(c *caller) {
	const n = 23
	for i := range n {
		c.put(fmt.Sprintf("p/%02d", i), "")
	}
	at := c.s.Revision()
	for limit := 1; limit <= n+1; limit++ {
		var all []string
		req := raftstore.RangeRequest{Prefix: "p/", Limit: limit, Revision: at}
		for {
			r := c.list(req)
			left := n - len(all)
			if len(r.KVs) != min(limit, left) || r.Count != int64(left) || r.More != (left > limit) || r.Revision != at {
				c.Fatalf("limit %d with %d left: %d keys, count %d, more %v at %d", limit, left, len(r.KVs), r.Count, r.More, r.Revision)
			}
			all = append(all, keysOf(r)...)
			if !r.More {
				break
			}
			req.Key = all[len(all)-1] + "\x00"
			c.put(fmt.Sprintf("p/%02d/later", len(all)), "") // the pages are of one revision
		}
		if len(all) != n || !slices.IsSorted(all) {
			c.Fatalf("limit %d: %q", limit, all)
		}
	}
}

func lessThanAll(c *caller) {
	c.put("a", "x")
	c.put("b", "y")
	r := c.list(raftstore.RangeRequest{KeysOnly: true})
	if len(r.KVs) != 2 || r.KVs[0].Value != nil || r.KVs[1].ModRevision != 2 || r.KVs[1].Version != 1 {
		c.Errorf("keys only: %+v", r)
	}
	r = c.list(raftstore.RangeRequest{CountOnly: true, Limit: 1})
	if r.KVs != nil || r.Count != 2 || r.Revision != 2 {
		c.Errorf("count only: %+v", r)
	}
}

func rangeRefused(c *caller) {
	c.put("a", "")
	for _, req := range []raftstore.RangeRequest{{Limit: -1}, {Revision: -1}, {Prefix: "a", End: "b"}, {Prefix: "a", Key: "b"}} {
		if _, err := c.s.Range(c.Context(), req); !errors.Is(err, raftstore.ErrInvalid) {
			c.Errorf("%+v: %v, want ErrInvalid", req, err)
		}
	}
	if _, err := c.s.Range(c.Context(), raftstore.RangeRequest{Revision: 2}); !errors.Is(err, raftstore.ErrFutureRevision) {
		c.Errorf("%v, want ErrFutureRevision", err)
	}
}

func pastIsPast(c *caller) {
	c.put("a", "1")
	c.do(put("a", "2"), put("b", "1"))
	c.do(del("a"))
	c.put("a", "3")
	for rev, want := range map[int64]string{1: "a=1/1/1/1", 2: "a=2/1/2/2 b=1/2/2/1", 3: "b=1/2/2/1", 4: "a=3/4/4/1 b=1/2/2/1"} {
		for _, local := range []bool{false, true} {
			var got []string
			r := c.list(raftstore.RangeRequest{Revision: rev, Local: local})
			for _, kv := range r.KVs {
				got = append(got, fmt.Sprintf("%s=%s/%d/%d/%d", kv.Key, kv.Value, kv.CreateRevision, kv.ModRevision, kv.Version))
			}
			if g := strings.Join(got, " "); g != want || r.Revision != rev {
				c.Errorf("at %d: %s, want %s", rev, g, want)
			}
		}
	}
}
