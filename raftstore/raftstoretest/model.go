package raftstoretest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pintle/pintle/raftstore"
)

// Model is the plainest Store: a list of every state that it was ever in. It is what a real one is
// compared with, and proof that Conformance asks nothing that only raftstore can do. Safe for
// concurrent use. Make it with NewModel.
type Model struct {
	clock raftstore.Clock

	mu        sync.Mutex
	rev       int64
	compacted int64
	states    map[int64]map[string]raftstore.KV // by revision
	events    []raftstore.Event
	leases    map[int64]*modelLease
	lastLease int64
	changed   chan struct{} // closed at the next change
}

type modelLease struct {
	ttl      time.Duration
	deadline time.Time
}

// NewModel makes an empty one. A nil clock: its leases never expire.
func NewModel(clock raftstore.Clock) *Model {
	return &Model{clock: clock, states: map[int64]map[string]raftstore.KV{0: {}},
		leases: map[int64]*modelLease{}, changed: make(chan struct{})}
}

// Clone returns a copy that goes its own way.
func (m *Model) Clone() *Model {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := NewModel(m.clock)
	c.rev, c.compacted, c.lastLease = m.rev, m.compacted, m.lastLease
	c.states, c.events = maps.Clone(m.states), slices.Clone(m.events) // a state never changes
	for id, l := range m.leases {
		copied := *l
		c.leases[id] = &copied
	}
	return c
}

// Raise moves to a later revision and forgets the past, as a restore from a backup does.
func (m *Model) Raise(rev int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.states = map[int64]map[string]raftstore.KV{rev: m.states[m.rev]}
	m.rev, m.compacted, m.events = rev, rev, nil
	// A backup holds the keys as they are: versions, creation revisions and leases stay.
}

// Revision implements Store.
func (m *Model) Revision() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rev
}

// CompactedRevision implements Store.
func (m *Model) CompactedRevision() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.compacted
}

// writing is the next state in the making.
type writing struct {
	m      *Model
	rev    int64
	state  map[string]raftstore.KV
	events []raftstore.Event
}

func (m *Model) begin() *writing {
	return &writing{m: m, rev: m.rev + 1, state: maps.Clone(m.states[m.rev])}
}

// commit makes it the present, if it wrote anything.
func (w *writing) commit() {
	if len(w.events) == 0 {
		return
	}
	m := w.m
	m.rev, m.states[w.rev], m.events = w.rev, w.state, append(m.events, w.events...)
	close(m.changed)
	m.changed = make(chan struct{})
}

func (w *writing) put(key string, value []byte, lease int64) {
	kv := raftstore.KV{Key: key, Value: bytes.Clone(value), CreateRevision: w.rev, ModRevision: w.rev, Version: 1, Lease: lease}
	e := raftstore.Event{Type: raftstore.Put}
	if old, ok := w.state[key]; ok {
		kv.CreateRevision, kv.Version, e.Prev = old.CreateRevision, old.Version+1, &old
	}
	w.state[key], e.KV = kv, kv
	w.events = append(w.events, e)
}

// delete takes every key that match says, in order, and returns what they were.
func (w *writing) delete(match func(raftstore.KV) bool) (gone []raftstore.KV) {
	for _, key := range slices.Sorted(maps.Keys(w.state)) {
		if old := w.state[key]; match(old) {
			delete(w.state, key)
			w.events = append(w.events, raftstore.Event{Type: raftstore.Delete, KV: raftstore.KV{Key: key, ModRevision: w.rev}, Prev: &old})
			gone = append(gone, old)
		}
	}
	return gone
}

