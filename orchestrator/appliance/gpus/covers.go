package gpus

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/gpu"
	"github.com/pintle/pintle/gpu/topology"
)

// amount is how much a container asks for, or is granted: units by resource name, thousandths and bytes.
type amount struct {
	units         map[string]int64
	share, memory int64
}

func (a amount) none() bool { return len(a.units) == 0 && a.share == 0 && a.memory == 0 }

// asked is what a container's limits ask for.
func asked(c *corev1.Container) amount {
	a := amount{units: map[string]int64{}}
	for name, q := range c.Resources.Limits {
		switch n := string(name); {
		case q.IsZero():
		case n == topology.ShareResource:
			a.share = q.Value()
		case n == topology.MemoryResource:
			a.memory = q.Value()
		case n == topology.GPUResource || strings.HasPrefix(n, topology.MIGPrefix):
			a.units[n] = q.Value()
		}
	}
	return a
}

// usesClaim says whether a claim, by namespace/name, is among the pod's.
func usesClaim(pod *corev1.Pod, claim string) bool {
	namespace, name, _ := strings.Cut(claim, "/")
	if namespace != pod.Namespace {
		return false
	}
	is := func(s *string) bool { return s != nil && *s == name }
	return slices.ContainsFunc(pod.Spec.ResourceClaims, func(c corev1.PodResourceClaim) bool { return is(c.ResourceClaimName) }) ||
		slices.ContainsFunc(pod.Status.ResourceClaimStatuses, func(c corev1.PodResourceClaimStatus) bool { return is(c.ResourceClaimName) })
}

// covers checks that a pod was granted what its containers' limits ask for, no less and no more: a limit is what
// quotas count. What comes from a ResourceClaim is not in the limits. It is pure.
func covers(pod *corev1.Pod, grants []topology.Grant, inv *gpu.Inventory) error {
	var common []topology.Grant // every container's
	own := map[string][]topology.Grant{}
	for _, g := range grants {
		switch {
		case g.Claim != "" && !usesClaim(pod, g.Claim):
			return fmt.Errorf("annotation %s: the pod does not use the ResourceClaim %s", topology.PodAnnotation, g.Claim)
		case g.Claim != "":
		case g.Container == "":
			common = append(common, g)
		default:
			own[g.Container] = append(own[g.Container], g)
		}
	}
	var bad error
	used := len(common) == 0
	eachContainer(pod, func(c *corev1.Container, _ bool) {
		want := asked(c)
		alone, all := differ(want, own[c.Name], inv), error(nil)
		if len(common) > 0 {
			all = differ(want, slices.Concat(own[c.Name], common), inv)
			used = used || all == nil && alone != nil
		}
		// A container that asks for none of the common devices sees them still: that is what "every container" says.
		if alone != nil && (len(common) == 0 || all != nil) && bad == nil {
			bad = fmt.Errorf("container %s: %w", c.Name, alone)
		}
	})
	if bad == nil && !used {
		bad = fmt.Errorf("annotation %s grants devices that no container asks for", topology.PodAnnotation)
	}
	return bad
}

// differ says how grants are not what is asked for; nil: they are.
func differ(want amount, grants []topology.Grant, inv *gpu.Inventory) error {
	have := amount{units: map[string]int64{}}
	for _, g := range grants {
		switch {
		case g.MIG != "":
			_, m, ok := inv.Instance(g.MIG)
			if !ok {
				return fmt.Errorf("MIG instance %s is not on this machine", g.MIG)
			}
			have.units[gpu.MIGResource(m.Profile)]++
		case g.Profile != "":
			have.units[gpu.MIGResource(g.Profile)]++
		case g.Share == 0 && g.Memory == 0, g.Share == topology.Whole && want.units[topology.GPUResource] > 0:
			have.units[topology.GPUResource]++
		default:
			have.share += int64(g.Share)
			memory := g.Memory
			if d, ok := inv.Device(g.GPU); ok {
				memory = g.Part(int64(d.MemoryBytes)).Memory
			}
			have.memory += memory
		}
	}
	for _, name := range slices.Sorted(maps.Keys(mergedKeys(want.units, have.units))) {
		if want.units[name] != have.units[name] {
			return fmt.Errorf("it asks for %d %s and was granted %d", want.units[name], name, have.units[name])
		}
	}
	switch {
	case want.share == 0 && want.memory == 0 && (have.share > 0 || have.memory > 0):
		return fmt.Errorf("it asks for no part of a GPU and was granted %d thousandths and %d bytes", have.share, have.memory)
	case want.share > 0 && want.share != have.share:
		return fmt.Errorf("it asks for %d thousandths of a GPU and was granted %d", want.share, have.share)
	case want.memory > 0 && want.memory != have.memory:
		return fmt.Errorf("it asks for %d bytes of a GPU's memory and was granted %d", want.memory, have.memory)
	}
	return nil
}

func mergedKeys(a, b map[string]int64) map[string]int64 {
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}
