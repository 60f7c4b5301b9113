package devices

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/gpu/topology"
)

// The modes of sharing, as gpu.SharingMode has them.
const (
	timeSlices = "time-slicing"
	mps        = "mps"
	fractions  = "fractional"
)

// Node is one node's GPUs: what there is, by its annotation, and what pods and claims have of them.
type Node struct {
	known  bool   // the node itself, not only pods of it
	listed bool   // it says what GPUs it has; otherwise they are counted
	broken string // why what it says can't be read
	told   topology.NodeGPUs
	model  string
	matrix *topology.Matrix // nil: links aren't known
	counts map[corev1.ResourceName]int64

	pods   map[types.UID]*holding
	claims map[types.UID][]string // devices, by UUID, of ResourceClaims
	now    *state                 // nil: to be computed

	refusal Refusal // the last
}

// holding is what one pod has.
type holding struct {
	held    []held
	counted map[corev1.ResourceName]int64 // what it asks for
	gpus    [2]int                        // as its class says
}

// held is a grant, and when its container runs.
type held struct {
	topology.Grant
	when phase
}

// phase is when a container runs: init containers one after another, then the main ones; sidecars beside all of them. (One
// that starts after an init container doesn't run beside it, but the node counts so too.)
type phase struct {
	at      int // position among the init containers; of a main container: after all of them
	sidecar bool
	init    bool // ends before the next starts
}

// beside says whether the container runs while the other does.
func (p phase) beside(o phase) bool {
	return p == o || p.sidecar || o.sidecar || !p.init && !o.init
}

// NewNode is a node of which nothing is known.
func NewNode() *Node {
	return &Node{pods: map[types.UID]*holding{}, claims: map[types.UID][]string{}}
}

// SetNode reads what the node says of itself; of nil, that it's gone. An annotation that can't be read makes its GPUs
// unusable, with the reason.
func (n *Node) SetNode(node *corev1.Node) {
	n.now = nil
	n.known, n.listed, n.broken, n.model, n.matrix, n.told, n.counts = node != nil, false, "", "", nil, topology.NodeGPUs{}, nil
	if node == nil {
		return
	}
	for name, q := range node.Status.Allocatable {
		if Counts(name) {
			if n.counts == nil {
				n.counts = map[corev1.ResourceName]int64{}
			}
			n.counts[name] = q.Value()
		}
	}
	if text, ok := node.Annotations[topology.NodeAnnotation]; ok {
		n.listed = true
		told, err := topology.ParseNodeGPUs(text)
		if err != nil {
			n.broken = err.Error()
			return
		}
		n.told = told
		n.matrix = matrixOf(&n.told)
	}
	n.model = node.Labels[productLabel]
	for i := range n.told.GPUs {
		if n.model == "" {
			n.model = n.told.GPUs[i].Model
		}
	}
}

// matrixOf is the scores that the node told, nil if they aren't one for each pair.
func matrixOf(told *topology.NodeGPUs) *topology.Matrix {
	count := len(told.GPUs)
	if len(told.Links) != count*(count-1)/2 {
		return nil
	}
	m, err := topology.MatrixOfScores(count, told.Links)
	if err != nil {
		return nil
	}
	return m
}

// AddPod records what a pod on the node has, by its annotation.
func (n *Node) AddPod(pod *corev1.Pod, r *Request) {
	if r.Empty() {
		return
	}
	h := &holding{counted: r.counted, gpus: [2]int{r.Class.GPUs, r.Class.GPUMilli}}
	grants, err := topology.ParseGrants(pod.Annotations[topology.PodAnnotation])
	if err == nil { // otherwise it has devices, and nobody knows which: they are counted
		phases := phasesOf(pod)
		last := phase{at: len(pod.Spec.InitContainers)}
		for _, g := range grants {
			if g.Claim != "" {
				continue // its ResourceClaim is what holds it
			}
			when, ok := phases[g.Container]
			switch {
			case g.Container == "":
				when = phase{at: -1, sidecar: true} // every container's
			case !ok:
				when = last
			}
			h.held = append(h.held, held{g, when})
		}
	}
	n.pods[pod.UID] = h
	n.now = nil
}

// RemovePod forgets it.
func (n *Node) RemovePod(uid types.UID) {
	if n.pods[uid] != nil {
		delete(n.pods, uid)
		n.now = nil
	}
}

func phasesOf(pod *corev1.Pod) map[string]phase {
	out := map[string]phase{}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		out[c.Name] = phaseOf(c, i)
	}
	return out
}

// phaseOf is when the init container at that position runs.
func phaseOf(c *corev1.Container, at int) phase {
	sidecar := c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
	return phase{at: at, sidecar: sidecar, init: !sidecar}
}

// SetClaim records the GPUs and MIG instances, by UUID, that a ResourceClaim has, each whole.
func (n *Node) SetClaim(claim types.UID, uuids []string) {
	n.claims[claim] = slices.Clone(uuids)
	n.now = nil
}

