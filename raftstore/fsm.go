package raftstore

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
)

// view is the state at one moment. It never changes once published, except that values move from
// memory to the state file and that the file forgets what a later view has compacted.
type view struct {
	root      *node
	rev       int64
	compacted int64 // reads below and watches up to this are refused
	// log holds every version above compacted in the order of the writes. Views share its array.
	log []*version
	// replaced is closed when a newer view is published.
	replaced chan struct{}
}

// machine is the replicated state. apply is called by one goroutine, in the order of the log;
// its outcome depends on nothing but the entries (no clock, no random numbers, no map order).
// Everything else may be called at the same time.
type machine struct {
	view atomic.Pointer[view]
	disk valueStore // nil: everything stays in memory

	// step is held for the whole of one entry, and while the flusher takes what is pending, so that
	// what it takes is the state between two entries.
	step   sync.Mutex
	broken error // an entry could not be applied, so none after it may be. Guarded by step.
	// mu guards what others look at meanwhile. Taken under step.
	mu        sync.Mutex
	applied   uint64
	leases    map[int64]*lease
	lastLease int64
	pending   pending
	waits     []appliedWait
	sessions  sessions // guarded by step
	epoch     uint32   // of the entry, for the index; guarded by step
	// version is the one of the log's format that every member speaks; see version.go. Changed under
	// step.
	version atomic.Int64
	// speaks is Config's.
	speaks int
}

// appliedWait is closed once the machine has passed the index.
type appliedWait struct {
	index uint64
	done  chan struct{}
}

// valueStore holds the values that have been flushed.
type valueStore interface {
	// load fills in the value of each version that memory no longer has; errGone if one is missing.
	load(vs []*version, values [][]byte) error
}

// errGone: the value was compacted away while it was being read; take a newer view.
var errGone = errors.New("raftstore: the value is gone")

type lease struct {
	ttlMillis int64
	keys      map[string]struct{}
}

// pending is what the state file lacks: the overlay.
type pending struct {
	puts   []*version
	dels   []*version
	leases bool
	bytes  int // of puts, without those that are spared
	any    bool
	spared int   // of puts
	after  int64 // the revision that the last flush took: puts has every version after it
}

// result answers one command.
type result struct {
	txn   TxnResult
	lease int64
	// session is the one that was opened.
	session uint64
	err     error
	// index is that of the entry; the machine does not set it.
	index uint64
	// lost says that err is the proposer's, and not the outcome: the command may not have been done.
	lost bool
}

func newMachine(disk valueStore) *machine {
	m := &machine{disk: disk, leases: map[int64]*lease{}, sessions: sessions{byClient: map[uint64]*session{}}, epoch: 1}
	m.version.Store(1)
	m.view.Store(&view{replaced: make(chan struct{})})
	return m
}

// work is a view in the making. It is seen by apply alone.
type work struct {
	m         *machine
	index     uint64
	root      *node
	rev       int64
	compacted int64
	log       []*version
	leases    bool
	puts      []*version
	dels      []*version
	bytes     int
	spared    int
}

// apply executes one log entry. An error means that this node cannot go on.
func (m *machine) apply(index, term uint64, data []byte) (_ []result, err error) {
	m.step.Lock()
	defer m.step.Unlock()
	if m.broken != nil {
		return nil, m.broken
	}
	defer func() { m.broken = err }()
	if index <= m.appliedIndex() {
		return nil, nil // the state file had it already
	}
	cs, err := decodeEntry(m.knownForm(data))
	if err != nil {
		return nil, fmt.Errorf("log entry %d: %w", index, err)
	}
	m.epoch = nextEpoch(m.epoch)
	old := m.view.Load()
	w := &work{m: m, index: index, root: old.root, rev: old.rev, compacted: old.compacted, log: old.log}
	results := make([]result, len(cs))
	for i := range cs {
		if err := w.execute(&cs[i], term, &results[i]); err != nil {
			return nil, fmt.Errorf("log entry %d: %w", index, err)
		}
	}
	m.mu.Lock()
	m.pending.leases = m.pending.leases || w.leases
	if m.disk != nil {
		m.pending.puts = append(m.pending.puts, w.puts...)
		m.pending.dels = append(m.pending.dels, w.dels...)
		m.pending.bytes += w.bytes
		m.pending.spared += w.spared
		m.pending.tidyLocked()
	}
	// Published under mu, so that what the flusher takes and the view agree.
	if w.rev != old.rev || w.compacted != old.compacted {
		m.publish(&view{root: w.root, rev: w.rev, compacted: w.compacted, log: w.log})
	}
	m.advanceLocked(index) // after the view: who is woken reads it at once
	m.mu.Unlock()
	return results, nil
}

func (m *machine) publish(v *view) {
	v.replaced = make(chan struct{})
	close(m.view.Swap(v).replaced)
}

func (m *machine) appliedIndex() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.applied
}

