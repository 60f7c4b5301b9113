package claims

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
)

// results writes down what the search has found, claim by claim.
func (s *search) results() []*resourcev1.AllocationResult {
	out := make([]*resourcev1.AllocationResult, len(s.Claims))
	for i := range out {
		out[i] = &resourcev1.AllocationResult{}
	}
	devices := make([][]*Device, len(s.Claims))
	for i, n := range s.needs {
		o, result := s.chosen[i], out[n.claim]
		for _, d := range s.devices[i] {
			result.Devices.Results = append(result.Devices.Results, resourcev1.DeviceRequestAllocationResult{
				Request: o.name, Driver: d.Driver, Pool: d.Pool, Device: d.Device, Tolerations: o.tolerations})
		}
		devices[n.claim] = append(devices[n.claim], s.devices[i]...)
		for _, c := range o.class.Spec.Config {
			result.Devices.Config = append(result.Devices.Config, resourcev1.DeviceAllocationConfiguration{
				Source: resourcev1.AllocationConfigSourceClass, Requests: []string{o.name}, DeviceConfiguration: c.DeviceConfiguration})
		}
	}
	for i, claim := range s.Claims {
		for _, c := range claim.Spec.Devices.Config {
			if s.concerns(i, c.Requests) {
				out[i].Devices.Config = append(out[i].Devices.Config, resourcev1.DeviceAllocationConfiguration{
					Source: resourcev1.AllocationConfigSourceClaim, Requests: c.Requests, DeviceConfiguration: c.DeviceConfiguration})
			}
		}
		out[i].NodeSelector = availableOn(devices[i], s.Node)
	}
	return out
}

// concerns says whether references name a request of the claim in the form that was chosen; none name all.
func (s *search) concerns(claim int, references []string) bool {
	for i, n := range s.needs {
		if n.claim == claim && covers(references, s.chosen[i].name) {
			return true
		}
	}
	return len(references) == 0
}

// availableOn says where devices are available that were allocated for a node; nil: everywhere.
func availableOn(devices []*Device, node *corev1.Node) *corev1.NodeSelector {
	var term corev1.NodeSelectorTerm
	for _, d := range devices {
		if d.where.node != "" || d.Spec.BindsToNode != nil && *d.Spec.BindsToNode {
			return &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{{
				Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{node.Name}}}}}}
		}
		if d.where.selector == nil || len(d.where.selector.NodeSelectorTerms) == 0 {
			continue
		}
		add := func(to *[]corev1.NodeSelectorRequirement, more []corev1.NodeSelectorRequirement) {
			for _, r := range more {
				same := func(o corev1.NodeSelectorRequirement) bool {
					return o.Key == r.Key && o.Operator == r.Operator && slices.Equal(o.Values, r.Values)
				}
				if !slices.ContainsFunc(*to, same) {
					*to = append(*to, r)
				}
			}
		}
		add(&term.MatchExpressions, d.where.selector.NodeSelectorTerms[0].MatchExpressions)
		add(&term.MatchFields, d.where.selector.NodeSelectorTerms[0].MatchFields)
	}
	if len(term.MatchExpressions)+len(term.MatchFields) == 0 {
		return nil
	}
	return &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{term}}
}

// Names says whether a container's claim entry (the request that it names, "" for all) means a result's request.
func Names(entry, request string) bool {
	main, _, _ := strings.Cut(request, "/")
	return entry == "" || entry == main
}
