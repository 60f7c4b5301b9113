package linearizable

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/pintle/pintle/raftstore"
)

// fencedKey is written by whoever believes to lead, under its term. In the order of the revisions the
// terms never fall: who has been succeeded writes nothing any more.
const fencedKey = "leader"

// fencedWrites writes it while the member leads, through its restarts, until ctx ends.
func fencedWrites(ctx context.Context, current func() *raftstore.Store) {
	for ctx.Err() == nil {
		if s := current(); s != nil {
			_ = s.WhileLeading(ctx, func(ctx context.Context, term uint64) error {
				for ctx.Err() == nil {
					_, _ = s.Txn(ctx, raftstore.Txn{Term: term, Then: []raftstore.Op{
						{Type: raftstore.OpPut, Key: fencedKey, Value: strconv.AppendUint(nil, term, 10)}}})
					sleep(ctx, 20*time.Millisecond)
				}
				return nil
			})
		}
		sleep(ctx, 10*time.Millisecond)
	}
}

// fenced looks at an event of the key. The lock is held.
func (l *ledger) fenced(e raftstore.Event) {
	term, err := strconv.ParseUint(string(e.KV.Value), 10, 64)
	if err != nil || term < l.term {
		l.bad("at revision %d somebody wrote in term %q, after one of term %d had", e.KV.ModRevision, e.KV.Value, l.term)
	}
	l.term = max(l.term, term)
	l.fencedSeen++
}

func (l *ledger) summary() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprintf("%d fenced writes up to term %d, %d relists", l.fencedSeen, l.term, l.relists)
}