// RemoveClaim forgets it.
func (n *Node) RemoveClaim(claim types.UID) {
	if _, ok := n.claims[claim]; ok {
		delete(n.claims, claim)
		n.now = nil
	}
}

// Free says whether nothing has a GPU or a MIG instance, or any part of it.
func (n *Node) Free(uuid string) bool {
	s := n.state()
	for i := range n.told.GPUs {
		g, d := &s.gpus[i], &n.told.GPUs[i]
		if d.UUID == uuid {
			return g.users == 0 && !g.claimed && len(g.promised) == 0 && !slices.Contains(g.used, true)
		}
		for j := range d.Instances {
			if d.Instances[j].UUID == uuid {
				return !g.used[j] && !g.claimed && !d.Instances[j].Transient
			}
		}
	}
	return false
}

// state is what is taken of a node's GPUs.
type state struct {
	gpus    []taken
	unknown int // GPUs that pods have without saying which
	counted map[corev1.ResourceName]int64
	alike   map[[2]int]int // pods by what they ask for: GPUs, thousandths of each

	seen bool // free and at are computed
	free topology.NodeFree
	at   []int

	asked View
	class topology.PodClass
	memo  memo
}

// taken is what is taken of one GPU.
type taken struct {
	part     topology.Share // in the mode of fractions
	users    int            // grants of it, or of parts
	claimed  bool
	used     []bool              // of its instances, by position
	promised []topology.Instance // instances that are made for pods, and not listed yet
}

func (s *state) clone() *state {
	c := &state{gpus: slices.Clone(s.gpus), unknown: s.unknown}
	for i := range c.gpus {
		c.gpus[i].used = slices.Clone(c.gpus[i].used)
		c.gpus[i].promised = slices.Clone(c.gpus[i].promised)
	}
	return c
}

func (n *Node) state() *state {
	if n.now != nil {
		return n.now
	}
	s := &state{gpus: make([]taken, len(n.told.GPUs)), alike: map[[2]int]int{}}
	for i := range s.gpus {
		s.gpus[i].used = make([]bool, len(n.told.GPUs[i].Instances))
	}
	for _, h := range n.pods {
		s.alike[h.gpus]++
		if !n.listed {
			if s.counted == nil {
				s.counted = map[corev1.ResourceName]int64{}
			}
			for name, q := range h.counted {
				s.counted[name] += q
			}
			continue
		}
		if len(h.held) == 0 {
			s.unknown += int(h.counted[topology.GPUResource])
		}
		n.take(s, h.held)
	}
	for _, uuids := range n.claims {
		for _, uuid := range uuids {
			n.claim(s, uuid)
		}
	}
	n.now = s
	return s
}

// take adds what one pod has.
func (n *Node) take(s *state, all []held) {
	for i := range n.told.GPUs {
		d, g := &n.told.GPUs[i], &s.gpus[i]
		entire := false
		for _, h := range all {
			if h.GPU != d.UUID {
				continue
			}
			if h.MIG != "" || h.Profile != "" {
				n.takeInstance(d, g, h.Grant)
			} else {
				entire = true
			}
		}
		if entire {
			part, users := most(all, d)
			g.part = g.part.Plus(part)
			g.users += users
		}
	}
}

// most is the most that a pod has of a GPU at a time, as the node counts it: what lasts, and what an init container takes
// beyond that. A share whose memory isn't said has its part of the memory.
func most(all []held, d *topology.NodeGPU) (part topology.Share, users int) {
	of := func(h held) bool { return h.GPU == d.UUID && h.MIG == "" && h.Profile == "" }
	var last, beside topology.Share // as they were said
	users, sidecars := 0, 0
	for _, h := range all {
		if !of(h) || h.when.init {
			continue
		}
		said := topology.Share{Milli: h.Share, Memory: h.Memory}
		part, last = part.Plus(h.Part(d.Memory)), last.Plus(said)
		users++
		if h.when.sidecar {
			beside = beside.Plus(said)
			sidecars++
		}
	}
	first, at, count := beside, -1, sidecars
	for _, h := range all { // in the order of the init containers
		if !of(h) || !h.when.init {
			continue
		}
		if h.when.at != at {
			first, at, count = beside, h.when.at, sidecars
		}
		first = first.Plus(topology.Share{Milli: h.Share, Memory: h.Memory})
		count++
		more := first.Minus(last)
		more = topology.Share{Milli: max(0, more.Milli), Memory: max(0, more.Memory)}
		switch {
		case h.Share == 0 && h.Memory == 0:
			users = max(users, count)
			continue
		case more == topology.Share{}:
			continue
		}
		more.Milli = max(1, more.Milli)
		extra := topology.Grant{Share: more.Milli, Memory: more.Memory}
		part, last = part.Plus(extra.Part(d.Memory)), last.Plus(more)
		users++
	}
	return part, users
}

