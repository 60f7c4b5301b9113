package raftstoretest

import (
	"errors"
	"slices"
	"time"

	"github.com/pintle/pintle/raftstore"
)

var leases = []property{
	{name: "a revoked lease takes its keys at one revision", run: revoked},
	{name: "a key belongs to the lease of its newest version", run: newestLease},
	{name: "a lease lives as long as it is kept alive, and no longer", run: keptAlive, clocked: true},
	{name: "a lease that does not exist is refused", run: leaseRefused},
}

func (c *caller) grant(ttl time.Duration) int64 {
	c.Helper()
	id, err := c.s.Grant(c.Context(), ttl)
	if err != nil || id <= 0 {
		c.Fatalf("grant: %d, %v", id, err)
	}
	return id
}

func leased(key string, id int64) raftstore.Op {
	return raftstore.Op{Type: raftstore.OpPut, Key: key, Lease: id}
}

func revoked(c *caller) {
	id, other := c.grant(time.Hour), c.grant(time.Hour)
	if id == other {
		c.Fatalf("two leases with the id %d", id)
	}
	c.do(leased("c", id), leased("a", id), put("free", ""), leased("other", other))
	c.do(leased("b", id))
	if kv, _ := c.get("b"); kv.Lease != id {
		c.Errorf("%+v, want lease %d", kv, id)
	}
	w := c.watch(raftstore.WatchRequest{})
	if err := c.s.Revoke(c.Context(), id); err != nil {
		c.Fatal(err)
	}
	var gone []string
	for _, e := range c.events(w, 3) {
		if e.Type != raftstore.Delete || e.KV.ModRevision != 3 || e.Prev == nil || e.Prev.Lease != id {
			c.Errorf("%+v", e)
		}
		gone = append(gone, e.KV.Key)
	}
	if !slices.Equal(gone, []string{"a", "b", "c"}) {
		c.Errorf("gone in the order %q", gone)
	}
	if got := keysOf(c.list(raftstore.RangeRequest{})); !slices.Equal(got, []string{"free", "other"}) {
		c.Errorf("left: %q", got)
	}
}

func newestLease(c *caller) {
	one, two := c.grant(time.Hour), c.grant(time.Hour)
	c.do(leased("moved", one), leased("freed", one), leased("remade", one))
	c.do(leased("moved", two), put("freed", ""), del("remade"))
	c.put("remade", "")
	rev := c.s.Revision()
	if err := c.s.Revoke(c.Context(), one); err != nil || c.s.Revision() != rev {
		c.Errorf("revoke of a lease that lost its keys: %v, revision %d, want %d", err, c.s.Revision(), rev)
	}
	if err := c.s.Revoke(c.Context(), two); err != nil {
		c.Fatal(err)
	}
	if got := keysOf(c.list(raftstore.RangeRequest{})); !slices.Equal(got, []string{"freed", "remade"}) {
		c.Errorf("left: %q", got)
	}
}

func keptAlive(c *caller) {
	kept, left := c.grant(time.Hour), c.grant(time.Hour)
	c.do(leased("kept", kept), leased("left", left))
	w := c.watch(raftstore.WatchRequest{})
	c.clock.Advance(40 * time.Minute)
	if err := c.s.KeepAlive(c.Context(), kept); err != nil {
		c.Fatal(err)
	}
	c.clock.Advance(40 * time.Minute) // whoever expired one of them has looked at both
	if e := c.events(w, 1); e[0].Type != raftstore.Delete || e[0].KV.Key != "left" {
		c.Fatalf("%+v", e)
	}
	if err := c.s.KeepAlive(c.Context(), left); !errors.Is(err, raftstore.ErrLeaseNotFound) {
		c.Errorf("%v, want ErrLeaseNotFound", err)
	}
	if _, ok := c.get("kept"); !ok {
		c.Error("kept is gone")
	}
	c.clock.Advance(2 * time.Hour)
	if e := c.events(w, 1); e[0].Type != raftstore.Delete || e[0].KV.Key != "kept" {
		c.Fatalf("%+v", e)
	}
}

func leaseRefused(c *caller) {
	if _, err := c.s.Grant(c.Context(), 0); !errors.Is(err, raftstore.ErrInvalid) {
		c.Errorf("a lease without time: %v, want ErrInvalid", err)
	}
	id := c.grant(time.Hour)
	if err := c.s.Revoke(c.Context(), id); err != nil {
		c.Fatal(err)
	}
	for _, id := range []int64{id, -1, 1 << 40} {
		if err := c.s.Revoke(c.Context(), id); !errors.Is(err, raftstore.ErrLeaseNotFound) {
			c.Errorf("revoke %d: %v", id, err)
		}
		if err := c.s.KeepAlive(c.Context(), id); !errors.Is(err, raftstore.ErrLeaseNotFound) {
			c.Errorf("keep %d alive: %v", id, err)
		}
	}
	if next := c.grant(time.Hour); next == id {
		c.Errorf("lease %d is given out again", id)
	}
}
