package raftstoretest

import (
	"context"
	"testing"
	"time"

	"github.com/pintle/pintle/raftstore"
)

// Store is what Conformance tests. The errors are raftstore's.
type Store interface {
	Txn(context.Context, raftstore.Txn) (raftstore.TxnResult, error)
	Range(context.Context, raftstore.RangeRequest) (raftstore.RangeResult, error)
	Watch(context.Context, raftstore.WatchRequest) (Watcher, error)
	Compact(ctx context.Context, rev int64) error
	Grant(ctx context.Context, ttl time.Duration) (id int64, err error)
	KeepAlive(ctx context.Context, id int64) error
	Revoke(ctx context.Context, id int64) error
	Revision() int64
	CompactedRevision() int64
}

// Watcher is what Watch returns.
type Watcher interface {
	Next(context.Context) (raftstore.WatchBatch, error)
	Close()
}

// Restarter is a Store that can be stopped and started again in place.
type Restarter interface {
	Restart(testing.TB)
}

// Of adapts a *raftstore.Store.
func Of(s *raftstore.Store) Store { return adapted{s} }

type adapted struct{ *raftstore.Store }

func (a adapted) Watch(ctx context.Context, req raftstore.WatchRequest) (Watcher, error) {
	w, err := a.Store.Watch(ctx, req)
	if err != nil {
		return nil, err
	}
	return w, nil
}

// Conformance runs every property as a subtest. open returns an empty store at revision 0 that is
// ready, forgets no history by itself, and ends with its test; nil for clock is the system's.
func Conformance(t *testing.T, open func(t *testing.T, clock raftstore.Clock) Store) {
	for _, group := range []struct {
		name  string
		tests []property
	}{
		{"Txn", txns}, {"Range", ranges}, {"Revisions", revisions}, {"Watch", watches},
		{"Leases", leases}, {"Concurrency", concurrency}, {"Restart", restarts},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, p := range group.tests {
				t.Run(p.name, func(t *testing.T) {
					c := &caller{T: t}
					if p.clocked {
						c.clock = &Clock{now: time.Unix(1_000_000, 0)}
						c.s = open(t, c.clock)
					} else {
						c.s = open(t, nil)
					}
					p.run(c)
				})
			}
		})
	}
}

// property is one test of the suite.
type property struct {
	name    string
	run     func(*caller)
	clocked bool // its store runs on caller.clock
}

// caller drives one store and ends the test at the first error that was not asked for.
type caller struct {
	*testing.T
	s     Store
	clock *Clock
}

func put(key, value string) raftstore.Op {
	return raftstore.Op{Type: raftstore.OpPut, Key: key, Value: []byte(value)}
}

func get(key string) raftstore.Op    { return raftstore.Op{Type: raftstore.OpGet, Key: key} }
func del(key string) raftstore.Op    { return raftstore.Op{Type: raftstore.OpDelete, Key: key} }
func delAll(pre string) raftstore.Op { return raftstore.Op{Type: raftstore.OpDeletePrefix, Key: pre} }

func (c *caller) do(ops ...raftstore.Op) raftstore.TxnResult {
	c.Helper()
	return c.txn(raftstore.Txn{Then: ops})
}

func (c *caller) txn(t raftstore.Txn) raftstore.TxnResult {
	c.Helper()
	r, err := c.s.Txn(c.Context(), t)
	if err != nil {
		c.Fatalf("txn: %v", err)
	}
	return r
}

func (c *caller) put(key, value string) int64 {
	c.Helper()
	return c.do(put(key, value)).Revision
}

func (c *caller) list(req raftstore.RangeRequest) raftstore.RangeResult {
	c.Helper()
	r, err := c.s.Range(c.Context(), req)
	if err != nil {
		c.Fatalf("range %+v: %v", req, err)
	}
	return r
}

// get returns the key now, and whether it is there.
func (c *caller) get(key string) (raftstore.KV, bool) {
	c.Helper()
	r := c.list(raftstore.RangeRequest{Key: key})
	if len(r.KVs) == 0 {
		return raftstore.KV{}, false
	}
	return r.KVs[0], true
}

func (c *caller) compact(rev int64) {
	c.Helper()
	if err := c.s.Compact(c.Context(), rev); err != nil {
		c.Fatalf("compact to %d: %v", rev, err)
	}
}

func (c *caller) watch(req raftstore.WatchRequest) Watcher {
	c.Helper()
	w, err := c.s.Watch(c.Context(), req)
	if err != nil {
		c.Fatalf("watch %+v: %v", req, err)
	}
	c.Cleanup(w.Close)
	return w
}

// events reads batches until they hold n events, and checks the form of each batch.
func (c *caller) events(w Watcher, n int) []raftstore.Event {
	c.Helper()
	var all []raftstore.Event
	last := int64(0)
	for len(all) < n {
		b, err := w.Next(c.Context())
		if err != nil {
			c.Fatalf("next after %d of %d events: %v", len(all), n, err)
		}
		if b.Revision <= last {
			c.Fatalf("a batch up to revision %d after one up to %d", b.Revision, last)
		}
		for _, e := range b.Events {
			if e.KV.ModRevision <= last || e.KV.ModRevision > b.Revision {
				c.Fatalf("an event of revision %d in the batch after %d up to %d", e.KV.ModRevision, last, b.Revision)
			}
		}
		last = b.Revision
		all = append(all, b.Events...)
	}
	if len(all) > n {
		c.Fatalf("%d events, want %d: %v", len(all), n, all)
	}
	return all
}
