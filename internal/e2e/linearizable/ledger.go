package linearizable

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/pintle/pintle/raftstore"
)

// ledger is what happened, as the watchers on all members tell it.
type ledger struct {
	mu       sync.Mutex
	revs     map[int64][]raftstore.Event
	seen     map[string]int64 // the revision that wrote a value under a key
	reached  map[string]int64 // by member
	problems []error
	relists  int
	// Of fenced writes: the term of the newest, and how many there were.
	term       uint64
	fencedSeen int
}

func newLedger() *ledger {
	return &ledger{revs: map[int64][]raftstore.Event{}, seen: map[string]int64{}, reached: map[string]int64{}}
}

func (l *ledger) bad(format string, args ...any) {
	if len(l.problems) < 20 {
		l.problems = append(l.problems, fmt.Errorf(format, args...))
	}
}

// take records a batch that a member's watcher got after it had everything up to at.
func (l *ledger) take(member string, at int64, b raftstore.WatchBatch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := 0; i < len(b.Events); {
		rev := b.Events[i].KV.ModRevision
		end := i
		for end < len(b.Events) && b.Events[end].KV.ModRevision == rev {
			end++
		}
		// Every revision changes something, and nobody filters: none may be missing.
		if at++; rev != at {
			l.bad("the watcher on %s got revision %d where %d belongs", member, rev, at)
			at = rev
		}
		l.compare(member, rev, b.Events[i:end])
		i = end
	}
	if b.Revision != at {
		l.bad("the watcher on %s is told that revision %d is there, and got the events up to %d", member, b.Revision, at)
	}
	l.reached[member] = b.Revision
}

func (l *ledger) compare(member string, rev int64, events []raftstore.Event) {
	had, known := l.revs[rev]
	if !known {
		l.revs[rev] = events
		for _, e := range events {
			if e.KV.Key == fencedKey {
				l.fenced(e)
			}
			if e.Type == raftstore.Put && strings.HasSuffix(e.KV.Key, "/a") { // b also gets what a was
				name := e.KV.Key + "=" + string(e.KV.Value)
				if before := l.seen[name]; before != 0 {
					l.bad("%s is written twice, at %d and %d", name, before, rev)
				}
				l.seen[name] = rev
			}
		}
		return
	}
	same := len(had) == len(events)
	for i := 0; same && i < len(had); i++ {
		same = had[i].Type == events[i].Type && had[i].KV.Key == events[i].KV.Key && string(had[i].KV.Value) == string(events[i].KV.Value) &&
			had[i].KV.Version == events[i].KV.Version && had[i].KV.CreateRevision == events[i].KV.CreateRevision && (had[i].Prev == nil) == (events[i].Prev == nil)
	}
	if !same {
		l.bad("at revision %d the watcher on %s got %v, another %v", rev, member, events, had)
	}
}

// follow watches a member until ctx ends, through its restarts: current returns its store, nil while
// it does not run.
func (l *ledger) follow(ctx context.Context, member string, from int64, current func() *raftstore.Store) {
	at := from
	for ctx.Err() == nil {
		s := current()
		if s == nil {
			sleep(ctx, 10*time.Millisecond)
			continue
		}
		w, err := s.Watch(ctx, raftstore.WatchRequest{From: at + 1})
		for err == nil {
			var b raftstore.WatchBatch
			if b, err = w.Next(ctx); err == nil {
				l.take(member, at, b)
				at = b.Revision
			}
		}
		if w != nil {
			w.Close()
		}
		switch {
		case errors.Is(err, raftstore.ErrCompacted):
			at = s.CompactedRevision()
			l.mu.Lock()
			l.relists++
			l.mu.Unlock()
		case errors.Is(err, raftstore.ErrClosed), ctx.Err() != nil:
			sleep(ctx, 10*time.Millisecond)
		default:
			l.mu.Lock()
			l.bad("the watch on %s: %w", member, err)
			l.mu.Unlock()
			sleep(ctx, 10*time.Millisecond)
		}
	}
}

// await waits until the watchers of the members have everything up to rev.
func (l *ledger) await(ctx context.Context, members []string, rev int64) error {
	for {
		l.mu.Lock()
		behind := ""
		for _, m := range members {
			if l.reached[m] < rev {
				behind = fmt.Sprintf("the watcher on %s is at revision %d, want %d", m, l.reached[m], rev)
			}
		}
		l.mu.Unlock()
		if behind == "" {
			return nil
		}
		if ctx.Err() != nil {
			return errors.New(behind)
		}
		sleep(ctx, 2*time.Millisecond)
	}
}

// drain returns what is wrong so far, and forgets the revisions.
func (l *ledger) drain() []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.problems
	l.problems = nil
	if len(l.revs) > 100_000 {
		clear(l.revs)
		clear(l.seen)
	}
	return p
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
