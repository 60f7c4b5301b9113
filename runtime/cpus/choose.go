package cpus

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// ErrTooFew is returned where fewer CPUs are free than are asked for.
var ErrTooFew = errors.New("too few CPUs are free")

// Choose chooses n of the free CPUs. Near are the NUMA nodes of the container's devices; none: no matter. Best effort:
// where those nodes have too few, the CPUs come from as few others as can be.
func (m *Machine) Choose(free Set, n int, near Set) (Set, error) {
	if n < 1 || n > len(free) {
		return nil, fmt.Errorf("choose %d of %d CPUs: %w", n, len(free), ErrTooFew)
	}
	byNode := map[int][]CPU{}
	for _, c := range m.CPUs {
		if free.Has(c.ID) {
			byNode[c.NUMA] = append(byNode[c.NUMA], c)
		}
	}
	var out []int
	for _, node := range m.nodes(byNode, n, near) {
		out = append(out, take(byNode[node], min(n-len(out), len(byNode[node])))...)
	}
	return Of(out...), nil
}

// nodes chooses the NUMA nodes to take n CPUs from, in the order of taking: fewest that no device is near to, then
// fewest, then those with the least to spare, so that the others stay whole.
func (m *Machine) nodes(byNode map[int][]CPU, n int, near Set) []int {
	var all []int
	for node := range byNode {
		all = append(all, node)
	}
	slices.Sort(all)
	all = all[:min(len(all), 16)] // 65,536 subsets; no machine that is known has more nodes with CPUs
	type option struct{ away, size, spare, mask int }
	best, found := option{}, false
	for mask := 1; mask < 1<<len(all); mask++ {
		o := option{mask: mask}
		for i, node := range all {
			if mask>>i&1 == 0 {
				continue
			}
			o.size++
			o.spare += len(byNode[node])
			if len(near) > 0 && !near.Has(node) {
				o.away++
			}
		}
		if o.spare < n {
			continue
		}
		if !found || cmp.Or(cmp.Compare(o.away, best.away), cmp.Compare(o.size, best.size), cmp.Compare(o.spare, best.spare), cmp.Compare(o.mask, best.mask)) < 0 {
			best, found = o, true
		}
	}
	var out []int
	for i, node := range all {
		if best.mask>>i&1 == 1 {
			out = append(out, node)
		}
	}
	slices.SortStableFunc(out, func(a, b int) int { // the near ones wholly, the rest from the others
		if len(near) > 0 && near.Has(a) != near.Has(b) {
			if near.Has(a) {
				return -1
			}
			return 1
		}
		return 0
	})
	return out
}

// take takes n CPUs of one node: whole cores, and for what remains threads of cores that are in use already.
func take(free []CPU, n int) (out []int) {
	var order []string
	cores := map[string][]int{}
	threads := 1
	for _, c := range free {
		if cores[c.Core] == nil {
			order = append(order, c.Core)
		}
		cores[c.Core] = append(cores[c.Core], c.ID)
		threads = max(threads, len(cores[c.Core]))
	}
	for _, core := range order {
		if ids := cores[core]; len(ids) == threads && len(out)+threads <= n {
			out = append(out, ids...)
			delete(cores, core)
		}
	}
	slices.SortStableFunc(order, func(a, b string) int { return len(cores[a]) - len(cores[b]) })
	for _, core := range order {
		for _, id := range cores[core] {
			if len(out) < n {
				out = append(out, id)
			}
		}
	}
	return out
}
