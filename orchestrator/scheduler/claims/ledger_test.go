package claims

import (
	"fmt"
	"math/rand/v2"
	"testing"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestAnAssumedAllocationHoldsUntilTheStatusSaysIt(t *testing.T) {
	l := ledger(t, fourGPUs)
	id := ID{"gpu.x", "n1", "a"}
	c := claim(t, "c", `{requests: [{name: r, exactly: {deviceClassName: gpu}}]}`)
	c.ResourceVersion = "5"
	l.SetClaim(c)
	results, err := l.Allocate(node("n1"), []*resourcev1.ResourceClaim{c}, nil)
	if err != nil {
		t.Fatal(err)
	}
	plan := func() []*Plan { return []*Plan{{Claim: c, Allocation: results[0]}} }
	l.Assume("p1", plan())
	l.Assume("p2", plan())
	if l.Free(id) || l.Allocation(c) == nil {
		t.Error("an assumed allocation doesn't hold")
	}
	if n, mine := l.Reserved(c, "p2"); n != 2 || !mine {
		t.Error(n, mine)
	}
	l.Release("p1")
	if l.Free(id) {
		t.Error("the other pod's is gone, too")
	}
	l.Release("p2")
	if !l.Free(id) || l.Allocation(c) != nil {
		t.Error("nobody holds it, and it isn't free")
	}
	l.Assume("p1", plan())
	written := c.DeepCopy()
	written.ResourceVersion, written.Status.Allocation = "10", results[0]
	l.SetClaim(written)
	l.Release("p1")
	l.SetClaim(c) // a watch that is behind
	if l.Free(id) {
		t.Error("an old version of the claim frees what a newer one says")
	}
	back := written.DeepCopy()
	back.ResourceVersion, back.Status.Allocation = "11", nil
	l.SetClaim(back)
	if !l.Free(id) {
		t.Error("deallocated, and not free")
	}
}

// Whatever comes in whatever order: the devices that are held are those of the claims' status and of what is assumed, and
// each slice's devices are those of the newest generation.
func TestTheLedgerIsWhatItsObjectsSay(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 2))
		l := ledger(t)
		claims := map[string]*resourcev1.ResourceClaim{}
		plans := map[types.UID]map[types.UID]*resourcev1.AllocationResult{} // by pod, by claim
		slices := map[string]*resourcev1.ResourceSlice{}
		version := 0
		allocation := func() *resourcev1.AllocationResult {
			return object[resourcev1.AllocationResult](t, fmt.Sprintf("{devices: {results: [{request: r, driver: d.x, pool: p%d, device: d%d}]}}", r.IntN(2), r.IntN(3)))
		}
		for range 60 {
			version++
			name := fmt.Sprintf("c%d", r.IntN(3))
			switch r.IntN(6) {
			case 0, 1:
				c := claim(t, name, "{requests: []}")
				c.ResourceVersion = fmt.Sprint(version)
				if r.IntN(2) == 0 {
					c.Status.Allocation = allocation()
				}
				claims[name] = c
				l.SetClaim(c)
			case 2:
				if c := claims[name]; c != nil {
					for pod := range plans {
						delete(plans[pod], c.UID)
					}
				}
				delete(claims, name)
				l.RemoveClaim("default", name)
			case 3:
				pod := types.UID(fmt.Sprintf("p%d", r.IntN(2)))
				plans[pod] = nil
				if c := claims[name]; c != nil {
					a := l.Allocation(c)
					if l.Release(pod); a == nil || l.Allocation(c) == nil {
						a = allocation()
					}
					plans[pod] = map[types.UID]*resourcev1.AllocationResult{c.UID: a}
					l.Assume(pod, []*Plan{{Claim: c, Allocation: a}})
				} else {
					l.Release(pod)
				}
			case 4:
				pod := types.UID(fmt.Sprintf("p%d", r.IntN(2)))
				delete(plans, pod)
				l.Release(pod)
			case 5:
				slice := fmt.Sprintf("s%d", r.IntN(3))
				if r.IntN(3) == 0 {
					delete(slices, slice)
					l.RemoveSlice(slice)
					continue
				}
				s := object[resourcev1.ResourceSlice](t, fmt.Sprintf("{spec: {driver: d.x, nodeName: n%d, pool: {name: p%d, generation: %d, resourceSliceCount: 1}, devices: [{name: d%d}]}}", r.IntN(2), r.IntN(2), r.IntN(2), r.IntN(3)))
				s.Name = slice
				slices[slice] = s
				l.SetSlice(s)
			}
			want := map[ID]bool{}
			hold := func(a *resourcev1.AllocationResult) {
				for _, d := range a.Devices.Results {
					want[ID{d.Driver, d.Pool, d.Device}] = true
				}
			}
			for _, c := range claims {
				if c.Status.Allocation != nil {
					hold(c.Status.Allocation)
					continue
				}
				for _, p := range plans {
					if a := p[c.UID]; a != nil {
						hold(a)
					}
				}
			}
			newest := map[string]int64{}
			for _, s := range slices {
				newest[s.Spec.Pool.Name] = max(newest[s.Spec.Pool.Name], s.Spec.Pool.Generation)
			}
			devices := map[string]map[ID]bool{"n0": {}, "n1": {}}
			for _, s := range slices {
				if s.Spec.Pool.Generation == newest[s.Spec.Pool.Name] {
					devices[*s.Spec.NodeName][ID{"d.x", s.Spec.Pool.Name, s.Spec.Devices[0].Name}] = true
				}
			}
			for p := range 2 {
				for d := range 3 {
					id := ID{"d.x", fmt.Sprintf("p%d", p), fmt.Sprintf("d%d", d)}
					if l.Free(id) == want[id] {
						t.Fatalf("seed %d: %s: free is %t", seed, id, l.Free(id))
					}
					for n, has := range devices {
						got := false
						for _, pool := range l.Pools(n) {
							for _, d := range pool.Devices {
								got = got || d.ID == id && d.Node() == n
							}
						}
						if got != has[id] {
							t.Fatalf("seed %d: %s on %s: %t", seed, id, n, got)
						}
					}
				}
			}
		}
	}
}
