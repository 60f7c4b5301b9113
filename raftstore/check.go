package raftstore

import (
	"context"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// Check walks everything and returns what is wrong, joined, the first finding first; nil if nothing
// is. In memory: the order and balance of the index, the chain of revisions and versions of each key,
// the log of changes, the leases. On disk: every page and checksum of the state file, every record of
// the raft log, raft's stable values, the snapshot note, and what each says of the others. It reads
// all of the folder: it is for tests, and for whoever doubts a disk. Writes wait meanwhile.
func (s *Store) Check(ctx context.Context) error {
	onDisk := s.files.state != nil && s.fail.get() == nil
	if onDisk {
		s.files.state.flushing.Lock()
		defer s.files.state.flushing.Unlock()
	}
	s.m.step.Lock()
	defer s.m.step.Unlock()
	if onDisk {
		t, err := s.m.takeStill()
		if err == nil {
			err = s.files.state.flushTaken(t)
		}
		if err != nil {
			s.fail.set(err)
			return advised(err)
		}
	}
	var found findings
	v := s.m.view.Load()
	known := s.m.checkIndex(ctx, v, found.bad)
	if onDisk {
		s.files.check(ctx, s.m, v, known, found.bad)
	}
	return errors.Join(append(found.errs, context.Cause(ctx))...)
}

// CheckFolder is Check for a folder that no Store has open, of which it changes nothing. cfg says
// where it is, and with which KeyProvider it is sealed.
func CheckFolder(ctx context.Context, cfg Config) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	f, err := openToRead(&cfg)
	if err != nil {
		return fmt.Errorf("check %s: %w", cfg.Dir, err)
	}
	defer func() { _ = f.close() }()
	m := newMachine(f.state)
	if err := f.state.fill(m); err != nil {
		return fmt.Errorf("check %s: %w", cfg.Dir, err)
	}
	var found findings
	v := m.view.Load()
	known := m.checkIndex(ctx, v, found.bad)
	f.check(ctx, m, v, known, found.bad)
	return errors.Join(append(found.errs, context.Cause(ctx))...)
}

type findings struct{ errs []error }

func (f *findings) bad(format string, args ...any) {
	if len(f.errs) < 100 {
		f.errs = append(f.errs, fmt.Errorf("%w: "+format, append([]any{ErrCorrupt}, args...)...))
	}
}

type place struct {
	mod int64
	sub uint32
}

func (m *machine) checkIndex(ctx context.Context, v *view, bad func(string, ...any)) map[place]*version {
	known := map[place]*version{}
	last, first := "", true
	recent := 0
	v.root.ascend("", func(key string, vers []*version) bool {
		if !first && key <= last {
			bad("key %q comes after %q", key, last)
		}
		last, first = key, false
		if len(vers) == 0 {
			bad("%q has no versions", key)
		}
		for i, x := range vers {
			at := place{x.mod, x.sub}
			switch other := known[at]; {
			case other != nil:
				bad("%q and %q have both version %d.%d", other.key, key, x.mod, x.sub)
			case x.key != key || x.mod <= 0 || x.mod > v.rev || !x.tomb && (x.create <= 0 || x.create > x.mod):
				bad("version %d.%d of %q, created at %d, in a store at revision %d", x.mod, x.sub, key, x.create, v.rev)
			case !x.tomb && (x.ver == 1) != (x.create == x.mod):
				bad("version %d of %q is the write number %d since its creation at %d", x.mod, key, x.ver, x.create)
			}
			if i+1 < len(vers) && vers[i+1].mod <= v.compacted {
				bad("version %d of %q was replaced before %d and is kept", x.mod, key, v.compacted)
			}
			if i > 0 {
				checkSuccession(vers[i-1], x, bad)
			}
			known[at] = x
			if x.mod > v.compacted {
				recent++
			}
		}
		if x := current(vers); x != nil && x.lease != 0 {
			if l := m.leases[x.lease]; l == nil {
				bad("%q is attached to lease %d, which is not there", key, x.lease)
			} else if _, ok := l.keys[key]; !ok {
				bad("%q is attached to lease %d, which does not know it", key, x.lease)
			}
		}
		return ctx.Err() == nil
	})
	checkHeap(v.root, bad)
	m.checkLog(v, known, recent, bad)
	for id, l := range m.leases {
		if id <= 0 || id > m.lastLease || l.ttlMillis <= 0 {
			bad("lease %d of %d ms, and the last one granted was %d", id, l.ttlMillis, m.lastLease)
		}
		for key := range l.keys {
			if x := current(v.root.find(key)); x == nil || x.lease != id {
				bad("lease %d holds %q, which does not know it", id, key)
			}
		}
	}
	if v.compacted > v.rev {
		bad("compacted to %d, beyond revision %d", v.compacted, v.rev)
	}
	return known
}

// checkLog checks the changes that watchers read: all of them above the compaction, in order.
func (m *machine) checkLog(v *view, known map[place]*version, recent int, bad func(string, ...any)) {
	prev := place{mod: v.compacted}
	for i, x := range v.log {
		switch at := (place{x.mod, x.sub}); {
		case x.mod < prev.mod, i > 0 && x.mod == prev.mod && x.sub <= prev.sub, i == 0 && x.mod <= prev.mod:
			bad("the log of changes has %d.%d after %d.%d", x.mod, x.sub, prev.mod, prev.sub)
		case known[at] != x:
			bad("version %d.%d of %q is in the log of changes and not in the index", x.mod, x.sub, x.key)
		default:
			prev = at
		}
	}
	if len(v.log) != recent {
		bad("the log of changes has %d versions, and the index %d since revision %d", len(v.log), recent, v.compacted)
	}
}

