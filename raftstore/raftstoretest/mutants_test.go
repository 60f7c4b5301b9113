package raftstoretest_test

import (
	"context"
	"os"
	"os/exec"
	"testing"

	"github.com/pintle/pintle/raftstore"
	"github.com/pintle/pintle/raftstore/raftstoretest"
)

// mutants are stores with one rule broken each.
var mutants = map[string]func(*raftstoretest.Model) raftstoretest.Store{
	"forgets the compares": func(m *raftstoretest.Model) raftstoretest.Store { return forgetful{m} },
	"reads one behind":     func(m *raftstoretest.Model) raftstoretest.Store { return stale{m} },
	"leaks leased keys":    func(m *raftstoretest.Model) raftstoretest.Store { return leaky{m} },
	"keeps the past":       func(m *raftstoretest.Model) raftstoretest.Store { return hoarder{m} },
	"repeats an event":     func(m *raftstoretest.Model) raftstoretest.Store { return watching{m, repeat} },
	"skips an event":       func(m *raftstoretest.Model) raftstoretest.Store { return watching{m, skip} },
}

type forgetful struct{ *raftstoretest.Model }

func (f forgetful) Txn(ctx context.Context, t raftstore.Txn) (raftstore.TxnResult, error) {
	t.If = nil
	return f.Model.Txn(ctx, t)
}

type stale struct{ *raftstoretest.Model }

func (s stale) Range(ctx context.Context, req raftstore.RangeRequest) (raftstore.RangeResult, error) {
	if now := s.Revision(); req.Revision == 0 && now > s.CompactedRevision() {
		req.Revision = max(now-1, 1)
	}
	return s.Model.Range(ctx, req)
}

type leaky struct{ *raftstoretest.Model }

func (leaky) Revoke(context.Context, int64) error { return nil }

type hoarder struct{ *raftstoretest.Model }

func (hoarder) Compact(context.Context, int64) error { return nil }

type watching struct {
	*raftstoretest.Model
	change func([]raftstore.Event) []raftstore.Event
}

type changedWatcher struct {
	raftstoretest.Watcher
	w watching
}

func (w watching) Watch(ctx context.Context, req raftstore.WatchRequest) (raftstoretest.Watcher, error) {
	x, err := w.Model.Watch(ctx, req)
	return changedWatcher{x, w}, err
}

func (c changedWatcher) Next(ctx context.Context) (raftstore.WatchBatch, error) {
	b, err := c.Watcher.Next(ctx)
	if b.Revision%4 == 3 {
		b.Events = c.w.change(b.Events)
	}
	return b, err
}

func repeat(e []raftstore.Event) []raftstore.Event { return append(e[:len(e):len(e)], e...) }
func skip([]raftstore.Event) []raftstore.Event     { return []raftstore.Event{} }

const asMutant = "RAFTSTORETEST_MUTANT"

// A child process runs the suite on each mutant, and must fail.
func TestAStoreThatBreaksARuleDoesNotConform(t *testing.T) {
	if name := os.Getenv(asMutant); name != "" {
		raftstoretest.Conformance(t, func(*testing.T, raftstore.Clock) raftstoretest.Store {
			return mutants[name](raftstoretest.NewModel(nil))
		})
		return
	}
	for name := range mutants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Leases that expire and watchers that wait for a skipped event would wait for ever.
			cmd := exec.Command(os.Args[0], "-test.run=^TestAStoreThatBreaksARuleDoesNotConform$/"+
				"^(Txn|Revisions|Watch|Leases|Concurrency)$/^(every_compare|all_compares|a_key_belongs|compaction|from_every|compare_and_swap|a_read_after)", "-test.timeout=5s")
			cmd.Env = append(os.Environ(), asMutant+"="+name)
			if out, err := cmd.CombinedOutput(); err == nil {
				t.Errorf("the suite let it pass:\n%s", out)
			}
		})
	}
}
