package devices

import (
	"cmp"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/gpu/topology"
)

// Refusal says why a pod's request doesn't fit on a node.
type Refusal struct {
	Reason string // worded to follow a count of nodes: "Insufficient nvidia.com/gpu"
	// Resource and Short say how much of what is missing: the nearest miss. Short 0: that isn't it.
	Resource corev1.ResourceName
	Short    int64
}

// Reasons why a node that has GPUs doesn't do.
const (
	reasonUnhealthy  = "node(s) have only unhealthy GPUs"
	reasonUnenforced = "node(s) can't enforce a limit of GPU memory"
	reasonBroken     = "node(s) say of their GPUs what can't be read"
)

// insufficient is the Node's own Refusal, good until it is asked again: of a pod that fits nowhere all nodes are asked.
func (n *Node) insufficient(resource corev1.ResourceName, short int64) *Refusal {
	const why = "Insufficient "
	var reason string
	switch resource { // all nodes may say so of a pod: without making the words anew
	case topology.GPUResource:
		reason = why + topology.GPUResource
	case topology.ShareResource:
		reason = why + topology.ShareResource
	case topology.MemoryResource:
		reason = why + topology.MemoryResource
	default:
		reason = why + string(resource)
	}
	n.refusal = Refusal{Reason: reason, Resource: resource, Short: max(1, short)}
	return &n.refusal
}

// Fits says whether the node can give what is asked for, and if not why; that is good until the Node is asked again.
func (n *Node) Fits(r *Request) *Refusal {
	switch {
	case r.Empty():
		return nil
	case r.bad != "":
		return &Refusal{Reason: "node(s) can't give " + r.bad}
	case !n.listed:
		return n.counted(r)
	case n.broken != "":
		return &Refusal{Reason: reasonBroken}
	case len(r.main) == 1 && len(r.init) == 0: // nearly all pods: without a trial
		switch w := &r.main[0]; {
		case w.whole > 0 && len(w.mig) == 0 && w.part == topology.Share{}:
			return n.fitsWhole(n.state(), w.whole)
		case w.whole == 0 && len(w.mig) == 0:
			return n.fitsPart(n.state(), w, r.soft)
		}
	}
	_, refusal := n.choose(r, nil)
	return refusal
}

// counted compares numbers, where devices aren't known.
func (n *Node) counted(r *Request) *Refusal {
	s := n.state()
	var worst *Refusal
	for name, q := range r.counted {
		if name == topology.ShareResource || name == topology.MemoryResource { // which GPU's they are nobody could say
			worst = n.insufficient(name, q)
			continue
		}
		if short := q - (n.counts[name] - s.counted[name]); short > 0 && (worst == nil || string(name) < string(worst.Resource)) {
			worst = n.insufficient(name, short)
		}
	}
	return worst
}

// fitsWhole says whether so many GPUs, or turns on them, can be had.
func (n *Node) fitsWhole(s *state, want int) *Refusal {
	have, healthy, replicas := -s.unknown, false, n.replicas()
	for i := range s.gpus {
		d, g := &n.told.GPUs[i], &s.gpus[i]
		healthy = healthy || d.Unhealthy == ""
		if !whole(d, g) {
			continue
		}
		if replicas > 1 {
			have += max(0, replicas-g.users)
		} else if g.users == 0 {
			have++
		}
	}
	if have >= want {
		return nil
	}
	if len(s.gpus) > 0 && !healthy {
		return &Refusal{Reason: reasonUnhealthy, Resource: topology.GPUResource, Short: int64(want - max(0, have))}
	}
	return n.insufficient(topology.GPUResource, int64(want-max(0, have)))
}