// advanceLocked says that everything up to the index is in.
func (m *machine) advanceLocked(index uint64) {
	m.applied = index
	m.pending.any = true
	keep := m.waits[:0]
	for _, w := range m.waits {
		if w.index <= index {
			close(w.done)
		} else {
			keep = append(keep, w)
		}
	}
	clear(m.waits[len(keep):])
	m.waits = keep
}

// pass notes an entry that is none of the machine's.
func (m *machine) pass(index uint64) {
	m.step.Lock()
	defer m.step.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	if index > m.applied && m.broken == nil {
		m.advanceLocked(index)
	}
}

// passed returns a channel that is closed once everything up to the index is in.
func (m *machine) passed(index uint64) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := appliedWait{index: index, done: make(chan struct{})}
	if index <= m.applied {
		close(w.done)
	} else {
		m.waits = append(m.waits, w)
	}
	return w.done
}

func (w *work) execute(c *command, term uint64, r *result) error {
	if c.request.client == 0 {
		return w.perform(c, term, r)
	}
	if w.m.sessions.done(c.request, w.index, r) {
		return nil
	}
	if err := w.perform(c, term, r); err != nil {
		return err
	}
	w.m.sessions.remember(c.request, r)
	return nil
}

func (w *work) perform(c *command, term uint64, r *result) error {
	switch {
	case c.term != 0 && c.term < term:
		r.err = ErrFenced
	case c.txn != nil:
		return w.txn(c.txn, term, r)
	case c.compact != 0:
		r.err = w.compact(c.compact)
	case c.grant != nil:
		w.m.mu.Lock()
		w.m.lastLease++
		r.lease = w.m.lastLease
		w.m.leases[r.lease] = &lease{ttlMillis: c.grant.ttlMillis, keys: map[string]struct{}{}}
		w.m.mu.Unlock()
		w.leases = true
	case c.revoke != 0:
		return w.revoke(c.revoke, r)
	case c.open:
		r.session = w.m.sessions.open(w.index)
	case c.version != 0:
		w.m.version.Store(max(w.m.version.Load(), int64(c.version)))
	default:
		return fmt.Errorf("%w: empty command", ErrCorrupt)
	}
	return nil
}

func (w *work) txn(t *Txn, term uint64, r *result) error {
	r.txn.Revision = w.rev
	if t.Term != 0 && t.Term < term {
		r.err = ErrFenced
		return nil
	}
	ops := t.Then
	r.txn.Succeeded = true
	for i := range t.If {
		ok, err := w.holds(&t.If[i])
		if err != nil {
			return err
		}
		if !ok && !broken(ruleCompare) {
			ops, r.txn.Succeeded = t.Else, false
			break
		}
	}
	for i := range ops {
		// Checked before anything is written: a Txn is all or nothing.
		if id := ops[i].Lease; ops[i].Type == OpPut && id != 0 && w.m.leases[id] == nil {
			r.err, r.txn = ErrLeaseNotFound, TxnResult{Revision: w.rev}
			return nil
		}
	}
	r.txn.Results = make([]OpResult, len(ops))
	rev, sub := w.rev+1, uint32(0)
	for i := range ops {
		if err := w.op(&ops[i], rev, &sub, &r.txn.Results[i]); err != nil {
			return err
		}
	}
	if sub > 0 {
		w.rev = rev
	}
	r.txn.Revision = w.rev
	return nil
}

func (w *work) op(o *Op, rev int64, sub *uint32, r *OpResult) error {
	switch o.Type {
	case OpGet:
		v := current(w.root.find(o.Key))
		if v == nil {
			return nil
		}
		kvs, err := w.m.read([]*version{v})
		r.KVs = kvs
		return err
	case OpPut:
		v := &version{key: o.Key, create: rev, mod: rev, ver: 1, lease: o.Lease, sub: *sub}
		vers := w.root.find(o.Key)
		if old := current(vers); old != nil {
			v.key, v.create, v.ver = old.key, old.create, old.ver+1
			w.detach(old)
		}
		value := o.Value
		if w.m.disk == nil || value == nil {
			// A copy: the entry's buffer holds a whole batch, which one value would keep alive. With a
			// state file that is until the next flush. And nil says that the value is in the file.
			value = append(make([]byte, 0, len(o.Value)), o.Value...)
		}
		v.value.Store(&value)
		if o.Lease != 0 {
			w.m.mu.Lock()
			w.m.leases[o.Lease].keys[v.key] = struct{}{}
			w.m.mu.Unlock()
		}
		*sub++
		w.append(v, vers)
	case OpDelete:
		vers := w.root.find(o.Key)
		if v := current(vers); v != nil {
			return w.delete([]*version{v}, rev, sub, r)
		}
	case OpDeletePrefix:
		var dead []*version
		w.root.ascend(o.Key, func(key string, vers []*version) bool {
			if !strings.HasPrefix(key, o.Key) {
				return false
			}
			if v := current(vers); v != nil {
				dead = append(dead, v)
			}
			return true
		})
		return w.delete(dead, rev, sub, r)
	default:
		return fmt.Errorf("%w: operation %d is not known", ErrCorrupt, o.Type)
	}
	return nil
}

