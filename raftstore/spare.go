package raftstore

import "slices"

// A busy store forgets nearly all that it writes within seconds: what was written and forgotten again since the last
// flush never gets to the state file. It leaves what is pending when it is compacted, so that the memory that pending
// takes, and the time until a flush is worth it, are those of what is kept.

// spare says whether the version, which is compacted away now, is one that no flush has taken yet. Called under step.
func (w *work) spare(v *version) bool {
	if w.m.disk == nil || v.mod <= w.m.pending.after {
		return false
	}
	v.spared = true // its value stays in memory, for who reads an older view
	w.spared++
	w.bytes -= v.cost()
	return true
}

// cost is what a version adds to the pending bytes.
func (v *version) cost() int {
	n := len(v.key) + 200
	if p := v.value.Load(); p != nil {
		n += len(*p)
	}
	return n
}

// tidyLocked drops what was spared once it is most of what is pending.
func (p *pending) tidyLocked() {
	if p.spared > 1000 && p.spared > len(p.puts)/2 {
		p.puts = slices.DeleteFunc(p.puts, func(v *version) bool { return v.spared })
		p.spared = 0
	}
}
