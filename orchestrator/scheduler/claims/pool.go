package claims

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/pintle/pintle/orchestrator/api/devicecel"
)

// ID names a device.
type ID struct{ Driver, Pool, Device string }

// String is driver/pool/device.
func (id ID) String() string { return id.Driver + "/" + id.Pool + "/" + id.Device }

// Device is one device of a pool.
type Device struct {
	ID
	Spec  *resourcev1.Device
	where reach
	cel   *devicecel.Device
}

// Attribute returns what the device has under a name; without a domain it is the driver's.
func (d *Device) Attribute(name string) (resourcev1.DeviceAttribute, bool) {
	if a, ok := d.Spec.Attributes[resourcev1.QualifiedName(name)]; ok {
		return a, true
	}
	domain, id := devicecel.Split(d.Driver, resourcev1.QualifiedName(name))
	if domain == d.Driver {
		if a, ok := d.Spec.Attributes[resourcev1.QualifiedName(id)]; ok {
			return a, true
		}
		a, ok := d.Spec.Attributes[resourcev1.QualifiedName(domain+"/"+id)]
		return a, ok
	}
	return resourcev1.DeviceAttribute{}, false
}

// Text is an attribute that is a string, "" if it is none.
func (d *Device) Text(name string) string {
	if a, ok := d.Attribute(name); ok && a.StringValue != nil {
		return *a.StringValue
	}
	return ""
}

func (d *Device) capacity(name resourcev1.QualifiedName) (resource.Quantity, bool) {
	domain, id := devicecel.Split(d.Driver, name)
	for have, c := range d.Spec.Capacity {
		if d2, id2 := devicecel.Split(d.Driver, have); d2 == domain && id2 == id {
			return c.Value, true
		}
	}
	return resource.Quantity{}, false
}

// reach says which nodes have access to a device.
type reach struct {
	node     string // that one alone
	all      bool
	selector *corev1.NodeSelector
	compiled *nodeaffinity.NodeSelector
}

func newReach(node *string, all *bool, selector *corev1.NodeSelector) reach {
	switch {
	case node != nil:
		return reach{node: *node}
	case all != nil && *all:
		return reach{all: true}
	case selector != nil:
		if compiled, err := nodeaffinity.NewNodeSelector(selector); err == nil {
			return reach{selector: selector, compiled: compiled}
		}
	}
	return reach{} // no node
}

func (r *reach) has(n *corev1.Node) bool {
	return r.all || r.node != "" && r.node == n.Name || r.compiled != nil && r.compiled.Match(n)
}

// Pool is what a driver publishes under one name: the devices of its slices of the highest generation.
type Pool struct {
	Driver, Name string
	Devices      []*Device
	// Incomplete says that slices of the generation are missing; Invalid why nothing of it can be given, "" if it can.
	Incomplete bool
	Invalid    string
	counters   map[string]map[string]resource.Quantity // by set, by name
}

// NewPool makes a pool of its slices, all of one driver and one pool's name.
func NewPool(all []*resourcev1.ResourceSlice) *Pool {
	p := &Pool{counters: map[string]map[string]resource.Quantity{}}
	if len(all) == 0 {
		return p
	}
	p.Driver, p.Name = all[0].Spec.Driver, all[0].Spec.Pool.Name
	newest := slices.MaxFunc(all, func(a, b *resourcev1.ResourceSlice) int {
		return cmp.Compare(a.Spec.Pool.Generation, b.Spec.Pool.Generation)
	})
	var current []*resourcev1.ResourceSlice
	for _, s := range all {
		if s.Spec.Pool.Generation == newest.Spec.Pool.Generation {
			current = append(current, s)
		}
	}
	slices.SortFunc(current, func(a, b *resourcev1.ResourceSlice) int { return strings.Compare(a.Name, b.Name) })
	p.Incomplete = int64(len(current)) != current[0].Spec.Pool.ResourceSliceCount
	seen := map[string]bool{}
	for _, s := range current {
		for i := range s.Spec.SharedCounters {
			set := &s.Spec.SharedCounters[i]
			if p.counters[set.Name] != nil {
				p.Invalid = fmt.Sprintf("counter set %s is published twice", set.Name)
			}
			counters := map[string]resource.Quantity{}
			for name, c := range set.Counters {
				counters[name] = c.Value
			}
			p.counters[set.Name] = counters
		}
		whole := newReach(s.Spec.NodeName, s.Spec.AllNodes, s.Spec.NodeSelector)
		perDevice := s.Spec.PerDeviceNodeSelection != nil && *s.Spec.PerDeviceNodeSelection
		for i := range s.Spec.Devices {
			spec := &s.Spec.Devices[i]
			if seen[spec.Name] {
				p.Invalid = fmt.Sprintf("device %s is published twice", spec.Name)
			}
			seen[spec.Name] = true
			d := &Device{ID: ID{p.Driver, p.Name, spec.Name}, Spec: spec, where: whole, cel: devicecel.NewDevice(p.Driver, spec)}
			if perDevice {
				d.where = newReach(spec.NodeName, spec.AllNodes, spec.NodeSelector)
			}
			p.Devices = append(p.Devices, d)
		}
	}
	return p
}

// node is the one node that has access to all devices of the pool, "" if there is no such.
func (p *Pool) node() string {
	name := ""
	for _, d := range p.Devices {
		if d.where.node == "" || name != "" && d.where.node != name {
			return ""
		}
		name = d.where.node
	}
	return name
}
