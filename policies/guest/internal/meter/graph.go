package meter

// recursive says which of the module's own functions may be on the stack twice: those on a cycle of the graph of calls.
// A call through a table may reach every function that is ever referred to.
func (m *Module) recursive(plans []*plan) []bool {
	n := len(plans)
	table := n // a node for all calls through tables
	targets := make([]uint32, 0, len(m.elemFuncs))
	seen := make([]bool, n)
	for _, f := range m.elemFuncs {
		if own := int(f) - m.imported.funcs; own >= 0 && !seen[own] {
			seen[own] = true
			targets = append(targets, uint32(own))
		}
	}
	out := make([][]uint32, n+1)
	out[table] = targets
	for v, p := range plans {
		for _, c := range p.callees {
			switch {
			case c.of == anyone:
				out[v] = append(out[v], uint32(table))
			case int(c.of) >= m.imported.funcs:
				out[v] = append(out[v], c.of-uint32(m.imported.funcs))
			}
		}
	}

	// Tarjan's strongly connected components, with a stack of its own.
	type visit struct{ node, next int }
	index := make([]int, n+1)
	low := make([]int, n+1)
	onStack := make([]bool, n+1)
	cyclic := make([]bool, n+1)
	var stack []int
	count := 0
	for root := range n + 1 {
		if index[root] > 0 {
			continue
		}
		visits := []visit{{root, 0}}
		for len(visits) > 0 {
			v := &visits[len(visits)-1]
			if v.next == 0 {
				count++
				index[v.node], low[v.node] = count, count
				stack = append(stack, v.node)
				onStack[v.node] = true
			}
			next := out[v.node]
			descended := false
			for v.next < len(next) {
				to := int(next[v.next])
				v.next++
				if to == v.node {
					cyclic[to] = true
				}
				if index[to] == 0 {
					visits = append(visits, visit{to, 0})
					descended = true
					break
				}
				if onStack[to] {
					low[v.node] = min(low[v.node], index[to])
				}
			}
			if descended {
				continue
			}
			node := v.node
			visits = visits[:len(visits)-1]
			if len(visits) > 0 {
				parent := visits[len(visits)-1].node
				low[parent] = min(low[parent], low[node])
			}
			if low[node] == index[node] {
				for size := 1; ; size++ {
					w := stack[len(stack)-1]
					stack = stack[:len(stack)-1]
					onStack[w] = false
					if w == node {
						cyclic[w] = cyclic[w] || size > 1
						break
					}
					cyclic[w] = true
				}
			}
		}
	}
	return cyclic[:n]
}

// leaves says what it costs to call each function that isn't charged itself, 0 for all others: short ones that neither
// call nor loop. What is exported is charged, since the host, which calls it, wouldn't pay. It charges those who call them.
func (m *Module) leaves(plans []*plan) []uint64 {
	cost := make([]uint64, len(plans))
	for i, p := range plans {
		sum := uint64(0)
		for _, q := range p.points {
			sum += q.cost
		}
		if len(p.callees) == 0 && !p.loops && !p.lengths && sum <= maxLeaf {
			cost[i] = sum
		}
	}
	for _, e := range m.Exports {
		if own := int(e.index) - m.imported.funcs; e.Kind == Func && own >= 0 {
			cost[own] = 0
		}
	}
	if own := int(m.start) - m.imported.funcs; m.Starts && own >= 0 {
		cost[own] = 0
	}
	dearest := uint64(0) // of those that a table may hold
	for _, f := range m.elemFuncs {
		if own := int(f) - m.imported.funcs; own >= 0 {
			dearest = max(dearest, cost[own])
		}
	}
	for _, p := range plans {
		for _, c := range p.callees {
			if c.of == anyone {
				p.points[c.point].cost += dearest
			} else if own := int(c.of) - m.imported.funcs; own >= 0 {
				p.points[c.point].cost += cost[own]
			}
		}
	}
	return cost
}

// maxLeaf is the cost up to which a function may be a leaf.
const maxLeaf = 64
