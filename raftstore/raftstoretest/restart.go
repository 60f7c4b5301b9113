package raftstoretest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pintle/pintle/raftstore"
)

var restarts = []property{
	{name: "state, history, leases and compaction survive", run: survives},
}

func survives(c *caller) {
	r, ok := c.s.(Restarter)
	if !ok {
		c.Log("this store does not restart: nothing to test")
		return
	}
	id := c.grant(time.Hour)
	for i := range 40 {
		c.put(fmt.Sprintf("k%d", i%7), fmt.Sprint(i))
	}
	c.do(leased("leased", id), del("k3"))
	c.compact(20)
	before := map[int64]raftstore.RangeResult{}
	for rev := int64(20); rev <= 41; rev++ {
		before[rev] = c.list(raftstore.RangeRequest{Revision: rev})
	}
	w := c.watch(raftstore.WatchRequest{From: 21})
	events := c.events(w, 22)
	for range 2 {
		r.Restart(c)
		if _, err := w.Next(c.Context()); !errors.Is(err, raftstore.ErrClosed) {
			c.Errorf("a watch from before: %v, want ErrClosed", err)
		}
		if c.s.Revision() != 41 || c.s.CompactedRevision() != 20 {
			c.Fatalf("revision %d, compacted %d", c.s.Revision(), c.s.CompactedRevision())
		}
		for rev, want := range before {
			if diff := DiffRange(c.list(raftstore.RangeRequest{Revision: rev}), want); diff != "" {
				c.Errorf("at %d: %s", rev, diff)
			}
		}
		if _, err := c.s.Range(c.Context(), raftstore.RangeRequest{Revision: 19}); !errors.Is(err, raftstore.ErrCompacted) {
			c.Errorf("%v, want ErrCompacted", err)
		}
		again := c.events(c.watch(raftstore.WatchRequest{From: 21}), 22)
		if !slices.EqualFunc(again, events, SameEvent) {
			c.Errorf("history: %v, want %v", again, events)
		}
	}
	if next := c.grant(time.Hour); next == id {
		c.Errorf("lease %d is given out again", id)
	}
	if err := c.s.Revoke(c.Context(), id); err != nil {
		c.Fatal(err)
	}
	if _, ok := c.get("leased"); ok || c.s.Revision() != 42 {
		c.Errorf("the lease left its key, at %d", c.s.Revision())
	}
}
