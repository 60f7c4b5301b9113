package claims

import (
	"cmp"
	"maps"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Ledger knows the classes, slices and claims of a cluster, and which devices are held: by claims' allocations, and by
// those that were decided and are on their way to the store.
type Ledger struct {
	Matcher Matcher

	classes map[string]*resourcev1.DeviceClass
	claims  map[types.NamespacedName]*resourcev1.ResourceClaim
	byUID   map[types.UID]*resourcev1.ResourceClaim
	slices  map[string]*resourcev1.ResourceSlice
	pools   map[poolKey]*Pool
	byPool  map[poolKey]map[string]*resourcev1.ResourceSlice
	local   map[string]map[poolKey]bool // pools of one node
	wide    map[poolKey]bool            // all others
	devices map[ID]*Device
	held    map[ID]map[types.UID]bool         // by which claims
	holds   map[types.UID][]ID                // by claim: the same
	assumed map[types.UID]map[types.UID]*Plan // by claim, by pod
}

type poolKey struct{ driver, name string }

// Plan is what was decided for one claim of a pod.
type Plan struct {
	Claim      *resourcev1.ResourceClaim // as it was when that was decided
	Allocation *resourcev1.AllocationResult
}

// NewLedger makes an empty one.
func NewLedger() *Ledger {
	return &Ledger{
		classes: map[string]*resourcev1.DeviceClass{}, claims: map[types.NamespacedName]*resourcev1.ResourceClaim{}, byUID: map[types.UID]*resourcev1.ResourceClaim{},
		slices: map[string]*resourcev1.ResourceSlice{}, pools: map[poolKey]*Pool{}, byPool: map[poolKey]map[string]*resourcev1.ResourceSlice{},
		local: map[string]map[poolKey]bool{}, wide: map[poolKey]bool{}, devices: map[ID]*Device{},
		held: map[ID]map[types.UID]bool{}, holds: map[types.UID][]ID{}, assumed: map[types.UID]map[types.UID]*Plan{},
	}
}

// SetClass adds or replaces a class; RemoveClass forgets it.
func (l *Ledger) SetClass(c *resourcev1.DeviceClass) { l.classes[c.Name] = c }

// RemoveClass forgets a class.
func (l *Ledger) RemoveClass(name string) { delete(l.classes, name) }

// Class is a class by its name, nil if there is none.
func (l *Ledger) Class(name string) *resourcev1.DeviceClass { return l.classes[name] }

// SetSlice adds or replaces a slice.
func (l *Ledger) SetSlice(s *resourcev1.ResourceSlice) {
	key := poolKey{s.Spec.Driver, s.Spec.Pool.Name}
	if have := l.slices[s.Name]; have != nil && (poolKey{have.Spec.Driver, have.Spec.Pool.Name}) != key {
		l.RemoveSlice(s.Name)
	}
	l.slices[s.Name] = s
	if l.byPool[key] == nil {
		l.byPool[key] = map[string]*resourcev1.ResourceSlice{}
	}
	l.byPool[key][s.Name] = s
	l.rebuild(key)
}

// RemoveSlice forgets a slice.
func (l *Ledger) RemoveSlice(name string) {
	s := l.slices[name]
	if s == nil {
		return
	}
	key := poolKey{s.Spec.Driver, s.Spec.Pool.Name}
	delete(l.slices, name)
	delete(l.byPool[key], name)
	l.rebuild(key)
}

func (l *Ledger) rebuild(key poolKey) {
	if old := l.pools[key]; old != nil {
		for _, d := range old.Devices {
			delete(l.devices, d.ID)
		}
		if node := old.node(); node != "" {
			if delete(l.local[node], key); len(l.local[node]) == 0 {
				delete(l.local, node)
			}
		}
		delete(l.wide, key)
		delete(l.pools, key)
	}
	if len(l.byPool[key]) == 0 {
		delete(l.byPool, key)
		return
	}
	p := NewPool(slices.Collect(maps.Values(l.byPool[key])))
	l.pools[key] = p
	for _, d := range p.Devices {
		l.devices[d.ID] = d
	}
	node := p.node()
	if node == "" {
		l.wide[key] = true
		return
	}
	if l.local[node] == nil {
		l.local[node] = map[poolKey]bool{}
	}
	l.local[node][key] = true
}

// Pools are those that may reach a node, by driver and name: those of the node alone first.
func (l *Ledger) Pools(node string) []*Pool {
	var out []*Pool
	for _, keys := range []map[poolKey]bool{l.local[node], l.wide} {
		for _, key := range slices.SortedFunc(maps.Keys(keys), func(a, b poolKey) int {
			return cmp.Or(cmp.Compare(a.driver, b.driver), cmp.Compare(a.name, b.name))
		}) {
			out = append(out, l.pools[key])
		}
	}
	return out
}

// Device is a device that is published, nil if it isn't.
func (l *Ledger) Device(id ID) *Device { return l.devices[id] }

// Node is the node that a device is part of, "" if it is part of none, or of several.
func (d *Device) Node() string { return d.where.node }

// SetClaim adds or replaces a claim; one that is older than what is known changes nothing.
func (l *Ledger) SetClaim(c *resourcev1.ResourceClaim) {
	key := types.NamespacedName{Namespace: c.Namespace, Name: c.Name}
	if have := l.claims[key]; have != nil {
		if have.UID == c.UID && older(c.ResourceVersion, have.ResourceVersion) {
			return
		}
		if have.UID != c.UID {
			l.RemoveClaim(c.Namespace, c.Name)
		}
	}
	l.claims[key], l.byUID[c.UID] = c, c
	l.hold(c)
}

// RemoveClaim forgets a claim, and what was assumed of it.
func (l *Ledger) RemoveClaim(namespace, name string) {
	key := types.NamespacedName{Namespace: namespace, Name: name}
	if have := l.claims[key]; have != nil {
		delete(l.assumed, have.UID)
		l.drop(have.UID)
		delete(l.claims, key)
		delete(l.byUID, have.UID)
	}
}

func older(a, b string) bool {
	x, errX := strconv.ParseUint(a, 10, 64)
	y, errY := strconv.ParseUint(b, 10, 64)
	return errX == nil && errY == nil && x < y
}

// hold brings held to what the claim has now.
func (l *Ledger) hold(c *resourcev1.ResourceClaim) {
	l.drop(c.UID)
	take := func(a *resourcev1.AllocationResult) {
		for i := range a.Devices.Results {
			r := &a.Devices.Results[i]
			if r.AdminAccess != nil && *r.AdminAccess {
				continue
			}
			id := ID{r.Driver, r.Pool, r.Device}
			if l.held[id] == nil {
				l.held[id] = map[types.UID]bool{}
			}
			l.held[id][c.UID] = true
			l.holds[c.UID] = append(l.holds[c.UID], id)
		}
	}
	if c.Status.Allocation != nil {
		take(c.Status.Allocation)
		return
	}
	for _, plan := range l.assumed[c.UID] {
		take(plan.Allocation)
	}
}

func (l *Ledger) drop(claim types.UID) {
	for _, id := range l.holds[claim] {
		if delete(l.held[id], claim); len(l.held[id]) == 0 {
			delete(l.held, id)
		}
	}
	delete(l.holds, claim)
}

// Claim is a claim, nil if there is none.
func (l *Ledger) Claim(namespace, name string) *resourcev1.ResourceClaim {
	return l.claims[types.NamespacedName{Namespace: namespace, Name: name}]
}

// Allocation is what a claim has, or shall have; nil for none.
func (l *Ledger) Allocation(c *resourcev1.ResourceClaim) *resourcev1.AllocationResult {
	if c.Status.Allocation != nil {
		return c.Status.Allocation
	}
	// They are all the same, for who comes second takes what the first one decided; only a claim that was deallocated
	// under way may have two, of which one will fail to be written.
	plans := l.assumed[c.UID]
	for _, pod := range slices.Sorted(maps.Keys(plans)) {
		return plans[pod].Allocation
	}
	return nil
}

// Reserved says for how many pods a claim is reserved, or shall be, and whether the pod is one of them.
func (l *Ledger) Reserved(c *resourcev1.ResourceClaim, pod types.UID) (n int, mine bool) {
	n = len(c.Status.ReservedFor)
	for _, r := range c.Status.ReservedFor {
		mine = mine || r.UID == pod
	}
	for uid := range l.assumed[c.UID] {
		if !slices.ContainsFunc(c.Status.ReservedFor, func(r resourcev1.ResourceClaimConsumerReference) bool { return r.UID == uid }) {
			n++
			mine = mine || uid == pod
		}
	}
	return n, mine
}

// Assume records what was decided for a pod, in place of what was before.
func (l *Ledger) Assume(pod types.UID, plans []*Plan) {
	l.Release(pod)
	for _, p := range plans {
		have := l.Claim(p.Claim.Namespace, p.Claim.Name)
		if have == nil || have.UID != p.Claim.UID {
			continue // it is gone: writing it will say so
		}
		if l.assumed[have.UID] == nil {
			l.assumed[have.UID] = map[types.UID]*Plan{}
		}
		l.assumed[have.UID][pod] = p
		l.hold(have)
	}
}

// Release takes back what was assumed of a pod. What its claims' status says, and what is assumed of other pods that share
// them, stays.
func (l *Ledger) Release(pod types.UID) {
	for claim, plans := range l.assumed {
		plan := plans[pod]
		if plan == nil {
			continue
		}
		if delete(plans, pod); len(plans) == 0 {
			delete(l.assumed, claim)
		}
		if c := l.Claim(plan.Claim.Namespace, plan.Claim.Name); c != nil && c.UID == claim {
			l.hold(c)
		}
	}
}

// Free says whether no claim holds the device.
func (l *Ledger) Free(id ID) bool { return len(l.held[id]) == 0 }

// Held are the devices of a pool that claims hold.
func (l *Ledger) Held(p *Pool) (out []*Device) {
	for _, d := range p.Devices {
		if !l.Free(d.ID) {
			out = append(out, d)
		}
	}
	return out
}

// Holders are the claims that hold devices of the slice's pool which are published.
func (l *Ledger) Holders(s *resourcev1.ResourceSlice) (out []*resourcev1.ResourceClaim) {
	seen := map[types.UID]bool{}
	p := l.pools[poolKey{s.Spec.Driver, s.Spec.Pool.Name}]
	if p == nil {
		return nil
	}
	for _, d := range p.Devices {
		for uid := range l.held[d.ID] {
			if c := l.byUID[uid]; c != nil && !seen[uid] {
				seen[uid] = true
				out = append(out, c)
			}
		}
	}
	return out
}

// Slice is a slice by its name, nil if there is none.
func (l *Ledger) Slice(name string) *resourcev1.ResourceSlice { return l.slices[name] }

// Allocate finds devices for claims on a node. also has the last word on a device that no claim holds.
func (l *Ledger) Allocate(node *corev1.Node, claims []*resourcev1.ResourceClaim, also func(*Device) bool) ([]*resourcev1.AllocationResult, error) {
	return Allocate(Request{Node: node, Pools: l.Pools(node.Name), Claims: claims, Class: l.Class, Held: l.Held, Matcher: &l.Matcher,
		Free: func(d *Device) bool { return l.Free(d.ID) && (also == nil || also(d)) }})
}
