package raftstoretest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pintle/pintle/raftstore"
)

var watches = []property{
	{name: "from every revision, every change under the prefix once and in order", run: watchFromAnywhere},
	{name: "an event holds the key before and after", run: beforeAndAfter},
	{name: "the events of one revision are never split", run: neverSplit},
	{name: "a watch from nowhere begins after now, one from the future then", run: watchBegins},
	{name: "progress is told when nothing matched", run: progress},
	{name: "a watch that was passed by compaction ends, others go on", run: passedByCompaction},
	{name: "Next ends with its context and loses nothing, and with Close", run: nextEnds},
}

// history writes a bit of everything, 10 changes, and returns them.
func history(c *caller) []raftstore.Event {
	w := c.watch(raftstore.WatchRequest{})
	c.put("/a/1", "x")
	c.put("/b/1", "x")
	c.do(put("/a/2", "y"), put("/b/2", "y"), del("/a/1"))
	c.put("/a/1", "again")
	c.do(delAll("/a/"))
	c.put("/c", "")
	c.put("/c", "")
	return c.events(w, 10)[:10]
}

func watchFromAnywhere(c *caller) {
	all := history(c)
	for _, prefix := range []string{"", "/a/", "/b/2", "/none"} {
		for from := int64(1); from <= c.s.Revision()+1; from++ {
			var want []raftstore.Event
			for _, e := range all {
				if e.KV.ModRevision >= from && strings.HasPrefix(e.KV.Key, prefix) {
					want = append(want, e)
				}
			}
			w := c.watch(raftstore.WatchRequest{Prefix: prefix, From: from})
			got := c.events(w, len(want))
			if !slices.EqualFunc(got, want, SameEvent) {
				c.Errorf("%q from %d: %v, want %v", prefix, from, got, want)
			}
			w.Close()
		}
	}
}

func beforeAndAfter(c *caller) {
	got := ""
	for _, e := range history(c) {
		got += fmt.Sprintf("%d %s %s", e.KV.ModRevision, e.Type, e.KV.Key)
		if e.Type == raftstore.Put {
			got += fmt.Sprintf("=%s v%d c%d", e.KV.Value, e.KV.Version, e.KV.CreateRevision)
		} else if !SameKV(e.KV, raftstore.KV{Key: e.KV.Key, ModRevision: e.KV.ModRevision}) {
			c.Errorf("a deletion holds more than its key: %+v", e.KV)
		}
		if e.Prev != nil {
			got += fmt.Sprintf(" was %s v%d m%d", e.Prev.Value, e.Prev.Version, e.Prev.ModRevision)
		}
		got += "\n"
	}
	if want := `1 put /a/1=x v1 c1
2 put /b/1=x v1 c2
3 put /a/2=y v1 c3
3 put /b/2=y v1 c3
3 delete /a/1 was x v1 m1
4 put /a/1=again v1 c4
5 delete /a/1 was again v1 m4
5 delete /a/2 was y v1 m3
6 put /c= v1 c6
7 put /c= v2 c6 was  v1 m6
`; got != want {
		c.Errorf("got:\n%swant:\n%s", got, want)
	}
}

func neverSplit(c *caller) {
	const each, txns = 700, 3 // more than a batch is likely to hold
	for i := range txns {
		var ops []raftstore.Op
		for k := range each {
			ops = append(ops, put(fmt.Sprintf("/%04d", k), fmt.Sprint(i)))
		}
		c.do(ops...)
	}
	w := c.watch(raftstore.WatchRequest{From: 1})
	seen := map[int64]int{}
	for len(seen) < txns {
		b, err := w.Next(c.Context())
		if err != nil {
			c.Fatal(err)
		}
		in := map[int64]int{}
		for _, e := range b.Events {
			in[e.KV.ModRevision]++
		}
		for rev, n := range in {
			if n != each || seen[rev] != 0 {
				c.Fatalf("revision %d: %d events in one batch, %d before", rev, n, seen[rev])
			}
			seen[rev] = n
		}
	}
}

func watchBegins(c *caller) {
	c.put("a", "1")
	now, then := c.watch(raftstore.WatchRequest{}), c.watch(raftstore.WatchRequest{From: 4})
	for i := 2; i < 6; i++ {
		c.put("a", fmt.Sprint(i))
	}
	if e := c.events(now, 4); e[0].KV.ModRevision != 2 {
		c.Errorf("begins at %d, want 2", e[0].KV.ModRevision)
	}
	if e := c.events(then, 2); e[0].KV.ModRevision != 4 {
		c.Errorf("begins at %d, want 4", e[0].KV.ModRevision)
	}
	if _, err := c.s.Watch(c.Context(), raftstore.WatchRequest{From: -1}); !errors.Is(err, raftstore.ErrInvalid) {
		c.Errorf("%v, want ErrInvalid", err)
	}
}

func progress(c *caller) {
	w := c.watch(raftstore.WatchRequest{Prefix: "/quiet", Progress: true, From: 1})
	for range 3 {
		rev := c.put("/loud", "")
		for at := int64(0); at < rev; {
			b, err := w.Next(c.Context())
			if err != nil || len(b.Events) > 0 || b.Revision <= at {
				c.Fatalf("%+v after %d: %v", b, at, err)
			}
			at = b.Revision
		}
	}
}

func passedByCompaction(c *caller) {
	c.put("a", "1")
	slow, fast := c.watch(raftstore.WatchRequest{From: 1}), c.watch(raftstore.WatchRequest{From: 1})
	c.events(fast, 1)
	c.put("a", "2")
	c.events(fast, 1)
	c.compact(2)
	c.put("a", "3")
	if _, err := slow.Next(c.Context()); !errors.Is(err, raftstore.ErrCompacted) {
		c.Errorf("%v, want ErrCompacted", err)
	}
	c.events(fast, 1)
}

func nextEnds(c *caller) {
	w := c.watch(raftstore.WatchRequest{})
	why := errors.New("this test's reason")
	ctx, cancel := context.WithCancelCause(c.Context())
	go cancel(why)
	if _, err := w.Next(ctx); !errors.Is(err, why) {
		c.Errorf("%v, want the cause of the context", err)
	}
	c.put("a", "")
	c.events(w, 1)
	go w.Close()
	if _, err := w.Next(c.Context()); !errors.Is(err, raftstore.ErrClosed) {
		c.Errorf("%v, want ErrClosed", err)
	}
	w.Close()
}
