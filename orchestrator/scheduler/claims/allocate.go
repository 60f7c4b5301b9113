package claims

import (
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// maxSteps bounds the search on one node: how many devices are tried. Claims that need more to be refused are refused
// with ErrSearch.
const maxSteps = 100_000

// ErrSearch says that the search was given up.
var ErrSearch = errors.New("too many combinations of devices to try")

// Request asks for devices for claims on one node.
type Request struct {
	Node *corev1.Node
	// Pools are those that may reach the node, in the order in which they are tried.
	Pools []*Pool
	// Claims have no allocation. Requests whose adminAccess is set are refused.
	Claims []*resourcev1.ResourceClaim
	// Class is a DeviceClass by its name, nil if there is none.
	Class func(name string) *resourcev1.DeviceClass
	// Free says whether nobody has the device: no claim, and nobody else.
	Free func(*Device) bool
	// Held are the devices of a pool that claims have: what they consume of its counters is gone. Nil: none.
	Held func(*Pool) []*Device
	// Matcher evaluates the selectors, and remembers what they said.
	Matcher *Matcher
}

// Allocate finds devices for all claims together, one result for each, or nil where the node hasn't got them. It tries
// devices in the order of Pools, and alternatives (firstAvailable) in theirs, so that the first combination in this
// order is found. An error says what is wrong with a claim, a class, a selector or a pool.
func Allocate(r Request) ([]*resourcev1.AllocationResult, error) {
	s := &search{Request: r, taken: map[ID]bool{}, left: map[*Pool]map[string]map[string]resource.Quantity{}}
	for i, claim := range r.Claims {
		s.constraints = append(s.constraints, constraintsOf(claim))
		for j := range claim.Spec.Devices.Requests {
			n := need{claim: i}
			if err := n.options(claim, &claim.Spec.Devices.Requests[j], r.Class); err != nil {
				return nil, err
			}
			s.needs = append(s.needs, n)
		}
	}
	s.chosen = make([]*option, len(s.needs))
	s.devices = make([][]*Device, len(s.needs))
	ok, err := s.need(0)
	if err != nil || !ok {
		return nil, err
	}
	return s.results(), nil
}

// need is one request of a claim.
type need struct {
	claim int
	any   []option // in order of preference
}

// option is how a request can be satisfied.
type option struct {
	name        string // as results have it
	class       *resourcev1.DeviceClass
	selectors   []resourcev1.DeviceSelector
	all         bool
	count       int
	tolerations []resourcev1.DeviceToleration
	capacity    map[resourcev1.QualifiedName]resource.Quantity

	listed     bool
	candidates []*Device // that match, free or not
	err        error     // why they are not known
}

func (n *need) options(claim *resourcev1.ResourceClaim, r *resourcev1.DeviceRequest, class func(string) *resourcev1.DeviceClass) error {
	add := func(name, className string, selectors []resourcev1.DeviceSelector, mode resourcev1.DeviceAllocationMode, count int64,
		tolerations []resourcev1.DeviceToleration, capacity *resourcev1.CapacityRequirements) error {
		o := option{name: name, selectors: selectors, tolerations: tolerations, count: int(max(1, count))}
		if o.class = class(className); o.class == nil {
			return fmt.Errorf("claim %s, request %s: device class %s does not exist", claim.Name, name, className)
		}
		switch mode {
		case resourcev1.DeviceAllocationModeAll:
			o.all = true
		case resourcev1.DeviceAllocationModeExactCount, "":
		default:
			return fmt.Errorf("claim %s, request %s: unsupported count mode %s", claim.Name, name, mode)
		}
		if capacity != nil {
			o.capacity = capacity.Requests
		}
		n.any = append(n.any, o)
		return nil
	}
	if e := r.Exactly; e != nil {
		if e.AdminAccess != nil && *e.AdminAccess {
			return fmt.Errorf("claim %s, request %s: admin access is not supported", claim.Name, r.Name)
		}
		return add(r.Name, e.DeviceClassName, e.Selectors, e.AllocationMode, e.Count, e.Tolerations, e.Capacity)
	}
	for i := range r.FirstAvailable {
		e := &r.FirstAvailable[i]
		if err := add(r.Name+"/"+e.Name, e.DeviceClassName, e.Selectors, e.AllocationMode, e.Count, e.Tolerations, e.Capacity); err != nil {
			return err
		}
	}
	if len(n.any) == 0 {
		return fmt.Errorf("claim %s, request %s: unknown request type", claim.Name, r.Name)
	}
	return nil
}

type search struct {
	Request
	needs       []need
	constraints [][]*constraint // by claim
	chosen      []*option       // by need
	devices     [][]*Device     // by need
	taken       map[ID]bool
	left        map[*Pool]map[string]map[string]resource.Quantity
	steps       int
}

// need satisfies the i-th and all that come after it.
func (s *search) need(i int) (bool, error) {
	if i == len(s.needs) {
		return true, nil
	}
	n := &s.needs[i]
	for j := range n.any {
		o := &n.any[j]
		s.list(n, o)
		if o.err != nil {
			return false, o.err
		}
		s.chosen[i] = o
		var ok bool
		var err error
		if o.all {
			ok, err = s.all(i)
		} else if o.count <= len(o.candidates) {
			ok, err = s.some(i, o.count, 0)
		}
		if ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// room says whether the claim of the i-th need may have that many devices more.
func (s *search) room(i, more int) bool {
	for j := range s.needs {
		if s.needs[j].claim == s.needs[i].claim && j <= i {
			more += len(s.devices[j])
		}
	}
	return more <= resourcev1.AllocationResultsMaxSize
}

// all takes every device that matches.
func (s *search) all(i int) (ok bool, err error) {
	o := s.chosen[i]
	if len(o.candidates) == 0 || !s.room(i, len(o.candidates)) {
		return false, nil
	}
	took := 0
	for _, d := range o.candidates {
		if s.steps++; s.steps > maxSteps {
			return false, ErrSearch
		}
		if !s.take(i, d) {
			break
		}
		took++
	}
	if took == len(o.candidates) {
		if ok, err = s.need(i + 1); ok || err != nil {
			return ok, err
		}
	}
	for range took {
		s.untake(i)
	}
	return false, nil
}

// some takes n more devices, none of them before the from-th.
func (s *search) some(i, n, from int) (bool, error) {
	if n == 0 {
		return s.need(i + 1)
	}
	if !s.room(i, n) {
		return false, nil
	}
	candidates := s.chosen[i].candidates
	for k := from; k+n <= len(candidates); k++ {
		if s.steps++; s.steps > maxSteps {
			return false, ErrSearch
		}
		if !s.take(i, candidates[k]) {
			continue
		}
		if ok, err := s.some(i, n-1, k+1); ok || err != nil {
			return ok, err
		}
		s.untake(i)
	}
	return false, nil
}

// take takes a device if that is allowed; untake gives the last one back.
func (s *search) take(i int, d *Device) bool {
	o, all := s.chosen[i], s.constraints[s.needs[i].claim]
	if s.taken[d.ID] || !s.Free(d) || !tolerated(d.Spec.Taints, o.tolerations) || !s.consume(d) {
		return false
	}
	for k, c := range all {
		if !c.add(o.name, d) {
			for _, c := range all[:k] {
				c.drop(o.name)
			}
			s.count(d, 1)
			return false
		}
	}
	s.taken[d.ID] = true
	s.devices[i] = append(s.devices[i], d)
	return true
}

func (s *search) untake(i int) {
	last := len(s.devices[i]) - 1
	d := s.devices[i][last]
	s.devices[i] = s.devices[i][:last]
	delete(s.taken, d.ID)
	s.count(d, 1)
	for _, c := range s.constraints[s.needs[i].claim] {
		c.drop(s.chosen[i].name)
	}
}

// list finds the devices that match a request.
func (s *search) list(n *need, o *option) {
	if o.listed {
		return
	}
	o.listed = true
	claim := s.Claims[n.claim]
	fail := func(format string, args ...any) {
		o.err = fmt.Errorf("claim %s, request %s: %w", claim.Name, o.name, fmt.Errorf(format, args...))
	}
	for _, p := range s.Pools {
		reached := false
		for _, d := range p.Devices {
			if !d.where.has(s.Node) {
				continue
			}
			reached = true
			ok, err := s.Matcher.match(o.class.Spec.Selectors, d)
			if err != nil {
				fail("class %s: %w", o.class.Name, err)
				return
			}
			if !ok {
				continue
			}
			if ok, err = s.Matcher.match(o.selectors, d); err != nil {
				fail("%w", err)
				return
			}
			if !ok || !enough(d, o.capacity) {
				continue
			}
			if p.Invalid != "" {
				fail("pool %s/%s is invalid: %s", p.Driver, p.Name, p.Invalid)
				return
			}
			o.candidates = append(o.candidates, d)
		}
		if reached && o.all && p.Incomplete {
			fail("asks for all devices, but resource pool %s/%s is currently being updated", p.Driver, p.Name)
			return
		}
	}
}

// enough says whether the device has all the capacity.
func enough(d *Device, capacity map[resourcev1.QualifiedName]resource.Quantity) bool {
	for name, want := range capacity {
		if have, ok := d.capacity(name); !ok || have.Cmp(want) < 0 {
			return false
		}
	}
	return true
}

// consume takes a device's part of its pool's counters, if there is enough of them.
func (s *search) consume(d *Device) bool {
	if len(d.Spec.ConsumesCounters) == 0 {
		return true
	}
	if s.counters(d) == nil {
		return false
	}
	left := s.counters(d)
	for _, c := range d.Spec.ConsumesCounters {
		for name, want := range c.Counters {
			if have, ok := left[c.CounterSet][name]; !ok || have.Cmp(want.Value) < 0 {
				return false
			}
		}
	}
	s.count(d, -1)
	return true
}

// counters are what is left of those of the device's pool.
func (s *search) counters(d *Device) map[string]map[string]resource.Quantity {
	k := slices.IndexFunc(s.Pools, func(p *Pool) bool { return p.Driver == d.Driver && p.Name == d.Pool })
	if k < 0 {
		return nil
	}
	p := s.Pools[k]
	if s.left[p] == nil {
		s.left[p] = map[string]map[string]resource.Quantity{}
		for set, all := range p.counters {
			s.left[p][set] = map[string]resource.Quantity{}
			for name, q := range all {
				s.left[p][set][name] = q.DeepCopy()
			}
		}
		if s.Held != nil {
			for _, held := range s.Held(p) {
				s.count(held, -1)
			}
		}
	}
	return s.left[p]
}

func (s *search) count(d *Device, sign int) {
	if len(d.Spec.ConsumesCounters) == 0 {
		return
	}
	left := s.counters(d)
	for _, c := range d.Spec.ConsumesCounters {
		for name, q := range c.Counters {
			have, ok := left[c.CounterSet][name]
			if !ok {
				continue
			}
			if sign < 0 {
				have.Sub(q.Value)
			} else {
				have.Add(q.Value)
			}
			left[c.CounterSet][name] = have
		}
	}
}