// Txn implements Store.
func (m *Model) Txn(_ context.Context, t raftstore.Txn) (raftstore.TxnResult, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expire()
	if err := sensible(t); err != nil {
		return raftstore.TxnResult{}, err
	}
	r := raftstore.TxnResult{Succeeded: true}
	ops := t.Then
	for _, c := range t.If {
		if !m.holds(c) {
			ops, r.Succeeded = t.Else, false
			break
		}
	}
	w := m.begin()
	for _, o := range ops {
		var res raftstore.OpResult
		switch o.Type {
		case raftstore.OpGet:
			if kv, ok := w.state[o.Key]; ok {
				res.KVs = []raftstore.KV{kv}
			}
		case raftstore.OpPut:
			if o.Lease != 0 && m.leases[o.Lease] == nil {
				return raftstore.TxnResult{}, raftstore.ErrLeaseNotFound
			}
			w.put(o.Key, o.Value, o.Lease)
		case raftstore.OpDelete:
			res.KVs = w.delete(func(kv raftstore.KV) bool { return kv.Key == o.Key })
			res.Deleted = int64(len(res.KVs))
		case raftstore.OpDeletePrefix:
			res.KVs = w.delete(func(kv raftstore.KV) bool { return strings.HasPrefix(kv.Key, o.Key) })
			res.Deleted = int64(len(res.KVs))
		}
		r.Results = append(r.Results, res)
	}
	w.commit()
	r.Revision = m.rev
	return r, nil
}

func (m *Model) holds(c raftstore.Compare) bool {
	kv := m.states[m.rev][c.Key]
	order := 0
	switch c.Target {
	case raftstore.ModRevision:
		order = cmp.Compare(kv.ModRevision, c.Int)
	case raftstore.Version:
		order = cmp.Compare(kv.Version, c.Int)
	case raftstore.CreateRevision:
		order = cmp.Compare(kv.CreateRevision, c.Int)
	case raftstore.Value:
		order = bytes.Compare(kv.Value, c.Value)
	}
	return map[raftstore.Relation]bool{raftstore.Equal: order == 0, raftstore.NotEqual: order != 0,
		raftstore.Less: order < 0, raftstore.Greater: order > 0}[c.Relation]
}

// sensible says what a store must refuse unseen.
func sensible(t raftstore.Txn) error {
	size := 0
	for _, c := range t.If {
		if c.Key == "" || c.Target > raftstore.Value || c.Relation > raftstore.Greater {
			return raftstore.ErrInvalid
		}
	}
	for _, ops := range [][]raftstore.Op{t.Then, t.Else} {
		for i, o := range ops {
			size += len(o.Key) + len(o.Value)
			if o.Type > raftstore.OpDeletePrefix || o.Key == "" && o.Type != raftstore.OpDeletePrefix {
				return raftstore.ErrInvalid
			}
			for _, p := range ops[:i] {
				if meet(o, p) || meet(p, o) {
					return raftstore.ErrInvalid
				}
			}
		}
	}
	if size > raftstore.MaxTxnBytes {
		return raftstore.ErrInvalid
	}
	return nil
}

// meet says whether both could write one key.
func meet(a, b raftstore.Op) bool {
	if a.Type == raftstore.OpGet || b.Type == raftstore.OpGet {
		return false
	}
	if a.Type == raftstore.OpDeletePrefix {
		return strings.HasPrefix(b.Key, a.Key)
	}
	return a.Key == b.Key && b.Type != raftstore.OpDeletePrefix
}

// Range implements Store.
func (m *Model) Range(_ context.Context, req raftstore.RangeRequest) (raftstore.RangeResult, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expire()
	rev := req.Revision
	switch {
	case req.Limit < 0 || rev < 0, req.Prefix != "" && req.End != "",
		req.Prefix != "" && req.Key != "" && !strings.HasPrefix(req.Key, req.Prefix):
		return raftstore.RangeResult{}, raftstore.ErrInvalid
	case rev == 0:
		rev = m.rev
	case rev > m.rev:
		return raftstore.RangeResult{}, raftstore.ErrFutureRevision
	case rev < m.compacted:
		return raftstore.RangeResult{}, raftstore.ErrCompacted
	}
	one := req.Prefix == "" && req.Key != "" && req.End == ""
	r := raftstore.RangeResult{Revision: rev}
	for _, key := range slices.Sorted(maps.Keys(m.states[rev])) {
		if one && key != req.Key || key < req.Key || req.End != "" && key >= req.End || !strings.HasPrefix(key, req.Prefix) {
			continue
		}
		r.Count++
		switch kv := m.states[rev][key]; {
		case req.CountOnly:
		case req.Limit > 0 && len(r.KVs) == req.Limit:
			r.More = true
		case req.KeysOnly:
			kv.Value = nil
			fallthrough
		default:
			r.KVs = append(r.KVs, kv)
		}
	}
	return r, nil
}

