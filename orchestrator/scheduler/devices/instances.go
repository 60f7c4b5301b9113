package devices

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/gpu/topology"
)

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