func checkSuccession(a, b *version, bad func(string, ...any)) {
	switch {
	case b.mod <= a.mod:
		bad("versions %d and %d of %q are out of order", a.mod, b.mod, a.key)
	case b.tomb && a.tomb:
		bad("%q is deleted twice, at %d and %d", a.key, a.mod, b.mod)
	case !b.tomb && !a.tomb && (b.ver != a.ver+1 || b.create != a.create):
		bad("version %d of %q does not follow from version %d", b.mod, a.key, a.mod)
	case !b.tomb && a.tomb && (b.ver != 1 || b.create != b.mod):
		bad("version %d of %q does not begin anew", b.mod, a.key)
	}
}

func checkHeap(n *node, bad func(string, ...any)) {
	if n == nil {
		return
	}
	if n.prio != priority(n.key) {
		bad("the index has the wrong priority at %q", n.key)
	}
	for _, c := range []*node{n.left, n.right} {
		if c != nil && c.prio > n.prio {
			bad("the index is out of balance at %q", n.key)
		}
		checkHeap(c, bad)
	}
}

// check compares the files with each other and with what memory knows; the two agree right after a
// flush. It is called with flushing and step held.
func (f *files) check(ctx context.Context, m *machine, v *view, known map[place]*version, bad func(string, ...any)) {
	f.state.check(ctx, m, v, known, bad)
	f.segs.check(bad)
	f.stable.(*stableStore).check(bad)
	f.snaps.check(bad)
	e, err := f.ends(f.state.durable)
	if err == nil {
		err = e.check()
	}
	if err != nil {
		bad("%v", err)
	}
}

func (s *stateFile) check(ctx context.Context, m *machine, v *view, known map[place]*version, bad func(string, ...any)) {
	if damage := checkPages(s.path, true); len(damage) > 0 {
		for _, err := range damage {
			bad("state file: %v", err)
		}
		return // whatever is read from it means nothing
	}
	err := s.view(func(tx *bolt.Tx) error {
		s.checkMeta(tx, m, v, bad)
		open := s.ring.opener()
		leases := 0
		err := tx.Bucket(bucketLease).ForEach(func(k, t []byte) error {
			leases++
			id, ttl, err := openLease(k, t, &open)
			if err != nil {
				bad("state file: %v", err)
			} else if l := m.leases[id]; l == nil || l.ttlMillis != ttl {
				bad("lease %d of %d ms is in the file and not in memory", id, ttl)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if leases != len(m.leases) {
			bad("%d leases in the file, %d in memory", leases, len(m.leases))
		}
		return s.checkVersions(ctx, tx, known, bad)
	})
	if err != nil {
		bad("state file: %v", err)
	}
}

func (s *stateFile) checkMeta(tx *bolt.Tx, m *machine, v *view, bad func(string, ...any)) {
	meta, err := s.ring.stateMeta(tx)
	switch {
	case err != nil:
		bad("state file: %v", err)
	case meta.revision != v.rev || meta.compacted != v.compacted:
		bad("the file is at revision %d, compacted to %d; memory is at %d, compacted to %d", meta.revision, meta.compacted, v.rev, v.compacted)
	case meta.lease != m.lastLease:
		bad("the last lease is %d in the file, %d in memory", meta.lease, m.lastLease)
	}
}

func (s *stateFile) checkVersions(ctx context.Context, tx *bolt.Tx, known map[place]*version, bad func(string, ...any)) error {
	values := tx.Bucket(bucketVal)
	open, openValue := s.ring.opener(), s.ring.opener()
	n, valued := 0, 0
	err := tx.Bucket(bucketRev).ForEach(func(k, rec []byte) error {
		n++
		r, err := openRecord(k, rec, &open)
		if err != nil {
			bad("state file: %v", err)
			return nil
		}
		x := known[place{r.mod, r.sub}]
		if x == nil || x.key != r.key || x.ver != r.ver || x.tomb != r.tomb || x.create != r.create || x.lease != r.lease || string(r.diskKey()) != string(k) {
			bad("version %d.%d of %q is in the file and not in memory", r.mod, r.sub, r.key)
		}
		value := values.Get(k)
		if value != nil {
			valued++
		}
		if (value == nil) != r.tomb {
			bad("version %d.%d of %q has a value only if it is not a deletion", r.mod, r.sub, r.key)
		} else if value != nil {
			if _, err := openValue.blob(value, placeIn(bucketVal, k)); err != nil {
				bad("the value of %q at revision %d: %v", r.key, r.mod, err)
			}
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	if n != len(known) {
		bad("%d versions in the file, %d in memory", n, len(known))
	}
	all := 0
	if err := values.ForEach(func(_, _ []byte) error { all++; return nil }); err != nil {
		return err
	}
	if all != valued {
		bad("%d values in the file belong to no version", all-valued)
	}
	return nil
}