// partOf is what a want of a part is of this GPU, as a grant.
func partOf(d *topology.NodeGPU, w *want, soft bool) topology.Grant {
	g := topology.Grant{Container: w.container, GPU: d.UUID, Share: w.part.Milli, Memory: w.part.Memory, Soft: soft}
	if g.Share == 0 && d.Memory > 0 { // by memory alone: as much of its time
		g.Share = int(max(1, (g.Memory*topology.Whole+d.Memory-1)/d.Memory))
		if g.Memory > d.Memory {
			g.Share = topology.Whole + 1 // fits nowhere
		}
	}
	return g
}

// givesPart says whether a GPU can give a part.
func (n *Node) givesPart(s *state, i int, w *want, soft bool) (topology.Grant, bool) {
	d, g := &n.told.GPUs[i], &s.gpus[i]
	grant := partOf(d, w, soft)
	return grant, whole(d, g) && n.enforces(d, &grant) && grant.Share <= topology.Whole && grant.Part(d.Memory).Fits(free(d, g))
}

func (n *Node) enforces(d *topology.NodeGPU, g *topology.Grant) bool {
	return g.Soft || d.MemoryLimits || g.Share >= topology.Whole
}

func (n *Node) fitsPart(s *state, w *want, soft bool) *Refusal {
	name := corev1.ResourceName(topology.ShareResource)
	if w.part.Milli == 0 {
		name = topology.MemoryResource
	}
	if n.told.Mode != fractions {
		return n.insufficient(name, int64(max(w.part.Milli, 1)))
	}
	healthy, enforced := false, false
	best := topology.Share{Milli: math.MinInt, Memory: math.MinInt64}
	for i := range s.gpus {
		grant, ok := n.givesPart(s, i, w, soft)
		if ok && s.unknown == 0 {
			return nil
		}
		d := &n.told.GPUs[i]
		healthy = healthy || d.Unhealthy == ""
		if d.Unhealthy == "" && !d.Divided {
			enforced = enforced || n.enforces(d, &grant)
		}
		if whole(d, &s.gpus[i]) {
			f := free(d, &s.gpus[i])
			best = topology.Share{Milli: max(best.Milli, f.Milli), Memory: max(best.Memory, f.Memory)}
		}
	}
	switch {
	case len(s.gpus) > 0 && !healthy:
		return &Refusal{Reason: reasonUnhealthy, Resource: name}
	case healthy && !enforced && best.Milli >= 0:
		return &Refusal{Reason: reasonUnenforced}
	case best.Milli < 0:
		return n.insufficient(name, max(1, int64(w.part.Milli)))
	case w.part.Milli > best.Milli:
		return n.insufficient(topology.ShareResource, int64(w.part.Milli-best.Milli))
	}
	return n.insufficient(topology.MemoryResource, w.part.Memory-best.Memory)
}

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
	for i := range t.s.gpus { // shares with and without an amount of memory, in containers before and after, don't always meet
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

// instance is one MIG instance that a container asks for.
type instance struct {
	w       *want
	profile string
}

func instancesOf(w *want) (out []instance) {
	for _, m := range w.mig {
		for range min(m.n, 128) {
			out = append(out, instance{w, m.profile})
		}
	}
	return out
}

// instances gives MIG instances: those of others first, then those that exist, then ones to be made, the greatest first,
// each where it takes the least of what else could be made.
func (t *trial) instances(asked []instance, others []held) *Refusal {
	if len(asked) == 0 {
		return nil
	}
	slices.SortStableFunc(asked, func(a, b instance) int { return t.n.slicesOf(b.profile) - t.n.slicesOf(a.profile) })
	reused := make([]bool, len(others))
	missing := 0
	var short *Refusal
	for _, a := range asked {
		if t.again(a, others, reused) || t.existing(a) || t.made(a) {
			continue
		}
		if missing++; short == nil || string(short.Resource) == topology.MIGPrefix+a.profile {
			short = t.n.insufficient(corev1.ResourceName(topology.MIGPrefix+a.profile), int64(missing))
		}
	}
	if short != nil && len(t.n.told.GPUs) > 0 && !slices.ContainsFunc(t.n.told.GPUs, func(d topology.NodeGPU) bool { return d.Unhealthy == "" }) {
		short.Reason = reasonUnhealthy
	}
	return short
}

// resourceProfile is a profile's name in a resource's.
func resourceProfile(name string) string { return strings.ReplaceAll(name, "+", ".") }

func profileOf(l topology.Layout, resource string) (topology.Profile, bool) {
	for i := range l {
		if resourceProfile(l[i].Name) == resource {
			return l[i], true
		}
	}
	return topology.Profile{}, false
}

func (n *Node) slicesOf(resource string) int {
	for i := range n.told.GPUs {
		if p, ok := profileOf(n.told.GPUs[i].Layout, resource); ok {
			return p.Slices
		}
	}
	return 0
}

func (t *trial) again(a instance, others []held, reused []bool) bool {
	for k, h := range others {
		if reused[k] || (h.MIG == "" && h.Profile == "") {
			continue
		}
		same := h.Profile != "" && resourceProfile(h.Profile) == a.profile
		for i := range t.n.told.GPUs {
			for j := range t.n.told.GPUs[i].Instances {
				d := &t.n.told.GPUs[i].Instances[j]
				same = same || d.UUID == h.MIG && resourceProfile(d.Profile) == a.profile
			}
		}
		if !same {
			continue
		}
		reused[k] = true
		for i := range t.n.told.GPUs {
			if t.n.told.GPUs[i].UUID == h.GPU {
				t.n.takeInstance(&t.n.told.GPUs[i], &t.s.gpus[i], h.Grant)
			}
		}
		t.give(a.w, h.Grant)
		return true
	}
	return false
}

// existing gives an instance that nobody has, on the GPU where the least else could be made.
func (t *trial) existing(a instance) bool {
	best, which, room := -1, 0, 0
	for i := range t.n.told.GPUs {
		d, g := &t.n.told.GPUs[i], &t.s.gpus[i]
		if d.Unhealthy != "" || !d.Divided || g.claimed {
			continue
		}
		for j := range d.Instances {
			m := &d.Instances[j]
			if g.used[j] || m.Transient || m.Unhealthy != "" || resourceProfile(m.Profile) != a.profile {
				continue
			}
			if r := d.Layout.Room(there(d, g)); best < 0 || r < room {
				best, which, room = i, j, r
			}
		}
	}
	if best < 0 {
		return false
	}
	t.s.gpus[best].used[which] = true
	d := &t.n.told.GPUs[best]
	t.give(a.w, topology.Grant{GPU: d.UUID, MIG: d.Instances[which].UUID})
	return true
}

// made gives an instance that is to be made, on the GPU where it takes the least; of equals, where the least is left.
func (t *trial) made(a instance) bool {
	best, loss, room := -1, 0, 0
	var at topology.Placement
	var profile topology.Profile
	for i := range t.n.told.GPUs {
		d, g := &t.n.told.GPUs[i], &t.s.gpus[i]
		if d.Unhealthy != "" || !d.Divided || g.claimed {
			continue
		}
		p, ok := profileOf(d.Layout, a.profile)
		if !ok {
			continue
		}
		have := there(d, g)
		where, err := d.Layout.Place(have, p.Name)
		if err != nil {
			continue
		}
		left := d.Layout.Room(append(have, topology.Instance{ProfileID: p.ID, Placement: where}))
		lost := d.Layout.Room(have) - left
		if best < 0 || lost < loss || lost == loss && left < room {
			best, loss, room, at, profile = i, lost, left, where, p
		}
	}
	if best < 0 {
		return false
	}
	g := &t.s.gpus[best]
	g.promised = append(g.promised, topology.Instance{ProfileID: profile.ID, Placement: at})
	t.give(a.w, topology.Grant{GPU: t.n.told.GPUs[best].UUID, Profile: profile.Name, Start: at.Start})
	return true
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
