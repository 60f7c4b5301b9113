package devices

import (
	"math"

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
