package kubernetesservice

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/pintle/pintle/orchestrator/api"
)

// published is what there is to be.
type published struct {
	service   *corev1.Service
	slices    []*discoveryv1.EndpointSlice // one for each port
	endpoints *corev1.Endpoints
}

// decide publishes this server and the members that are ready. Members that serve on another port than
// this one have a slice of their own.
func decide(cfg Config, members []api.Object) published {
	servers := apiServers(cfg, members)
	om := metav1.ObjectMeta{Namespace: "default", Name: "kubernetes", Labels: map[string]string{"component": "apiserver", "provider": "kubernetes"}}
	out := published{
		service: &corev1.Service{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}, ObjectMeta: om,
			Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: cfg.ClusterIP, SessionAffinity: corev1.ServiceAffinityNone,
				Ports: []corev1.ServicePort{{Name: "https", Protocol: corev1.ProtocolTCP, Port: cfg.Port, TargetPort: intstr.FromInt32(cfg.Target)}}}},
		endpoints: &corev1.Endpoints{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Endpoints"},
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "kubernetes", Labels: map[string]string{discoveryv1.LabelSkipMirror: "true"}}},
	}
	for _, port := range slices.Sorted(maps.Keys(servers)) {
		name := "kubernetes"
		if port != cfg.Target {
			name = fmt.Sprintf("kubernetes-%d", port)
		}
		slice := &discoveryv1.EndpointSlice{TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
			ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: "kubernetes"}},
			AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{},
			Ports: []discoveryv1.EndpointPort{{Name: ptr.To("https"), Port: ptr.To(port), Protocol: ptr.To(corev1.ProtocolTCP)}}}
		subset := corev1.EndpointSubset{Ports: []corev1.EndpointPort{{Name: "https", Port: port, Protocol: corev1.ProtocolTCP}}}
		for _, address := range servers[port] {
			if address.Is6() {
				slice.AddressType = discoveryv1.AddressTypeIPv6
			}
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{address.String()}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)}})
			subset.Addresses = append(subset.Addresses, corev1.EndpointAddress{IP: address.String()})
		}
		out.slices = append(out.slices, slice)
		out.endpoints.Subsets = append(out.endpoints.Subsets, subset)
	}
	return out
}

// apiServers are the addresses by port, in order. This server counts whatever its Member says: it works.
func apiServers(cfg Config, members []api.Object) map[int32][]netip.Addr {
	found := map[int32][]netip.Addr{}
	add := func(address netip.Addr, port int32) {
		if address.IsValid() && !slices.Contains(found[port], address) {
			found[port] = append(found[port], address)
		}
	}
	for _, text := range cfg.Addresses {
		if address, err := netip.ParseAddr(text); err == nil {
			add(address, cfg.Target)
		}
	}
	for _, o := range members {
		m, ok := o.(*api.Member)
		if !ok || m.DeletionTimestamp != nil || !meta.IsStatusConditionTrue(m.Status.Conditions, api.MemberReady) {
			continue
		}
		if at, err := netip.ParseAddrPort(m.Status.APIAddress); err == nil {
			add(at.Addr(), int32(at.Port()))
		}
	}
	for _, addresses := range found {
		slices.SortFunc(addresses, netip.Addr.Compare)
	}
	return found
}
