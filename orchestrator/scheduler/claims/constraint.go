package claims

import (
	"slices"
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
)

// value is an attribute's value and its type, to be compared.
type value struct {
	kind byte
	text string
	n    int64
}

func valueOf(a resourcev1.DeviceAttribute) (value, bool) {
	switch {
	case a.StringValue != nil:
		return value{kind: 's', text: *a.StringValue}, true
	case a.VersionValue != nil:
		return value{kind: 'v', text: *a.VersionValue}, true
	case a.IntValue != nil:
		return value{kind: 'i', n: *a.IntValue}, true
	case a.BoolValue != nil && *a.BoolValue:
		return value{kind: 'b', n: 1}, true
	case a.BoolValue != nil:
		return value{kind: 'b'}, true
	}
	return value{}, false
}

// constraint is one of a claim, with the values of the devices that have been taken for it.
type constraint struct {
	requests  []string
	attribute string
	distinct  bool
	values    []value
}

func constraintsOf(claim *resourcev1.ResourceClaim) (out []*constraint) {
	for i := range claim.Spec.Devices.Constraints {
		c := &claim.Spec.Devices.Constraints[i]
		switch {
		case c.MatchAttribute != nil:
			out = append(out, &constraint{requests: c.Requests, attribute: string(*c.MatchAttribute)})
		case c.DistinctAttribute != nil:
			out = append(out, &constraint{requests: c.Requests, attribute: string(*c.DistinctAttribute), distinct: true})
		}
	}
	return out
}

// covers says whether references name the request, or the chosen one of its alternatives; none name all.
func covers(references []string, request string) bool {
	main, _, _ := strings.Cut(request, "/")
	return len(references) == 0 || slices.Contains(references, request) || slices.Contains(references, main)
}

// add takes a device for a request, if the constraint lets it. drop takes back the last one that add took.
func (c *constraint) add(request string, d *Device) bool {
	if !covers(c.requests, request) {
		return true
	}
	a, ok := d.Attribute(c.attribute)
	if !ok {
		return false
	}
	v, ok := valueOf(a)
	if !ok || c.distinct && slices.Contains(c.values, v) || !c.distinct && len(c.values) > 0 && c.values[0] != v {
		return false
	}
	c.values = append(c.values, v)
	return true
}

func (c *constraint) drop(request string) {
	if covers(c.requests, request) {
		c.values = c.values[:len(c.values)-1]
	}
}
