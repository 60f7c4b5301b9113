package raftstoretest

import (
	"errors"
	"fmt"

	"github.com/pintle/pintle/raftstore"
)

var revisions = []property{
	{name: "a write takes the next revision, anything else takes none", run: oneEach},
	{name: "versions count from the creation", run: versionsCount},
	{name: "compaction forgets what was replaced, and nothing else", run: compactionForgets},
	{name: "compaction to where it is, or to the future, is refused", run: compactionRefused},
}

func oneEach(c *caller) {
	if c.s.Revision() != 0 {
		c.Fatalf("an empty store is at %d", c.s.Revision())
	}
	want := int64(0)
	expect := func(what string, got int64) {
		c.Helper()
		if got != want || c.s.Revision() != want {
			c.Fatalf("%s: revision %d, store at %d, want %d", what, got, c.s.Revision(), want)
		}
	}
	expect("read", c.list(raftstore.RangeRequest{}).Revision)
	want++
	expect("put", c.put("a", "1"))
	want++
	expect("the same again", c.put("a", "1"))
	expect("get", c.do(get("a")).Revision)
	expect("delete of nothing", c.do(del("none"), delAll("nothing")).Revision)
	expect("a compare that fails", c.txn(raftstore.Txn{If: []raftstore.Compare{{Key: "a"}}, Then: []raftstore.Op{put("a", "")}}).Revision)
	id, err := c.s.Grant(c.Context(), 1e12)
	if err != nil {
		c.Fatal(err)
	}
	expect("grant", want)
	if err := c.s.KeepAlive(c.Context(), id); err != nil {
		c.Fatal(err)
	}
	if err := c.s.Revoke(c.Context(), id); err != nil {
		c.Fatal(err)
	}
	expect("revoke of a lease without keys", want)
	c.compact(1)
	expect("compact", want)
	want++
	expect("delete", c.do(del("a")).Revision)
}

func versionsCount(c *caller) {
	for life := range 3 {
		created := int64(0)
		for n := int64(1); n <= 4; n++ {
			rev := c.put("a", fmt.Sprint(life, n))
			if n == 1 {
				created = rev
			}
			c.put("other", "")
			if kv, _ := c.get("a"); kv.Version != n || kv.CreateRevision != created || kv.ModRevision != rev {
				c.Fatalf("life %d, write %d at %d: %+v", life, n, rev, kv)
			}
		}
		c.do(del("a"))
	}
}

func compactionForgets(c *caller) {
	// Two keys with a past, one that is deleted, one that is made again.
	c.put("a", "1")    // 1
	c.put("b", "1")    // 2
	c.put("gone", "1") // 3
	c.put("a", "2")    // 4
	c.do(del("gone"))  // 5
	c.do(del("b"))     // 6
	c.put("b", "2")    // 7
	c.put("a", "3")    // 8
	before := map[int64]raftstore.RangeResult{}
	for rev := int64(1); rev <= 8; rev++ {
		before[rev] = c.list(raftstore.RangeRequest{Revision: rev})
	}
	for _, to := range []int64{1, 4, 5, 8} {
		c.compact(to)
		if c.s.CompactedRevision() != to {
			c.Fatalf("compacted to %d, want %d", c.s.CompactedRevision(), to)
		}
		for rev := int64(1); rev <= 8; rev++ {
			r, err := c.s.Range(c.Context(), raftstore.RangeRequest{Revision: rev})
			if rev < to {
				if !errors.Is(err, raftstore.ErrCompacted) {
					c.Errorf("compacted to %d, read at %d: %v", to, rev, err)
				}
				continue
			}
			if diff := DiffRange(r, before[rev]); err != nil || diff != "" {
				c.Errorf("compacted to %d, read at %d: %s %v", to, rev, diff, err)
			}
		}
		for from := int64(1); from <= 9; from++ {
			w, err := c.s.Watch(c.Context(), raftstore.WatchRequest{From: from})
			if from <= to != errors.Is(err, raftstore.ErrCompacted) {
				c.Errorf("compacted to %d, watch from %d: %v", to, from, err)
			}
			if err == nil {
				if want := int(8 - from + 1); want > 0 {
					c.events(w, want)
				}
				w.Close()
			}
		}
	}
}

func compactionRefused(c *caller) {
	for range 5 {
		c.put("a", "")
	}
	c.compact(3)
	for rev, want := range map[int64]error{-1: raftstore.ErrInvalid, 0: raftstore.ErrInvalid, 2: raftstore.ErrCompacted,
		3: raftstore.ErrCompacted, 6: raftstore.ErrFutureRevision} {
		if err := c.s.Compact(c.Context(), rev); !errors.Is(err, want) {
			c.Errorf("compact to %d: %v, want %v", rev, err, want)
		}
	}
	if c.s.CompactedRevision() != 3 || c.s.Revision() != 5 {
		c.Errorf("compacted %d, revision %d", c.s.CompactedRevision(), c.s.Revision())
	}
}
