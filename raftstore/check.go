package raftstore

import (
	"context"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// Check walks everything and returns what is wrong, joined; nil if nothing is. It reads the whole
// state file: it is for tests, and for whoever doubts a disk. Writes wait meanwhile.
func (s *Store) Check(ctx context.Context) error {
	if s.files.state != nil && s.fail.get() == nil {
		if err := s.files.state.flush(s.m); err != nil {
			s.fail.set(err)
			return err
		}
	}
	s.m.step.Lock()
	defer s.m.step.Unlock()
	var errs []error
	bad := func(format string, args ...any) {
		if len(errs) < 100 {
			errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrCorrupt}, args...)...))
		}
	}
	v := s.m.view.Load()
	known := s.m.checkIndex(ctx, v, bad)
	if s.files.state != nil && s.fail.get() == nil && s.m.pendingBytes() == 0 {
		s.files.state.check(v, known, bad)
	}
	return errors.Join(append(errs, context.Cause(ctx))...)
}

type place struct {
	mod int64
	sub uint32
}

func (m *machine) checkIndex(ctx context.Context, v *view, bad func(string, ...any)) map[place]*version {
	known := map[place]*version{}
	last, first := "", true
	v.root.ascend("", func(key string, vers []*version) bool {
		if !first && key <= last {
			bad("key %q comes after %q", key, last)
		}
		last, first = key, false
		for i, x := range vers {
			if x.key != key || x.mod > v.rev || x.create > x.mod {
				bad("version %d.%d of %q", x.mod, x.sub, key)
			}
			if i+1 < len(vers) && vers[i+1].mod <= v.compacted {
				bad("version %d of %q was replaced before %d and is kept", x.mod, key, v.compacted)
			}
			if i > 0 {
				checkSuccession(vers[i-1], x, bad)
			}
			known[place{x.mod, x.sub}] = x
		}
		return ctx.Err() == nil
	})
	checkHeap(v.root, bad)
	prev := place{mod: v.compacted}
	for _, x := range v.log {
		if at := (place{x.mod, x.sub}); x.mod < prev.mod || x.mod == prev.mod && x.sub <= prev.sub && prev.mod > v.compacted {
			bad("the log has %d.%d after %d.%d", x.mod, x.sub, prev.mod, prev.sub)
		} else {
			prev = at
		}
		if known[prev] != x {
			bad("version %d.%d of %q is in the log and not in the index", x.mod, x.sub, x.key)
		}
	}
	for id, l := range m.leases {
		for key := range l.keys {
			if x := current(v.root.find(key)); x == nil || x.lease != id {
				bad("lease %d holds %q, which does not know it", id, key)
			}
		}
	}
	return known
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
	for _, c := range []*node{n.left, n.right} {
		if c != nil && c.prio > n.prio {
			bad("the index is out of balance at %q", n.key)
		}
		checkHeap(c, bad)
	}
}

// check compares the file with what memory knows; the two agree right after a flush.
func (s *stateFile) check(v *view, known map[place]*version, bad func(string, ...any)) {
	err := s.view(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			bad("state file: %v", err)
		}
		values := tx.Bucket(bucketVal)
		n := 0
		open := s.ring.opener()
		err := tx.Bucket(bucketRev).ForEach(func(k, rec []byte) error {
			r, err := openRecord(k, rec, &open)
			if err != nil {
				return err
			}
			n++
			x := known[place{r.mod, r.sub}]
			if x == nil || x.key != r.key || x.ver != r.ver || x.tomb != r.tomb || x.create != r.create {
				bad("version %d.%d of %q is in the file and not in memory", r.mod, r.sub, r.key)
			}
			if (values.Get(k) == nil) != r.tomb {
				bad("version %d.%d of %q has a value only if it is not a deletion", r.mod, r.sub, r.key)
			}
			return nil
		})
		if n != len(known) {
			bad("%d versions in the file, %d in memory", n, len(known))
		}
		if meta, err := s.ring.stateMeta(tx); err != nil {
			bad("state file: %v", err)
		} else if meta.revision != v.rev {
			bad("the file ends at revision %d, memory at %d", meta.revision, v.rev)
		}
		return err
	})
	if err != nil {
		bad("state file: %v", err)
	}
}