func (w *work) delete(dead []*version, rev int64, sub *uint32, r *OpResult) error {
	if len(dead) == 0 {
		return nil
	}
	kvs, err := w.m.read(dead)
	if err != nil {
		return err
	}
	for _, v := range dead {
		w.detach(v)
		w.append(&version{key: v.key, mod: rev, sub: *sub, tomb: true}, w.root.find(v.key))
		*sub++
	}
	r.KVs, r.Deleted = kvs, int64(len(dead))
	return nil
}

// append adds v to its key. Views share the arrays: each sees only what was there when it was made,
// and only apply appends.
func (w *work) append(v *version, vers []*version) {
	w.root = w.root.with(v.key, append(vers, v), w.m.epoch)
	w.log = append(w.log, v)
	w.puts = append(w.puts, v)
	w.bytes += v.cost()
}

// detach takes a key away from the lease of its last version.
func (w *work) detach(v *version) {
	if v.lease == 0 {
		return
	}
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	if l := w.m.leases[v.lease]; l != nil {
		delete(l.keys, v.key)
	}
}

func (w *work) holds(c *Compare) (bool, error) {
	v := current(w.root.find(c.Key))
	var order int
	if c.Target == Value {
		var value []byte
		if v != nil {
			kvs, err := w.m.read([]*version{v})
			if err != nil {
				return false, err
			}
			value = kvs[0].Value
		}
		order = bytes.Compare(value, c.Value)
	} else {
		var n int64
		if v != nil {
			switch c.Target {
			case ModRevision:
				n = v.mod
			case Version:
				n = v.ver
			case CreateRevision:
				n = v.create
			default:
				return false, fmt.Errorf("%w: target %d is not known", ErrCorrupt, c.Target)
			}
		}
		order = cmp.Compare(n, c.Int)
	}
	switch c.Relation {
	case Equal:
		return order == 0, nil
	case NotEqual:
		return order != 0, nil
	case Less:
		return order < 0, nil
	case Greater:
		return order > 0, nil
	}
	return false, fmt.Errorf("%w: relation %d is not known", ErrCorrupt, c.Relation)
}

func (w *work) revoke(id int64, r *result) error {
	l := w.m.leases[id]
	if l == nil {
		r.err = ErrLeaseNotFound
		return nil
	}
	keys := make([]string, 0, len(l.keys))
	for k := range l.keys {
		keys = append(keys, k)
	}
	slices.Sort(keys) // the order of a map would differ between replicas
	rev, sub := w.rev+1, uint32(0)
	for _, k := range keys {
		if v := current(w.root.find(k)); v != nil {
			w.append(&version{key: v.key, mod: rev, sub: sub, tomb: true}, w.root.find(k))
			sub++
		}
	}
	if sub > 0 {
		w.rev = rev
	}
	w.m.mu.Lock()
	delete(w.m.leases, id)
	w.m.mu.Unlock()
	w.leases = true
	r.txn.Revision = w.rev
	return nil
}

// compact forgets every version that is not visible at rev or later.
func (w *work) compact(rev int64) error {
	if rev <= w.compacted {
		return ErrCompacted
	}
	if rev > w.rev {
		return ErrFutureRevision
	}
	cut := sort.Search(len(w.log), func(i int) bool { return w.log[i].mod > rev })
	// Only a key that was written above the last compaction can have something to forget.
	for _, v := range w.log[:cut] {
		vers := w.root.find(v.key)
		keep := sort.Search(len(vers), func(i int) bool { return vers[i].mod > rev })
		if keep > 0 && !vers[keep-1].tomb {
			keep-- // this one is visible at rev
		}
		if keep == 0 {
			continue
		}
		for _, dead := range vers[:keep] {
			if !w.spare(dead) {
				w.dels = append(w.dels, dead)
			}
		}
		if keep == len(vers) {
			w.root = w.root.without(v.key, w.m.epoch)
		} else {
			w.root = w.root.with(v.key, slices.Clone(vers[keep:]), w.m.epoch)
		}
	}
	w.log = slices.Clone(w.log[cut:])
	w.compacted = rev
	return nil
}

// read returns the versions with their values.
func (m *machine) read(vs []*version) ([]KV, error) {
	kvs := make([]KV, len(vs))
	values := make([][]byte, len(vs))
	missing := false
	for i, v := range vs {
		if p := v.value.Load(); p != nil {
			values[i] = *p
		} else if !v.tomb {
			missing = true
		}
	}
	if missing {
		if m.disk == nil {
			return nil, errGone
		}
		if err := m.disk.load(vs, values); err != nil {
			return nil, err
		}
	}
	for i, v := range vs {
		kvs[i] = v.kv(values[i])
	}
	return kvs, nil
}
