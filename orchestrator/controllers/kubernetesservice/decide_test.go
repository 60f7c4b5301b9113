package kubernetesservice

import (
	"fmt"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/api"
)

func member(name, at string, ready bool) api.Object {
	m := &api.Member{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: api.MemberStatus{APIAddress: at}}
	if ready {
		m.Status.Conditions = []metav1.Condition{{Type: api.MemberReady, Status: metav1.ConditionTrue}}
	}
	return m
}

func TestEveryReadyMemberIsPublishedOnce(t *testing.T) {
	cfg := Config{ClusterIP: "10.96.0.1", Port: 443, Addresses: []string{"10.0.0.2"}, Target: 6443}
	for _, c := range []struct {
		name    string
		members []api.Object
		want    []string // slice: addresses
	}{
		{"alone, before it has an object", nil, []string{"kubernetes [10.0.0.2]"}},
		{"itself twice", []api.Object{member("a", "10.0.0.2:6443", true)}, []string{"kubernetes [10.0.0.2]"}},
		{"itself, said to be unhealthy", []api.Object{member("a", "10.0.0.2:6443", false)}, []string{"kubernetes [10.0.0.2]"}},
		{"three, in order", []api.Object{member("c", "10.0.0.3:6443", true), member("b", "10.0.0.1:6443", true)}, []string{"kubernetes [10.0.0.1 10.0.0.2 10.0.0.3]"}},
		{"one that is away", []api.Object{member("c", "10.0.0.3:6443", false), member("b", "10.0.0.1:6443", true)}, []string{"kubernetes [10.0.0.1 10.0.0.2]"}},
		{"one that has no address", []api.Object{member("c", "", true)}, []string{"kubernetes [10.0.0.2]"}},
		{"another port", []api.Object{member("c", "10.0.0.3:7443", true)}, []string{"kubernetes [10.0.0.2]", "kubernetes-7443 [10.0.0.3]"}},
	} {
		var got []string
		p := decide(cfg, c.members)
		for i, s := range p.slices {
			var addresses []string
			for _, e := range s.Endpoints {
				addresses = append(addresses, e.Addresses...)
			}
			got = append(got, fmt.Sprint(s.Name, " ", addresses))
			if n := len(p.endpoints.Subsets[i].Addresses); n != len(addresses) {
				t.Errorf("%s: %d addresses in the Endpoints and %d in the slice", c.name, n, len(addresses))
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
