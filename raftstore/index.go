package raftstore

import (
	"math"
	"sort"
	"sync/atomic"
)

// version is one version of one key. All but value and spared is immutable.
type version struct {
	key              string
	create, mod, ver int64
	lease            int64
	sub              uint32 // place among the writes of one revision
	tomb             bool   // the key was deleted here
	spared           bool   // never to be in the state file; see spare.go. Set under the machine's step.
	// value is set while the value is only in memory, and nil once it is in the state file.
	value atomic.Pointer[[]byte]
}

func (v *version) kv(value []byte) KV {
	if v.tomb {
		return KV{Key: v.key, ModRevision: v.mod}
	}
	return KV{Key: v.key, Value: value, CreateRevision: v.create, ModRevision: v.mod, Version: v.ver, Lease: v.lease}
}

// node is a node of the index: a persistent treap, ordered by key, balanced by the hash of the
// key. A root never changes once it is published, so that readers need no lock; a write copies
// the path to its key, but not what was copied for the same entry of the log already: that has the
// entry's epoch, and nobody else has seen it.
type node struct {
	key         string
	prio        uint32
	epoch       uint32
	vers        []*version // ascending; never empty
	left, right *node
}

// own returns a copy of n to write to: n itself if it is one.
func (n *node) own(epoch uint32) *node {
	if epoch != 0 && n.epoch == epoch {
		return n
	}
	c := *n
	c.epoch = epoch
	return &c
}

// nextEpoch never returns to an earlier one: at the end every write copies, as with 0.
func nextEpoch(epoch uint32) uint32 {
	if epoch == 0 || epoch == math.MaxUint32 {
		return 0
	}
	return epoch + 1
}

func priority(key string) uint32 {
	// FNV-1a alone leaves sequential keys in order; what follows spreads the low bits upwards.
	x := uint32(2166136261)
	for i := range len(key) {
		x = (x ^ uint32(key[i])) * 16777619
	}
	x ^= x >> 16
	x *= 0x85ebca6b
	x ^= x >> 13
	x *= 0xc2b2ae35
	return x ^ x>>16
}

func (n *node) find(key string) []*version {
	for n != nil {
		switch {
		case key < n.key:
			n = n.left
		case key > n.key:
			n = n.right
		default:
			return n.vers
		}
	}
	return nil
}

// with returns a tree in which key has vers. The root of what it returns may be written to.
func (n *node) with(key string, vers []*version, epoch uint32) *node {
	if n == nil {
		return &node{key: key, prio: priority(key), epoch: epoch, vers: vers}
	}
	c := n.own(epoch)
	switch {
	case key < n.key:
		l := n.left.with(key, vers, epoch)
		if l.prio > c.prio {
			c.left, l.right = l.right, c
			return l
		}
		c.left = l
	case key > n.key:
		r := n.right.with(key, vers, epoch)
		if r.prio > c.prio {
			c.right, r.left = r.left, c
			return r
		}
		c.right = r
	default:
		c.vers = vers
	}
	return c
}

// without returns a tree that lacks key.
func (n *node) without(key string, epoch uint32) *node {
	if n == nil {
		return nil
	}
	switch {
	case key < n.key:
		c := n.own(epoch)
		c.left = n.left.without(key, epoch)
		return c
	case key > n.key:
		c := n.own(epoch)
		c.right = n.right.without(key, epoch)
		return c
	}
	return join(n.left, n.right, epoch)
}

func join(l, r *node, epoch uint32) *node {
	switch {
	case l == nil:
		return r
	case r == nil:
		return l
	case l.prio > r.prio:
		c := l.own(epoch)
		c.right = join(l.right, r, epoch)
		return c
	}
	c := r.own(epoch)
	c.left = join(l, r.left, epoch)
	return c
}

// ascend calls fn for each key from ≤ key in order, until fn returns false.
func (n *node) ascend(from string, fn func(key string, vers []*version) bool) bool {
	if n == nil {
		return true
	}
	if from <= n.key {
		// An equal key has nothing smaller to offer on its left.
		if from < n.key && !n.left.ascend(from, fn) {
			return false
		}
		if !fn(n.key, n.vers) {
			return false
		}
	}
	return n.right.ascend(from, fn)
}

// buildIndex makes the tree of many keys at once.
func buildIndex(byKey map[string][]*version) *node {
	keys := make([]string, 0, len(byKey))
	for k := range byKey {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	var spine []*node // the right spine, root first
	for _, k := range keys {
		n := &node{key: k, prio: priority(k), vers: byKey[k]}
		var last *node
		for len(spine) > 0 && spine[len(spine)-1].prio < n.prio {
			last = spine[len(spine)-1]
			spine = spine[:len(spine)-1]
		}
		n.left = last
		if len(spine) > 0 {
			spine[len(spine)-1].right = n
		}
		spine = append(spine, n)
	}
	if len(spine) == 0 {
		return nil
	}
	return spine[0]
}

// at returns the version that was current at rev, or nil if the key did not exist then.
func at(vers []*version, rev int64) *version {
	i := sort.Search(len(vers), func(i int) bool { return vers[i].mod > rev })
	if i == 0 || vers[i-1].tomb {
		return nil
	}
	return vers[i-1]
}

// before returns the version that v replaced, or nil if the key did not exist.
func before(vers []*version, v *version) *version {
	i := sort.Search(len(vers), func(i int) bool { return vers[i].mod >= v.mod })
	if i == 0 || vers[i-1].tomb {
		return nil
	}
	return vers[i-1]
}

// current returns the newest version, or nil if the key does not exist.
func current(vers []*version) *version {
	if len(vers) == 0 || vers[len(vers)-1].tomb {
		return nil
	}
	return vers[len(vers)-1]
}

// prefixEnd is the least key above every key with the prefix; "" if there is none.
func prefixEnd(prefix string) string {
	b := []byte(prefix)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] < 0xff {
			b[i]++
			return string(b[:i+1])
		}
	}
	return ""
}