func (n *Node) takeInstance(d *topology.NodeGPU, g *taken, grant topology.Grant) {
	if grant.Profile == "" {
		for j := range d.Instances {
			if d.Instances[j].UUID == grant.MIG {
				g.used[j] = true
			}
		}
		return
	}
	p, ok := d.Layout.Profile(grant.Profile)
	if !ok {
		return
	}
	for _, at := range p.Placements {
		if at.Start != grant.Start {
			continue
		}
		if j := slices.IndexFunc(d.Instances, func(i topology.NodeInstance) bool { return i.Placement == at }); j >= 0 {
			g.used[j] = true // it was made
		} else if made := (topology.Instance{ProfileID: p.ID, Placement: at}); !slices.Contains(g.promised, made) {
			g.promised = append(g.promised, made)
		}
	}
}

func (n *Node) claim(s *state, uuid string) {
	for i := range n.told.GPUs {
		d := &n.told.GPUs[i]
		if d.UUID == uuid {
			s.gpus[i].claimed = true
		}
		for j := range d.Instances {
			if d.Instances[j].UUID == uuid {
				s.gpus[i].used[j] = true
			}
		}
	}
}

// replicas is how many pods share each whole GPU.
func (n *Node) replicas() int {
	if n.told.Mode == timeSlices || n.told.Mode == mps {
		return max(1, n.told.Replicas)
	}
	return 1
}

// whole says whether a GPU is one of nvidia.com/gpu and may be used.
func whole(d *topology.NodeGPU, g *taken) bool { return d.Unhealthy == "" && !d.Divided && !g.claimed }

// free is what can be had of a GPU whose parts are shared.
func free(d *topology.NodeGPU, g *taken) topology.Share {
	return topology.Share{Milli: topology.Whole, Memory: d.Memory}.Minus(g.part)
}

// there are a divided GPU's instances, those that are promised included.
func there(d *topology.NodeGPU, g *taken) []topology.Instance {
	out := make([]topology.Instance, 0, len(d.Instances)+len(g.promised))
	for i := range d.Instances {
		p, ok := d.Layout.Profile(d.Instances[i].Profile)
		if !ok {
			p.ID = -1
		}
		out = append(out, topology.Instance{ProfileID: p.ID, Placement: d.Instances[i].Placement})
	}
	return append(out, g.promised...)
}

// View is the node as a policy sees it, and what the pod asks for in its terms: those GPUs that may be used and aren't
// divided, in the order of the node's; at says which each is. cpu and memory are what of the node's is free.
//
// What is returned is the Node's own, and good until it is asked again.
func (n *Node) View(r *Request, cpu, memory int64) (v *View, c *topology.PodClass, at []int) {
	s := n.state()
	v, c = &s.asked, &s.class
	v.NodeFree = s.view(n)
	v.CPUMilli, v.Memory, v.memo = cpu, memory, &s.memo
	*c = r.Class
	if c.GPUs == 0 && len(r.main) > 0 && r.main[0].part.Memory > 0 { // by memory alone: what that is of the first GPU
		for _, i := range s.at {
			if g := partOf(&n.told.GPUs[i], &r.main[0], true); g.Share <= topology.Whole {
				c.GPUs, c.GPUMilli = 1, g.Share
				break
			}
		}
	}
	if replicas := n.replicas(); replicas > 1 && c.GPUMilli == topology.Whole {
		c.GPUMilli /= replicas
	}
	v.Alike = s.alike[[2]int{r.Class.GPUs, r.Class.GPUMilli}]
	return v, c, s.at
}

// view is what is free of each GPU that may be used and isn't divided.
func (s *state) view(n *Node) topology.NodeFree {
	if s.seen {
		return s.free
	}
	s.seen = true
	s.free.Model = n.model
	if !n.listed {
		for i := range min(n.counts[topology.GPUResource], topology.MaxGPUs) {
			milli := topology.Whole
			if i < s.counted[topology.GPUResource] {
				milli = 0
			}
			s.free.GPUMilli = append(s.free.GPUMilli, milli)
		}
		return s.free
	}
	replicas := n.replicas()
	for i := range n.told.GPUs {
		d, g := &n.told.GPUs[i], &s.gpus[i]
		if !whole(d, g) {
			continue
		}
		milli := 0
		switch {
		case n.told.Mode == fractions:
			milli = free(d, g).Milli
		case replicas > 1:
			milli = topology.Whole / replicas * max(0, replicas-g.users)
		case g.users == 0:
			milli = topology.Whole
		}
		s.free.GPUMilli, s.at = append(s.free.GPUMilli, max(0, milli)), append(s.at, i)
	}
	return s.free
}

// HasGPUs says whether the node has any GPU that pods can ask for whole or in part.
func (n *Node) HasGPUs() bool { return len(n.state().view(n).GPUMilli) > 0 }

// String says in short what the node has.
func (n *Node) String() string {
	if !n.listed {
		return fmt.Sprintf("%d GPUs, counted", n.counts[topology.GPUResource])
	}
	return fmt.Sprintf("%d GPUs of %s", len(n.told.GPUs), n.model)
}
