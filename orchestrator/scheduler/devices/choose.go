package devices

import (
	"cmp"
	"slices"

	"github.com/pintle/pintle/gpu/topology"
)

// Choose chooses the devices, where the request fits. Of GPUs that could give a part the policy says which; nil takes the
// one with the least left. cpu and memory are what of the node's is free, for the policy. On a node that is counted
// only there is nothing to choose: no grants.
func (n *Node) Choose(r *Request, policy Policy, cpu, memory int64) ([]topology.Grant, *Refusal) {
	switch {
	case r.Empty():
		return nil, nil
	case r.bad != "" || !n.listed || n.broken != "":
		return nil, n.Fits(r)
	}
	return n.choose(r, n.ordering(r, policy, cpu, memory))
}

// ordering is in which order the policy wants the GPUs for the one part that a pod asks for, if it has an opinion.
func (n *Node) ordering(r *Request, policy Policy, cpu, memory int64) func(gpu int) int {
	if policy == nil || len(r.main) != 1 || len(r.init) != 0 || (r.main[0].part == topology.Share{}) {
		return nil
	}
	v, class, at := n.View(r, cpu, memory)
	_, best := policy.Rate(v, class)
	if best < 0 || best >= len(at) {
		return nil
	}
	return func(gpu int) int {
		if gpu == at[best] {
			return 0
		}
		return 1
	}
}

// trial is a choice under way.
type trial struct {
	n      *Node
	r      *Request
	s      *state
	first  func(gpu int) int // which GPU is wanted first for a part; nil: no opinion
	grants []held
}

func (n *Node) choose(r *Request, first func(gpu int) int) ([]topology.Grant, *Refusal) {
	t := &trial{n: n, r: r, s: n.state().clone(), first: first}
	if refusal := t.main(); refusal != nil {
		return nil, refusal
	}
	for i := range r.init {
		if refusal := t.initial(&r.init[i]); refusal != nil {
			return nil, refusal
		}
	}
	before := n.state()
	for i := range t.s.gpus { // shares with and without an amount of memory, in containers before and after, don't always meet
		if t.s.gpus[i].part == before.gpus[i].part {
			continue // a GPU that others have: more than there is of it, where one waits for another's end
		}
		if left := free(&n.told.GPUs[i], &t.s.gpus[i]); n.told.Mode == fractions && left.Memory < 0 {
			return nil, n.insufficient(topology.MemoryResource, -left.Memory)
		} else if n.told.Mode == fractions && left.Milli < 0 {
			return nil, n.insufficient(topology.ShareResource, int64(-left.Milli))
		}
	}
	out := make([]topology.Grant, len(t.grants))
	for i := range t.grants {
		out[i] = t.grants[i].Grant
	}
	return out, nil
}

// main places what runs together.
func (t *trial) main() *Refusal {
	total := 0
	for i := range t.r.main {
		total += t.r.main[i].whole
	}
	if refusal := t.n.fitsWhole(t.s, total); total > 0 && refusal != nil {
		return refusal
	}
	if refusal := t.whole(t.r.main, total, nil); refusal != nil {
		return refusal
	}
	var asked []instance
	for i := range t.r.main {
		asked = append(asked, instancesOf(&t.r.main[i])...)
	}
	if refusal := t.instances(asked, nil); refusal != nil {
		return refusal
	}
	var parts []*want
	for i := range t.r.main {
		if t.r.main[i].part != (topology.Share{}) {
			parts = append(parts, &t.r.main[i])
		}
	}
	slices.SortStableFunc(parts, func(a, b *want) int {
		return cmp.Or(cmp.Compare(b.part.Milli, a.part.Milli), cmp.Compare(b.part.Memory, a.part.Memory))
	})
	steps := maxSteps
	if len(parts) > 0 && !t.parts(parts, nil, &steps) {
		for _, w := range parts { // the first that doesn't fit by itself says why
			if refusal := t.n.fitsPart(t.s, w, t.r.soft); refusal != nil {
				return refusal
			}
		}
		return t.n.insufficient(topology.ShareResource, 1)
	}
	return nil
}

// initial places an init container, which may have the devices of those that don't run beside it.
func (t *trial) initial(w *want) *Refusal {
	after := t.s
	before := t.n.state().clone()
	var beside, others []held
	for _, h := range t.grants {
		if h.when.beside(w.when) {
			beside = append(beside, h)
		} else {
			others = append(others, h)
		}
	}
	t.n.take(before, beside)
	for i := range before.gpus { // instances stay while the pod does
		before.gpus[i].promised = after.gpus[i].promised
		for j, used := range after.gpus[i].used {
			before.gpus[i].used[j] = used
		}
	}
	t.s = before
	defer func() {
		t.s = t.n.state().clone()
		t.n.take(t.s, t.grants)
	}()
	if w.whole > 0 {
		if refusal := t.n.fitsWhole(before, w.whole); refusal != nil {
			return refusal
		}
		if refusal := t.whole([]want{*w}, w.whole, others); refusal != nil {
			return refusal
		}
	}
	if refusal := t.instances(instancesOf(w), others); refusal != nil {
		return refusal
	}
	steps := maxSteps
	if w.part != (topology.Share{}) && !t.parts([]*want{w}, others, &steps) {
		return t.n.fitsPart(t.s, w, t.r.soft)
	}
	return nil
}

func (t *trial) give(w *want, g topology.Grant) {
	g.Container = w.container
	t.grants = append(t.grants, held{g, w.when})
}

