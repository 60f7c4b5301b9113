package raftstore

import "slices"

// spare leaves out what was written and forgotten again since the last flush: it never gets to the file.
// A busy store forgets nearly all that it writes within seconds. Only flushes call it, one after the other.
func (t *taken) spare() {
	// What the file lacks is in puts, all of it.
	t.dels = slices.DeleteFunc(t.dels, func(v *version) bool {
		v.spared = v.fresh
		return v.spared
	})
	t.puts = slices.DeleteFunc(t.puts, func(v *version) bool {
		v.fresh = false
		return v.spared // its value stays in memory, for who reads an older view
	})
}
