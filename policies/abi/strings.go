package abi

import "encoding/binary"

// Strings that no node holds any more stay until there are this many and more than those that were kept.
const slack = 1 << 16

// String is the string of an id; empty for one that isn't there.
func (t *NodeTable) String(id uint32) string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if int(id) >= len(t.names) {
		return ""
	}
	return t.names[id]
}

// Lookup is the id of a string, if it has one.
func (t *NodeTable) Lookup(s string) (uint32, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	id, ok := t.ids[s]
	return id, ok
}

// Intern is the id of a string, which gets one if it has none. It is good for this generation. Who interns what
// guests make up bounds how much that is.
func (t *NodeTable) Intern(s string) uint32 {
	if id, ok := t.Lookup(s); ok {
		return id
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.version++
	return t.intern(s)
}

func (t *NodeTable) intern(s string) uint32 {
	id, ok := t.ids[s]
	if ok {
		return id
	}
	id = uint32(len(t.names))
	at := t.text.grow(len(s), t.version)
	copy(t.text.bytes()[at:], s)
	entry := t.strings.grow(8, t.version)
	b := t.strings.bytes()[entry:]
	binary.NativeEndian.PutUint32(b, uint32(at))
	binary.NativeEndian.PutUint32(b[4:], uint32(len(s)))
	s = string(append([]byte(nil), s...)) // what it was cut from may go
	t.ids[s] = id
	t.names = append(t.names, s)
	return id
}

// compactIfWorthwhile begins a generation when what is kept for nodes that are gone has outgrown the rest.
func (t *NodeTable) compactIfWorthwhile() {
	if len(t.names) > 2*t.kept.strings+slack || t.pairs.size/8 > 2*t.kept.pairs+4*slack || t.quantities.size/24 > 2*t.kept.quantities+2*slack {
		t.compact()
		t.kept.strings, t.kept.pairs, t.kept.quantities = len(t.names), t.pairs.size/8, t.quantities.size/24
	}
}

// compact keeps what the nodes hold. Rows stay where they are; ids change.
func (t *NodeTable) compact() {
	names, pairs, quantities := t.names, t.Pairs(), t.Quantities()
	t.version++
	t.generation++
	t.clear()
	again := func(id uint32) uint32 { return t.intern(names[id]) }
	records := t.Records()
	for i := range records {
		r := &records[i]
		t.nodes.touch(i*RecordSize, RecordSize, t.version)
		r.Name, r.Zone, r.Region, r.HostName = again(r.Name), again(r.Zone), again(r.Region), again(r.HostName)
		for _, run := range [2]struct{ first, n *uint32 }{{&r.Labels, &r.LabelCount}, {&r.Taints, &r.TaintCount}} {
			n := *run.n
			if run.n == &r.TaintCount {
				n *= 2
			}
			t.labels = t.labels[:0]
			for _, p := range pairs[*run.first : *run.first+n] {
				t.labels = append(t.labels, TablePair{again(p.Key), again(p.Value)})
			}
			if run.n == &r.LabelCount {
				sortPairs(t.labels)
			}
			*run.first, _ = setRun(&t.pairs, &t.freePairs, 0, 0, t.labels, t.version)
		}
		t.entries = t.entries[:0]
		for _, q := range quantities[r.Quantities : r.Quantities+r.QuantityCount] {
			q.Name = again(q.Name)
			t.entries = append(t.entries, q)
		}
		sortQuantities(t.entries)
		r.Quantities, _ = setRun(&t.quantities, &t.freeQuants, 0, 0, t.entries, t.version)
	}
}
