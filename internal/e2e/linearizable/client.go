package linearizable

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/pintle/pintle/raftstore"
)

// operation is one call, as its client saw it.
type operation struct {
	register   string
	member     string
	in         input
	out        output
	call, done int64 // ns since the beginning
	rev        int64 // of the write, or at which the read was answered; 0: not known
	wrote      bool
	refused    bool // it is certain that nothing was written
	err        error
}

func (o operation) String() string {
	ms := func(ns int64) float64 { return float64(ns/1000) / 1000 }
	s := fmt.Sprintf("%s on %s, %.3f to %.3f ms: %s", o.register, o.member, ms(o.call), ms(o.done), describe(o.in, o.out))
	if o.rev != 0 {
		s += fmt.Sprintf(", revision %d", o.rev)
	}
	if o.err != nil {
		s += fmt.Sprintf(", %v", o.err)
	}
	return s
}

// history is what the clients of one round did, by register.
type history struct {
	mu  sync.Mutex
	ops map[string][]operation
}

func (h *history) add(o operation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops[o.register] = append(h.ops[o.register], o)
}

const opTimeout = 3 * time.Second

// client does random things to a register on random members until the round ends.
type client struct {
	register string // the prefix of its keys
	members  func() []string
	store    func(member string) *raftstore.Store
	values   *atomic.Int64
	began    time.Time
	h        *history
	r        *rand.Rand
	last     string // what a was when it last looked
}

func (c *client) run(ctx context.Context) {
	for ctx.Err() == nil {
		members := c.members()
		if len(members) == 0 {
			sleep(ctx, time.Millisecond)
			continue
		}
		member := members[c.r.IntN(len(members))]
		s := c.store(member)
		if s == nil {
			continue // just stopped
		}
		// The operation outlives the round: it is not its clients' fault that the round ends.
		opCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), opTimeout)
		c.once(opCtx, member, s)
		cancel()
		sleep(ctx, time.Duration(c.r.IntN(8))*time.Millisecond)
	}
}

func (c *client) once(ctx context.Context, member string, s *raftstore.Store) {
	in := input{verb: []verb{putA, putA, deleteA, getA, getA, getBoth, swapA, swapA, putBoth, moveA}[c.r.IntN(10)], old: c.last}
	switch in.verb {
	case putA, swapA, putBoth:
		in.value = fmt.Sprint(c.values.Add(1))
	}
	o := operation{register: c.register, member: member, in: in, call: int64(time.Since(c.began))}
	err := c.do(ctx, s, &o)
	o.done = int64(time.Since(c.began))
	if err != nil {
		if o.in.verb == getA || o.in.verb == getBoth {
			return // it saw nothing
		}
		o.refused, o.err = nothingWritten(err), err
		o.out = output{unknown: true}
		o.rev, o.wrote = 0, false
	}
	c.h.add(o)
}

// nothingWritten is what Store.Txn documents.
func nothingWritten(err error) bool {
	for _, maybe := range []error{raftstore.ErrUncertain, raftstore.ErrDegraded, context.DeadlineExceeded, context.Canceled} {
		if errors.Is(err, maybe) {
			return false
		}
	}
	return true
}

func (c *client) do(ctx context.Context, s *raftstore.Store, o *operation) error {
	a, b := c.register+"a", c.register+"b"
	put := func(key string) raftstore.Op {
		return raftstore.Op{Type: raftstore.OpPut, Key: key, Value: []byte(o.in.value)}
	}
	del, get := raftstore.Op{Type: raftstore.OpDelete, Key: a}, raftstore.Op{Type: raftstore.OpGet, Key: a}
	isOld := []raftstore.Compare{{Key: a, Target: raftstore.Value, Value: []byte(o.in.old)}}
	var t raftstore.Txn
	switch o.in.verb {
	case getA, getBoth:
		req := raftstore.RangeRequest{Key: a}
		if o.in.verb == getBoth {
			req = raftstore.RangeRequest{Prefix: c.register}
		}
		r, err := s.Range(ctx, req)
		if err != nil {
			return err
		}
		for _, kv := range r.KVs {
			if kv.Key == a {
				o.out.pair.a = string(kv.Value)
			} else {
				o.out.pair.b = string(kv.Value)
			}
		}
		c.last, o.rev = o.out.pair.a, r.Revision
		return nil
	case putA:
		t.Then = []raftstore.Op{put(a)}
	case deleteA:
		t.Then = []raftstore.Op{del}
	case swapA:
		t = raftstore.Txn{If: isOld, Then: []raftstore.Op{put(a)}, Else: []raftstore.Op{get}}
	case putBoth:
		t.Then = []raftstore.Op{put(a), put(b)}
	case moveA:
		if o.in.old == "" { // then it is only a look
			isOld[0] = raftstore.Compare{Key: a, Target: raftstore.Version, Int: -1}
		}
		t = raftstore.Txn{If: isOld, Else: []raftstore.Op{get},
			Then: []raftstore.Op{del, {Type: raftstore.OpPut, Key: b, Value: []byte(o.in.old)}}}
	}
	r, err := s.Txn(ctx, t)
	if err != nil {
		return err
	}
	o.rev, o.wrote = r.Revision, true
	switch o.in.verb {
	case deleteA:
		o.out.ok = r.Results[0].Deleted > 0
		o.wrote = o.out.ok
	case swapA, moveA:
		if o.out.ok = r.Succeeded; !o.out.ok {
			o.wrote = false
			if kvs := r.Results[0].KVs; len(kvs) > 0 {
				o.out.pair.a = string(kvs[0].Value)
			}
			c.last = o.out.pair.a
		}
	}
	return nil
}

// check asks porcupine about one register.
func check(ops []operation) porcupine.CheckResult {
	end := int64(0)
	for _, o := range ops {
		end = max(end, o.done)
	}
	var all []porcupine.Operation
	for i, o := range ops {
		if o.refused {
			continue
		}
		done := o.done
		if o.out.unknown {
			done = end + 1
		}
		// Each operation counts as a client of its own: one that got no answer goes on beside the next.
		all = append(all, porcupine.Operation{ClientId: i, Input: o.in, Output: o.out, Call: o.call, Return: done})
	}
	return porcupine.CheckOperationsTimeout(model, all, 30*time.Second)
}
