package raftstoretest

import (
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/pintle/pintle/raftstore"
)

var concurrency = []property{
	{name: "compare and swap loses no increment", run: noLostIncrement},
	{name: "a read after an acknowledged write sees it", run: readsSeeWrites},
	{name: "readers see whole transactions", run: wholeTransactions},
	{name: "every watcher sees every change once and in order", run: watchersAgree},
	{name: "a list and the watch after it miss nothing", run: listThenWatch},
	{name: "a watcher that nobody reads delays nobody", run: idleWatcher},
}

// together runs n goroutines of f and waits for them.
func together(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

func noLostIncrement(c *caller) {
	const clients, each = 8, 25
	together(clients, func(int) {
		for done := 0; done < each; {
			r, err := c.s.Range(c.Context(), raftstore.RangeRequest{Key: "n"})
			if err != nil {
				c.Error(err)
				return
			}
			n, rev := 0, int64(0)
			if len(r.KVs) > 0 {
				n, _ = strconv.Atoi(string(r.KVs[0].Value))
				rev = r.KVs[0].ModRevision
			}
			res, err := c.s.Txn(c.Context(), raftstore.Txn{If: []raftstore.Compare{{Key: "n", Int: rev}},
				Then: []raftstore.Op{put("n", strconv.Itoa(n+1))}})
			if err != nil {
				c.Error(err)
				return
			}
			if res.Succeeded {
				done++
			}
		}
	})
	if kv, _ := c.get("n"); string(kv.Value) != strconv.Itoa(clients*each) || kv.Version != clients*each {
		c.Errorf("%s after %d increments, version %d", kv.Value, clients*each, kv.Version)
	}
}

func readsSeeWrites(c *caller) {
	together(8, func(i int) {
		key := fmt.Sprint("k", i)
		for n := range 40 {
			w, err := c.s.Txn(c.Context(), raftstore.Txn{Then: []raftstore.Op{put(key, strconv.Itoa(n))}})
			if err != nil {
				c.Error(err)
				return
			}
			r, err := c.s.Range(c.Context(), raftstore.RangeRequest{Key: key})
			if err != nil || len(r.KVs) != 1 || string(r.KVs[0].Value) != strconv.Itoa(n) || r.Revision < w.Revision {
				c.Errorf("wrote %d at %d, read %+v: %v", n, w.Revision, r, err)
				return
			}
		}
	})
}

func wholeTransactions(c *caller) {
	c.do(put("a", "0"), put("b", "0"))
	together(8, func(i int) {
		for n := range 40 {
			var err error
			if i < 4 {
				v := fmt.Sprint(i, n)
				_, err = c.s.Txn(c.Context(), raftstore.Txn{Then: []raftstore.Op{put("a", v), put("b", v)}})
			} else {
				var r raftstore.RangeResult
				r, err = c.s.Range(c.Context(), raftstore.RangeRequest{Local: i == 7})
				if err == nil && (len(r.KVs) != 2 || string(r.KVs[0].Value) != string(r.KVs[1].Value) || r.KVs[0].ModRevision != r.KVs[1].ModRevision) {
					err = fmt.Errorf("half a transaction: %v", r.KVs)
				}
			}
			if err != nil {
				c.Error(err)
				return
			}
		}
	})
}

func watchersAgree(c *caller) {
	const writers, each = 6, 50
	together(writers+3, func(i int) {
		if i < writers {
			for n := range each {
				if _, err := c.s.Txn(c.Context(), raftstore.Txn{Then: []raftstore.Op{put(fmt.Sprintf("/w/%d", i), strconv.Itoa(n))}}); err != nil {
					c.Error(err)
					return
				}
			}
			return
		}
		w, err := c.s.Watch(c.Context(), raftstore.WatchRequest{Prefix: "/w/", From: 1})
		if err != nil {
			c.Error(err)
			return
		}
		defer w.Close()
		for next := int64(1); next <= writers*each; {
			b, err := w.Next(c.Context())
			if err != nil {
				c.Error(err)
				return
			}
			for _, e := range b.Events {
				if e.KV.ModRevision != next {
					c.Errorf("watcher %d: revision %d, want %d", i, e.KV.ModRevision, next)
					return
				}
				next++
			}
		}
	})
}

func listThenWatch(c *caller) {
	const writes = 300
	together(4, func(i int) {
		if i == 0 {
			for n := range writes {
				op := put(fmt.Sprint("k", n%7), strconv.Itoa(n))
				if n%5 == 4 {
					op = del(fmt.Sprint("k", (n-4)%7)) // written four writes ago: it is there
				}
				if _, err := c.s.Txn(c.Context(), raftstore.Txn{Then: []raftstore.Op{op}}); err != nil {
					c.Error(err)
				}
			}
			return
		}
		// The list, kept up to date by the watch, is at the end what a list then says.
		r, err := c.s.Range(c.Context(), raftstore.RangeRequest{})
		if err != nil {
			c.Error(err)
			return
		}
		have := map[string]raftstore.KV{}
		for _, kv := range r.KVs {
			have[kv.Key] = kv
		}
		w, err := c.s.Watch(c.Context(), raftstore.WatchRequest{From: r.Revision + 1})
		if err != nil {
			c.Error(err)
			return
		}
		defer w.Close()
		for at := r.Revision; at < writes; {
			b, err := w.Next(c.Context())
			if err != nil {
				c.Error(err)
				return
			}
			at = b.Revision
			for _, e := range b.Events {
				was, had := have[e.KV.Key]
				if had != (e.Prev != nil) || had && !SameKV(was, *e.Prev) {
					c.Errorf("the watch says that %s was %+v, the list has %+v", e.KV.Key, e.Prev, was)
					return
				}
				if e.Type == raftstore.Put {
					have[e.KV.Key] = e.KV
				} else {
					delete(have, e.KV.Key)
				}
			}
		}
		end, err := c.s.Range(c.Context(), raftstore.RangeRequest{Revision: writes})
		if err != nil || len(end.KVs) != len(have) {
			c.Errorf("%d keys by watching, %d by listing: %v", len(have), len(end.KVs), err)
			return
		}
		for _, kv := range end.KVs {
			if !SameKV(kv, have[kv.Key]) {
				c.Errorf("%+v by watching, %+v by listing", have[kv.Key], kv)
			}
		}
	})
}

func idleWatcher(c *caller) {
	idle := c.watch(raftstore.WatchRequest{From: 1})
	for i := range 300 {
		c.put("a", strconv.Itoa(i))
	}
	c.compact(299)
	if _, err := idle.Next(c.Context()); !errors.Is(err, raftstore.ErrCompacted) {
		c.Errorf("%v, want ErrCompacted", err)
	}
}