// whole gives containers whole GPUs, or turns on them: together those with the best links, and of these to each container
// again the best. Those of others, who are gone then, come first.
func (t *trial) whole(wants []want, total int, others []held) *Refusal {
	if total == 0 {
		return nil
	}
	if t.n.replicas() > 1 {
		return t.turns(wants, others)
	}
	var available, used []int
	for i := range t.s.gpus {
		d, g := &t.n.told.GPUs[i], &t.s.gpus[i]
		if !whole(d, g) || g.users > 0 {
			continue
		}
		if slices.ContainsFunc(others, func(h held) bool { return h.GPU == d.UUID && h.MIG == "" && h.Profile == "" }) {
			used = append(used, i)
		}
		available = append(available, i)
	}
	var required []int
	switch {
	case len(used) >= total:
		available = used
	case len(used) > 0:
		required = used
	}
	chosen := t.n.linked(available, required, total)
	if len(chosen) < total {
		return t.n.insufficient(topology.GPUResource, int64(total-len(chosen)))
	}
	order := make([]*want, len(wants))
	for i := range wants {
		order[i] = &wants[i]
	}
	slices.SortStableFunc(order, func(a, b *want) int { return b.whole - a.whole })
	for _, w := range order {
		for _, i := range t.n.linked(chosen, nil, w.whole) {
			g := topology.Grant{GPU: t.n.told.GPUs[i].UUID}
			if t.n.told.Mode == fractions {
				g.Share, g.Soft = topology.Whole, t.r.soft
			}
			t.give(w, g)
			chosen = slices.DeleteFunc(chosen, func(j int) bool { return j == i })
			t.s.gpus[i].users++
			t.s.gpus[i].part = topology.Share{Milli: topology.Whole, Memory: t.n.told.GPUs[i].Memory}
		}
	}
	return nil
}

// linked picks count of the available GPUs, the required among them, by their links; without links the first ones.
func (n *Node) linked(available, required []int, count int) []int {
	if len(available) < count || count == 0 {
		return nil
	}
	if n.matrix != nil {
		if set, ok := n.matrix.Choose(topology.SetOf(available...), topology.SetOf(required...), count); ok {
			return set.Indexes()
		}
	}
	out := slices.Clone(required)
	for _, i := range available {
		if len(out) < count && !slices.Contains(out, i) {
			out = append(out, i)
		}
	}
	return out[:count]
}

// turns gives each container turns on GPUs that are shared by turns, on those with the fewest users first.
func (t *trial) turns(wants []want, others []held) *Refusal {
	for k := range wants {
		for range wants[k].whole {
			best := -1
			rank := func(i int) int {
				r := 2 * t.s.gpus[i].users
				if !slices.ContainsFunc(others, func(h held) bool { return h.GPU == t.n.told.GPUs[i].UUID }) {
					r++
				}
				return r
			}
			for i := range t.s.gpus {
				if whole(&t.n.told.GPUs[i], &t.s.gpus[i]) && t.s.gpus[i].users < t.n.replicas() && (best < 0 || rank(i) < rank(best)) {
					best = i
				}
			}
			if best < 0 {
				return t.n.insufficient(topology.GPUResource, 1)
			}
			t.s.gpus[best].users++
			t.give(&wants[k], topology.Grant{GPU: t.n.told.GPUs[best].UUID})
		}
	}
	return nil
}

// maxSteps bounds the search for a way to fit several parts; it is far more than any usual pod needs.
const maxSteps = 10_000

// parts finds room for parts, the greatest first: on the GPU that is wanted first, on those of others, then where the least
// is left.
func (t *trial) parts(wants []*want, others []held, steps *int) bool {
	if len(wants) == 0 {
		return true
	}
	if t.n.told.Mode != fractions || t.s.unknown > 0 {
		return false
	}
	type option struct {
		gpu, rank int
		grant     topology.Grant
		left      topology.Share
	}
	w := wants[0]
	var options []option
	for i := range t.s.gpus {
		grant, ok := t.n.givesPart(t.s, i, w, t.r.soft)
		if !ok {
			continue
		}
		d := &t.n.told.GPUs[i]
		o := option{gpu: i, grant: grant, left: free(d, &t.s.gpus[i]).Minus(grant.Part(d.Memory)), rank: 2}
		if slices.ContainsFunc(others, func(h held) bool { return h.GPU == d.UUID }) {
			o.rank = 1
		}
		if t.first != nil {
			o.rank = min(o.rank, 2*t.first(i))
		}
		if slices.ContainsFunc(options, func(have option) bool { return have.left == o.left && have.rank == o.rank }) {
			continue // as good as one that is there
		}
		options = append(options, o)
	}
	slices.SortStableFunc(options, func(a, b option) int {
		return cmp.Or(a.rank-b.rank, a.left.Milli-b.left.Milli, cmp.Compare(a.left.Memory, b.left.Memory))
	})
	for _, o := range options {
		if *steps--; *steps < 0 {
			return false
		}
		g := &t.s.gpus[o.gpu]
		before := *g
		g.part, g.users = g.part.Plus(o.grant.Part(t.n.told.GPUs[o.gpu].Memory)), g.users+1
		t.give(w, o.grant)
		if t.parts(wants[1:], others, steps) {
			return true
		}
		*g = before
		t.grants = t.grants[:len(t.grants)-1]
	}
	return false
}
