package services

import (
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func ptr[T any](v T) *T { return &v }

func service(mod func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "web"}, Spec: corev1.ServiceSpec{
		ClusterIP: "10.96.0.5", Ports: []corev1.ServicePort{{Name: "http", Port: 80, NodePort: 30080, Protocol: corev1.ProtocolTCP}}}}
	if mod != nil {
		mod(s)
	}
	return s
}

func endpointSlice(eps ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: ptr("http"), Port: ptr(int32(8080)), Protocol: ptr(corev1.ProtocolTCP)}}, Endpoints: eps}
}

func ep(addr, node string, ready, serving, terminating bool) discoveryv1.Endpoint {
	return discoveryv1.Endpoint{Addresses: []string{addr}, NodeName: &node, Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating}}
}

func TestEndpointsForNewConnections(t *testing.T) {
	local := corev1.ServiceInternalTrafficPolicyLocal
	for _, c := range []struct {
		name               string
		mod                func(*corev1.Service)
		eps                []discoveryv1.Endpoint
		internal, external []string
	}{
		{"ready ones only", nil, []discoveryv1.Endpoint{ep("10.0.0.1", "a", true, true, false), ep("10.0.0.2", "b", false, true, true)}, []string{"10.0.0.1"}, []string{"10.0.0.1"}},
		{"terminating when no other exists", nil, []discoveryv1.Endpoint{ep("10.0.0.1", "a", false, false, false), ep("10.0.0.2", "b", false, true, true)}, []string{"10.0.0.2"}, []string{"10.0.0.2"}},
		{"internal Local", func(s *corev1.Service) { s.Spec.InternalTrafficPolicy = &local }, []discoveryv1.Endpoint{ep("10.0.0.1", "a", true, true, false), ep("10.0.0.2", "b", true, true, false)}, []string{"10.0.0.1"}, []string{"10.0.0.1", "10.0.0.2"}},
		{"external Local", func(s *corev1.Service) {
			s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		}, []discoveryv1.Endpoint{ep("10.0.0.1", "a", true, true, false), ep("10.0.0.2", "b", true, true, false)}, []string{"10.0.0.1", "10.0.0.2"}, []string{"10.0.0.1"}},
		{"none", nil, nil, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := Resolve(service(c.mod), []*discoveryv1.EndpointSlice{endpointSlice(c.eps...)}, "a")
			check := func(what string, got []netip.AddrPort, want []string) {
				var g []string
				for _, a := range got {
					if a.Port() != 8080 {
						t.Errorf("port %d", a.Port())
					}
					g = append(g, a.Addr().String())
				}
				if !slices.Equal(g, want) {
					t.Errorf("%s: got %v, want %v", what, g, want)
				}
			}
			check("internal", s.Ports[0].Internal, c.internal)
			check("external", s.Ports[0].External, c.external)
		})
	}
}

func TestFlushReportsOnlyWhatResolvesDifferently(t *testing.T) {
	tb := NewTable("a")
	tb.SetService(service(nil))
	tb.SetSlice(endpointSlice(ep("10.0.0.1", "a", true, true, false)))
	if d := tb.Flush(); len(d) != 1 || d[0].Old != nil || d[0].New == nil {
		t.Fatalf("first flush: %+v", d)
	}
	tb.SetService(service(func(s *corev1.Service) { s.Labels = map[string]string{"x": "y"} }))
	if d := tb.Flush(); len(d) != 0 {
		t.Fatalf("a label changed nothing that resolves: %+v", d)
	}
	tb.DeleteSlice(Key{"d", "web-1"})
	if d := tb.Flush(); len(d) != 1 || len(d[0].New.Ports[0].Cluster) != 0 {
		t.Fatalf("slice deleted: %+v", d)
	}
	tb.DeleteService(Key{"d", "web"})
	if d := tb.Flush(); len(d) != 1 || d[0].New != nil || tb.Len() != 0 {
		t.Fatalf("service deleted: %+v", d)
	}
}
