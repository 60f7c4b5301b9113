package reconcile

import "sync"

// Groups finds the keys of a group, where going over all objects would cost too much: the pods that use a claim, say. The Map of
// a Watch feeds it before it enqueues what has changed, so that what it doesn't know yet is only late. Safe for concurrent use.
type Groups struct {
	mu sync.Mutex
	of map[Key]map[Key]bool
}

// Put records that k is of the group.
func (g *Groups) Put(group, k Key) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.of == nil {
		g.of = map[Key]map[Key]bool{}
	}
	if g.of[group] == nil {
		g.of[group] = map[Key]bool{}
	}
	g.of[group][k] = true
}

// Drop records that it is no more.
func (g *Groups) Drop(group, k Key) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if delete(g.of[group], k); len(g.of[group]) == 0 {
		delete(g.of, group)
	}
}

// Of are the keys of a group, in no order.
func (g *Groups) Of(group Key) (out []Key) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for k := range g.of[group] {
		out = append(out, k)
	}
	return out
}
