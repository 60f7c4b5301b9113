package claims

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	resourcev1 "k8s.io/api/resource/v1"
)

// slow finds what Allocate must find by trying every choice in order, with rules written down anew: the first option of
// every request in the order of preference for which a choice exists.
type slow struct {
	l      *Ledger
	claims []*resourcev1.ResourceClaim
	needs  []slowNeed
	node   string
}

type slowNeed struct {
	claim   int
	options []slowOption
}

type slowOption struct {
	name  string
	fits  func(*Device) bool // also whether the taints are tolerated
	match func(*Device) bool
	all   bool
	count int
}

type slowChoice struct {
	claim   int
	request string
	device  *Device
}

func (s *slow) find(i int, chosen []slowChoice) bool {
	if i == len(s.needs) {
		return s.constraints(chosen)
	}
	for _, o := range s.needs[i].options {
		var usable, matching []*Device
		for _, p := range s.l.Pools(s.node) {
			for _, d := range p.Devices {
				if d.Node() != s.node || !o.match(d) {
					continue
				}
				matching = append(matching, d)
				if s.l.Free(d.ID) && o.fits(d) && !slices.ContainsFunc(chosen, func(c slowChoice) bool { return c.device == d }) {
					usable = append(usable, d)
				}
			}
		}
		n := o.count
		if o.all {
			if n = len(matching); n == 0 || len(usable) < n {
				continue
			}
		}
		for mask := range 1 << len(usable) {
			next := slices.Clone(chosen)
			for k, d := range usable {
				if mask>>k&1 == 1 {
					next = append(next, slowChoice{s.needs[i].claim, o.name, d})
				}
			}
			if len(next)-len(chosen) == n && s.find(i+1, next) {
				return true
			}
		}
	}
	return false
}

func (s *slow) constraints(chosen []slowChoice) bool {
	for i, c := range s.claims {
		for _, k := range c.Spec.Devices.Constraints {
			var values []any
			for _, x := range chosen {
				main, _, _ := strings.Cut(x.request, "/")
				if x.claim != i || len(k.Requests) > 0 && !slices.Contains(k.Requests, x.request) && !slices.Contains(k.Requests, main) {
					continue
				}
				name := k.MatchAttribute
				if name == nil {
					name = k.DistinctAttribute
				}
				a, ok := x.device.Spec.Attributes[resourcev1.QualifiedName(strings.TrimPrefix(string(*name), "d.x/"))]
				if !ok {
					return false
				}
				for _, other := range values {
					if reflect.DeepEqual(other, a) != (k.MatchAttribute != nil) {
						return false
					}
				}
				values = append(values, a)
			}
		}
	}
	return true
}

// A random small cluster and claims, as text and as slow's rules.
func random(t *testing.T, r *rand.Rand) (*Ledger, []*resourcev1.ResourceClaim, *slow) {
	var devices []string
	for i := range 1 + r.IntN(5) {
		attributes := fmt.Sprintf("kind: {int: %d}, flag: {bool: %t}", r.IntN(3), r.IntN(2) == 0)
		if r.IntN(4) > 0 {
			attributes += fmt.Sprintf(", rare: {string: v%d}", r.IntN(2))
		}
		taint := ""
		if r.IntN(5) == 0 {
			taint = ", taints: [{key: t, effect: NoExecute}]"
		}
		devices = append(devices, fmt.Sprintf("{name: d%d, attributes: {%s}%s}", i, attributes, taint))
	}
	cut := r.IntN(len(devices) + 1)
	l := ledger(t, fmt.Sprintf("{driver: d.x, nodeName: n1, pool: {name: p, generation: 1, resourceSliceCount: 1}, devices: [%s]}", strings.Join(devices[:cut], ",")),
		fmt.Sprintf("{driver: d.x, nodeName: n1, pool: {name: q, generation: 1, resourceSliceCount: 1}, devices: [%s]}", strings.Join(devices[cut:], ",")),
		"{driver: d.x, nodeName: n2, pool: {name: z, generation: 1, resourceSliceCount: 1}, devices: [{name: z, attributes: {kind: {int: 0}, flag: {bool: true}}}]}")
	if r.IntN(2) == 0 {
		taken := claim(t, "taken", "{requests: []}")
		pool := []string{"p", "q"}[r.IntN(2)]
		taken.Status.Allocation = object[resourcev1.AllocationResult](t, fmt.Sprintf("{devices: {results: [{request: r, driver: d.x, pool: %s, device: d%d}]}}", pool, r.IntN(5)))
		l.SetClaim(taken)
	}
	s := &slow{l: l, node: "n1"}
	option := func(name string) (string, slowOption) {
		kind, tolerates, all, count := r.IntN(4), r.IntN(2) == 0, r.IntN(4) == 0, 1+r.IntN(3)
		text := fmt.Sprintf("deviceClassName: any, selectors: [{cel: {expression: \"device.attributes['d.x'].kind <= %d\"}}]", kind)
		if all {
			text += ", allocationMode: All"
		} else {
			text += fmt.Sprintf(", count: %d", count)
		}
		if tolerates {
			text += ", tolerations: [{key: t, operator: Exists}]"
		}
		return text, slowOption{name: name, all: all, count: count, match: func(d *Device) bool { return *d.Spec.Attributes["kind"].IntValue <= int64(kind) },
			fits: func(d *Device) bool { return tolerates || len(d.Spec.Taints) == 0 }}
	}
	var claims []*resourcev1.ResourceClaim
	for i := range 1 + r.IntN(2) {
		var requests []string
		for j := range 1 + r.IntN(2) {
			name := fmt.Sprintf("r%d", j)
			n := slowNeed{claim: i}
			if r.IntN(3) == 0 {
				x, ox := option(name + "/x")
				y, oy := option(name + "/z")
				requests = append(requests, fmt.Sprintf("{name: %s, firstAvailable: [{name: x, %s}, {name: z, %s}]}", name, x, y))
				n.options = []slowOption{ox, oy}
			} else {
				text, o := option(name)
				requests = append(requests, fmt.Sprintf("{name: %s, exactly: {%s}}", name, text))
				n.options = []slowOption{o}
			}
			s.needs = append(s.needs, n)
		}
		var constraints []string
		for range r.IntN(3) {
			of := []string{"", "requests: [r0], ", "requests: [r0/x], "}[r.IntN(3)]
			constraints = append(constraints, fmt.Sprintf("{%s%s: d.x/%s}", of, []string{"matchAttribute", "distinctAttribute"}[r.IntN(2)], []string{"kind", "flag", "rare"}[r.IntN(3)]))
		}
		claims = append(claims, claim(t, fmt.Sprintf("c%d", i), fmt.Sprintf("{requests: [%s], constraints: [%s]}", strings.Join(requests, ","), strings.Join(constraints, ","))))
	}
	s.claims = claims
	return l, claims, s
}