// Compact implements Store.
func (m *Model) Compact(_ context.Context, rev int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case rev <= 0:
		return raftstore.ErrInvalid
	case rev <= m.compacted:
		return raftstore.ErrCompacted
	case rev > m.rev:
		return raftstore.ErrFutureRevision
	}
	m.compacted = rev
	maps.DeleteFunc(m.states, func(r int64, _ map[string]raftstore.KV) bool { return r < rev })
	m.events = slices.DeleteFunc(m.events, func(e raftstore.Event) bool { return e.KV.ModRevision <= rev })
	close(m.changed)
	m.changed = make(chan struct{})
	return nil
}

// Grant implements Store.
func (m *Model) Grant(_ context.Context, ttl time.Duration) (int64, error) {
	if ttl < time.Millisecond {
		return 0, fmt.Errorf("%w: ttl %s", raftstore.ErrInvalid, ttl)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lastLease++
	m.leases[m.lastLease] = &modelLease{ttl: ttl}
	m.renew(m.lastLease)
	return m.lastLease, nil
}

func (m *Model) renew(id int64) {
	if m.clock != nil {
		m.leases[id].deadline = m.clock.Now().Add(m.leases[id].ttl)
	}
}

// KeepAlive implements Store.
func (m *Model) KeepAlive(_ context.Context, id int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expire()
	if m.leases[id] == nil {
		return raftstore.ErrLeaseNotFound
	}
	m.renew(id)
	return nil
}

// Revoke implements Store.
func (m *Model) Revoke(_ context.Context, id int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expire()
	return m.revoke(id)
}

func (m *Model) revoke(id int64) error {
	if m.leases[id] == nil {
		return raftstore.ErrLeaseNotFound
	}
	delete(m.leases, id)
	w := m.begin()
	w.delete(func(kv raftstore.KV) bool { return kv.Lease == id })
	w.commit()
	return nil
}

// expire revokes what is past its deadline.
func (m *Model) expire() {
	if m.clock == nil {
		return
	}
	for _, id := range slices.Sorted(maps.Keys(m.leases)) {
		if !m.leases[id].deadline.After(m.clock.Now()) {
			_ = m.revoke(id)
		}
	}
}

// Watch implements Store.
func (m *Model) Watch(_ context.Context, req raftstore.WatchRequest) (Watcher, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case req.From < 0:
		return nil, raftstore.ErrInvalid
	case req.From == 0:
		req.From = m.rev + 1
	case req.From <= m.compacted:
		return nil, raftstore.ErrCompacted
	}
	return &modelWatcher{m: m, req: req, closed: make(chan struct{})}, nil
}

type modelWatcher struct {
	m      *Model
	req    raftstore.WatchRequest // From moves on
	closed chan struct{}
	once   sync.Once
}

func (w *modelWatcher) Close() { w.once.Do(func() { close(w.closed) }) }

// Next delivers a revision at a time.
func (w *modelWatcher) Next(ctx context.Context) (raftstore.WatchBatch, error) {
	for {
		select {
		case <-w.closed:
			return raftstore.WatchBatch{}, raftstore.ErrClosed
		default:
		}
		b, changed, err := w.look()
		if err != nil || b.Revision > 0 && (len(b.Events) > 0 || w.req.Progress) {
			return b, err
		}
		if b.Revision > 0 {
			continue
		}
		select {
		case <-changed:
		case <-time.After(5 * time.Millisecond): // a lease may have expired
		case <-w.closed:
		case <-ctx.Done():
			return raftstore.WatchBatch{}, context.Cause(ctx)
		}
	}
}

func (w *modelWatcher) look() (b raftstore.WatchBatch, changed chan struct{}, err error) {
	m := w.m
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expire()
	if w.req.From <= m.compacted {
		return b, nil, raftstore.ErrCompacted
	}
	if w.req.From > m.rev {
		return b, m.changed, nil
	}
	b.Revision = w.req.From
	w.req.From++
	for _, e := range m.events {
		if e.KV.ModRevision == b.Revision && strings.HasPrefix(e.KV.Key, w.req.Prefix) {
			b.Events = append(b.Events, e)
		}
	}
	return b, nil, nil
}
