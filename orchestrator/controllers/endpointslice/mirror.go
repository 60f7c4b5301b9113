package endpointslice

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// mirroredBy is the label of slices made from somebody's Endpoints object, as Kubernetes' own mirroring
// controller writes it. Readers look at EndpointSlices alone, so without them such an object would do nothing.
const mirroredBy = "endpointslicemirroring-controller.k8s.io"

// leaderAnnotation marks Endpoints objects that are old-style leader locks.
const leaderAnnotation = "control-plane.alpha.kubernetes.io/leader"

// mirrors says whether slices are to be made of the Endpoints object of a service without a selector.
func mirrors(s *corev1.Service, e *corev1.Endpoints) bool {
	if s == nil || e == nil || e.DeletionTimestamp != nil || len(s.Spec.Selector) > 0 || s.Spec.Type == corev1.ServiceTypeExternalName {
		return false
	}
	_, leader := e.Annotations[leaderAnnotation]
	return !leader && e.Labels[discoveryv1.LabelSkipMirror] != "true"
}

// mirror plans the slices of e, nil for none. Slices of the same ports are used again.
func mirror(s *corev1.Service, e *corev1.Endpoints, have []*discoveryv1.EndpointSlice) (p plan) {
	have = slices.Clone(have)
	slices.SortFunc(have, func(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) })
	for _, want := range mirroredSlices(s, e) {
		group := groupKey(want.AddressType, want.Ports)
		i := slices.IndexFunc(have, func(es *discoveryv1.EndpointSlice) bool {
			return es.DeletionTimestamp == nil && groupKey(es.AddressType, es.Ports) == group
		})
		if i < 0 {
			p.create = append(p.create, want)
			continue
		}
		now := have[i].DeepCopy()
		now.Labels, now.Endpoints = want.Labels, want.Endpoints
		if !apiequality.Semantic.DeepEqual(now, have[i]) {
			p.update = append(p.update, now)
		}
		have = slices.Delete(have, i, i+1)
	}
	p.remove = have
	return p
}

func mirroredSlices(s *corev1.Service, e *corev1.Endpoints) (out []*discoveryv1.EndpointSlice) {
	if e == nil {
		return nil
	}
	labels := maps.Clone(e.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[discoveryv1.LabelServiceName], labels[discoveryv1.LabelManagedBy] = s.Name, mirroredBy
	for _, subset := range e.Subsets {
		var ports []discoveryv1.EndpointPort
		for _, p := range subset.Ports {
			ports = append(ports, discoveryv1.EndpointPort{Name: ptr.To(p.Name), Port: ptr.To(p.Port),
				Protocol: ptr.To(cmp.Or(p.Protocol, corev1.ProtocolTCP)), AppProtocol: p.AppProtocol})
		}
		var endpoints []discoveryv1.Endpoint
		add := func(addresses []corev1.EndpointAddress, ready bool) {
			for _, a := range addresses {
				if ip, err := netip.ParseAddr(a.IP); err != nil || !ip.Is4() || len(endpoints) == maxAddresses {
					continue // validation refuses other addresses
				}
				ep := discoveryv1.Endpoint{Addresses: []string{a.IP}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(ready)},
					NodeName: a.NodeName, TargetRef: a.TargetRef}
				if a.Hostname != "" {
					ep.Hostname = ptr.To(a.Hostname)
				}
				endpoints = append(endpoints, ep)
			}
		}
		add(subset.Addresses, true)
		add(subset.NotReadyAddresses, false)
		for part := range slices.Chunk(endpoints, maxEndpoints) {
			out = append(out, &discoveryv1.EndpointSlice{TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
				ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, GenerateName: s.Name + "-", Labels: labels,
					OwnerReferences: []metav1.OwnerReference{reconcile.ControllerRef(e, corev1.SchemeGroupVersion.WithKind("Endpoints"))}},
				AddressType: discoveryv1.AddressTypeIPv4, Ports: ports, Endpoints: slices.Clone(part)})
		}
	}
	return out
}
