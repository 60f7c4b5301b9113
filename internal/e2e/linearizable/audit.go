package linearizable

import (
	"fmt"
	"slices"

	"github.com/pintle/pintle/raftstore"
)

// audit compares what clients saw of revisions with time, and with the ledger.
func (l *ledger) audit(h *history) (problems []error) {
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	l.mu.Lock()
	defer l.mu.Unlock()
	type moment struct {
		at    int64
		begin bool
		o     *operation
	}
	var moments []moment
	for _, ops := range h.ops {
		for i := range ops {
			o := &ops[i]
			if o.rev != 0 {
				moments = append(moments, moment{o.call, true, o}, moment{o.done, false, o})
			}
			l.entry(o, bad)
		}
	}
	slices.SortFunc(moments, func(a, b moment) int { return int(a.at - b.at) })
	var known int64       // the newest revision that somebody had been told of,
	var teller *operation // by this
	floor := map[*operation]int64{}
	for _, m := range moments {
		switch {
		case m.begin:
			floor[m.o] = known
		case m.o.rev < floor[m.o] || m.o.wrote && m.o.rev == floor[m.o]:
			bad("%v is at revision %d; when it began somebody knew of %d (lately %v)", *m.o, m.o.rev, floor[m.o], *teller)
		case m.o.rev > known:
			known, teller = m.o.rev, m.o
		}
	}
	return problems
}

// entry looks a write up.
func (l *ledger) entry(o *operation, bad func(string, ...any)) {
	key := o.register + "a"
	if o.in.value != "" && o.refused {
		if rev := l.seen[key+"="+o.in.value]; rev != 0 {
			bad("%v was refused, and is there at %d", *o, rev)
		}
	}
	if !o.wrote {
		return
	}
	for _, e := range l.revs[o.rev] {
		if e.KV.Key == key && (e.Type == raftstore.Put) == (o.in.verb != deleteA && o.in.verb != moveA) && (e.Type == raftstore.Delete || string(e.KV.Value) == o.in.value) {
			return
		}
	}
	bad("%v was acknowledged, and the watchers got %v", *o, l.revs[o.rev])
}
