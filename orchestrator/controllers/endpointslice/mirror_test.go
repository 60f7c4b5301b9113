package endpointslice

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func written(edit ...func(*corev1.Endpoints)) *corev1.Endpoints {
	e := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "e", Labels: map[string]string{"l": "m"}}, Subsets: []corev1.EndpointSubset{{
		Addresses: []corev1.EndpointAddress{{IP: "192.0.2.1"}}, NotReadyAddresses: []corev1.EndpointAddress{{IP: "192.0.2.2", Hostname: "h"}},
		Ports: []corev1.EndpointPort{{Name: "http", Port: 8080}}}}}
	for _, f := range edit {
		f(e)
	}
	return e
}

func withoutSelector(s *corev1.Service) { s.Spec.Selector = nil }

func shown(list []*discoveryv1.EndpointSlice) (out string) {
	for _, es := range list {
		for _, p := range es.Ports {
			out += fmt.Sprintf("%s:%d/%s ", *p.Name, *p.Port, *p.Protocol)
		}
		for _, e := range es.Endpoints {
			out += fmt.Sprintf("%s=%v%s ", e.Addresses[0], *e.Conditions.Ready, ptr.Deref(e.Hostname, ""))
		}
	}
	return out
}

func TestEndpointsWrittenByHandAreMirrored(t *testing.T) {
	s := aService(withoutSelector)
	p := mirror(s, written(), nil)
	if got, want := shown(p.create), "http:8080/TCP 192.0.2.1=true 192.0.2.2=falseh "; got != want {
		t.Fatalf("creates %q, want %q", got, want)
	}
	es := p.create[0]
	if es.Labels["l"] != "m" || es.Labels[discoveryv1.LabelServiceName] != "web" || es.Labels[discoveryv1.LabelManagedBy] != mirroredBy || es.OwnerReferences[0].UID != "e" {
		t.Errorf("%+v", es.ObjectMeta)
	}
	es.Name = "web-1"
	have := []*discoveryv1.EndpointSlice{es}
	if p := mirror(s, written(), have); len(p.create)+len(p.update)+len(p.remove) > 0 {
		t.Errorf("not stable: %+v", p)
	}
	p = mirror(s, written(func(e *corev1.Endpoints) { e.Subsets[0].NotReadyAddresses = nil }), have)
	if got, want := shown(p.update), "http:8080/TCP 192.0.2.1=true "; got != want || len(p.create)+len(p.remove) > 0 {
		t.Errorf("updates %q, want %q", got, want)
	}
	p = mirror(s, written(func(e *corev1.Endpoints) { e.Subsets[0].Ports[0].Port = 81 }), have)
	if len(p.create) != 1 || len(p.remove) != 1 {
		t.Errorf("another port: %+v", p)
	}
	if p = mirror(s, nil, have); len(p.remove) != 1 {
		t.Errorf("without the object: %+v", p)
	}
}

func TestManyMirroredAddressesFillSlices(t *testing.T) {
	e := written(func(e *corev1.Endpoints) {
		for i := range 250 {
			e.Subsets[0].Addresses = append(e.Subsets[0].Addresses, corev1.EndpointAddress{IP: fmt.Sprintf("192.0.3.%d", i)})
		}
	})
	if p := mirror(aService(withoutSelector), e, nil); len(p.create) != 3 {
		t.Errorf("%d slices for 252 addresses", len(p.create))
	}
}

func TestWhatIsNotMirrored(t *testing.T) {
	for name, c := range map[string]struct {
		s    *corev1.Service
		e    *corev1.Endpoints
		want bool
	}{
		"by hand":         {aService(withoutSelector), written(), true},
		"with a selector": {aService(), written(), false},
		"no service":      {nil, written(), false},
		"no endpoints":    {aService(withoutSelector), nil, false},
		"of another name": {aService(withoutSelector, func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName }), written(), false},
		"by wish": {aService(withoutSelector), written(func(e *corev1.Endpoints) {
			e.Labels[discoveryv1.LabelSkipMirror] = "true"
		}), false},
		"a leader's lock": {aService(withoutSelector), written(func(e *corev1.Endpoints) { e.Annotations = map[string]string{leaderAnnotation: "{}"} }), false},
	} {
		if got := mirrors(c.s, c.e); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