// What Allocate finds is allowed, and it finds something exactly where trying everything does; it is the same each time.
func TestAllocateEqualsTryingEverything(t *testing.T) {
	found := 0
	for seed := range uint64(1000) {
		l, claims, s := random(t, rand.New(rand.NewPCG(seed, 1)))
		results, err := l.Allocate(node("n1"), claims, nil)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if want := s.find(0, nil); (results != nil) != want {
			t.Fatalf("seed %d: %s, but trying everything finds %t", seed, said(results, nil), want)
		}
		if again, _ := l.Allocate(node("n1"), claims, nil); said(again, nil) != said(results, nil) {
			t.Fatalf("seed %d: %s, then %s", seed, said(results, nil), said(again, nil))
		}
		if results == nil {
			continue
		}
		found++
		var chosen []slowChoice
		seen := map[ID]bool{}
		for i, result := range results {
			for _, d := range result.Devices.Results {
				id := ID{d.Driver, d.Pool, d.Device}
				if seen[id] || !l.Free(id) || l.Device(id).Node() != "n1" {
					t.Fatalf("seed %d: %s is given twice, or held, or elsewhere", seed, id)
				}
				seen[id] = true
				chosen = append(chosen, slowChoice{i, d.Request, l.Device(id)})
			}
		}
		if !s.constraints(chosen) {
			t.Fatalf("seed %d: %s breaks a constraint", seed, said(results, nil))
		}
		for i, n := range s.needs {
			k := slices.IndexFunc(n.options, func(o slowOption) bool {
				return slices.ContainsFunc(chosen, func(c slowChoice) bool { return c.claim == n.claim && c.request == o.name })
			})
			if k < 0 {
				t.Fatalf("seed %d: request %d has nothing", seed, i)
			}
			o, got := n.options[k], 0
			for _, c := range chosen {
				if c.claim == n.claim && c.request == o.name {
					if got++; !o.match(c.device) || !o.fits(c.device) {
						t.Fatalf("seed %d: %s doesn't suit %s", seed, c.device.ID, o.name)
					}
				}
			}
			if !o.all && got != o.count {
				t.Fatalf("seed %d: %d devices for %s", seed, got, o.name)
			}
			// Of one request alone, a better alternative would have been taken.
			if alone := (&slow{l: l, node: "n1", claims: claims, needs: []slowNeed{{claim: n.claim, options: n.options[:k]}}}); len(s.needs) == 1 && k > 0 && alone.find(0, nil) {
				t.Fatalf("seed %d: %s, though a better alternative is there", seed, o.name)
			}
		}
	}
	if found < 200 {
		t.Errorf("only %d of the cases have a solution: they test little", found)
	}
}
