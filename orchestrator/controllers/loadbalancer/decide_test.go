package loadbalancer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/reconciletest"
)

func pool(name string, addresses ...string) *api.AddressPool {
	return &api.AddressPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: api.AddressPoolSpec{Addresses: addresses}}
}

func service(name, has string, annotations ...string) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: name, UID: types.UID("uid-" + name), Annotations: map[string]string{}},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80}}}}
	for i := 0; i < len(annotations); i += 2 {
		s.Annotations[annotations[i]] = annotations[i+1]
	}
	if has != "" {
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: has}}
	}
	return s
}

func TestDecideAddresses(t *testing.T) {
	never := false
	kept := pool("kept", "10.0.1.0/30")
	kept.Spec.AutoAssign = &never
	shop := pool("shop", "10.0.2.1")
	shop.Spec.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": "shop"}}
	const ip, named = api.AnnotationLoadBalancerIP, api.AnnotationAddressPool
	for name, c := range map[string]struct {
		service *corev1.Service
		labels  map[string]string
		pools   []*api.AddressPool
		others  []*corev1.Service
		want    string
		problem string
	}{
		"the first that is free":                  {service: service("s", ""), pools: []*api.AddressPool{pool("a", "10.0.0.1-10.0.0.3")}, others: []*corev1.Service{service("o", "10.0.0.1")}, want: "10.0.0.2"},
		"what it has":                             {service: service("s", "10.0.0.3"), pools: []*api.AddressPool{pool("a", "10.0.0.1-10.0.0.3")}, want: "10.0.0.3"},
		"what it has, though the pool has shrunk": {service: service("s", "10.0.0.3"), pools: []*api.AddressPool{pool("a", "10.0.0.1")}, want: "10.0.0.3"},
		"not what an older one has, too":          {service: service("s", "10.0.0.1"), pools: []*api.AddressPool{pool("a", "10.0.0.1-10.0.0.3")}, others: []*corev1.Service{service("o", "10.0.0.1")}, want: "10.0.0.2"},
		"all are taken":                           {service: service("s", ""), pools: []*api.AddressPool{pool("a", "10.0.0.1")}, others: []*corev1.Service{service("o", "10.0.0.1")}, problem: "every address of the pools is taken"},
		"the next pool":                           {service: service("s", ""), pools: []*api.AddressPool{pool("b", "10.9.0.1"), pool("a", "10.0.0.1")}, others: []*corev1.Service{service("o", "10.0.0.1")}, want: "10.9.0.1"},
		"one it asks for":                         {service: service("s", "10.0.0.1", ip, "10.0.0.2"), pools: []*api.AddressPool{pool("a", "10.0.0.1-10.0.0.3")}, want: "10.0.0.2"},
		"one it asks for is another's": {service: service("s", "", ip, "10.0.0.1"), pools: []*api.AddressPool{pool("a", "10.0.0.1-10.0.0.3")}, others: []*corev1.Service{service("o", "10.0.0.1")},
			problem: "address 10.0.0.1 is that of service n/o"},
		"one that no pool has":         {service: service("s", "", ip, "10.7.0.1"), pools: []*api.AddressPool{pool("a", "10.0.0.1")}, problem: "address 10.7.0.1 is in no pool that the service may use"},
		"no address":                   {service: service("s", "", ip, "here"), pools: []*api.AddressPool{pool("a", "10.0.0.1")}, problem: `"here" is no IPv4 address`},
		"a pool that is kept":          {service: service("s", ""), pools: []*api.AddressPool{kept}, problem: "there is no pool that the service may use"},
		"a kept pool that it asks for": {service: service("s", "", named, "kept"), pools: []*api.AddressPool{kept}, want: "10.0.1.1"},
		"a kept pool's address":        {service: service("s", "", ip, "10.0.1.2"), pools: []*api.AddressPool{kept}, want: "10.0.1.2"},
		"an address that isn't a host": {service: service("s", "", ip, "10.0.1.3"), pools: []*api.AddressPool{kept}, problem: "address 10.0.1.3 is in no pool that the service may use"},
		"another namespace's pool":     {service: service("s", ""), pools: []*api.AddressPool{shop}, problem: "there is no pool that the service may use"},
		"its namespace's pool":         {service: service("s", ""), labels: map[string]string{"team": "shop"}, pools: []*api.AddressPool{shop}, want: "10.0.2.1"},
		"a pool that isn't":            {service: service("s", "", named, "x"), pools: []*api.AddressPool{pool("a", "10.0.0.1")}, problem: `there is no pool "x" that the service may use`},
	} {
		for i, o := range c.others {
			o.CreationTimestamp = metav1.NewTime(time.Unix(int64(i+1), 0))
		}
		c.service.CreationTimestamp = metav1.NewTime(time.Unix(99, 0))
		got, problem := decide(c.service, c.labels, c.pools, holders(append(c.others, c.service)))
		text := ""
		if got.IsValid() {
			text = got.String()
		}
		if text != c.want || problem != c.problem {
			t.Errorf("%s: %q, %q", name, text, problem)
		}
	}
}

func TestPoolsCountEachAddressOnce(t *testing.T) {
	held := holders([]*corev1.Service{service("a", "10.0.0.2"), service("b", "10.0.0.9"), service("c", "10.3.0.1")})
	got := poolStatus(pool("p", "10.0.0.1-10.0.0.4", "10.0.0.2-10.0.0.5", "10.0.0.3", "10.0.0.8/29"), held)
	if got != (api.AddressPoolStatus{Total: 5 + 6, Allocated: 2}) {
		t.Errorf("%+v", got)
	}
}

func node(name string, ready corev1.ConditionStatus) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}}}
}

func TestOneNodeAnswersForAnAddressForAsLongAsItCan(t *testing.T) {
	nodes := []*corev1.Node{node("a", "True"), node("b", "True"), node("c", "True")}
	s := service("s", "")
	at := netip.MustParseAddr("10.0.0.1")
	first := announcer(s, at, nodes, nil)
	if first == "" {
		t.Fatal("nobody answers")
	}
	spread := map[string]bool{}
	for n := range 50 {
		spread[announcer(s, netip.MustParseAddr(fmt.Sprintf("10.0.0.%d", n+1)), nodes, nil)] = true
	}
	if len(spread) != 3 {
		t.Errorf("50 addresses are answered for by %v", spread)
	}
	i := slices.IndexFunc(nodes, func(n *corev1.Node) bool { return n.Name == first })
	lost := slices.Clone(nodes)
	lost[i] = node(first, "Unknown")
	second := announcer(s, at, lost, nil)
	if second == "" || second == first {
		t.Fatalf("after %s is lost: %q", first, second)
	}
	s.Annotations[api.AnnotationAnnouncedBy] = second
	if got := announcer(s, at, nodes, nil); got != second {
		t.Errorf("the address moved from %s to %s when a node came back", second, got)
	}
	lost[0] = node("a", "True")
	for _, n := range nodes {
		n.Labels = map[string]string{corev1.LabelNodeExcludeBalancers: ""}
	}
	if got := announcer(s, at, nodes, nil); got != "" {
		t.Errorf("%s answers, though it is excluded", got)
	}
	local := service("l", "")
	local.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	on := "c"
	endpoints := []*discoveryv1.EndpointSlice{{Endpoints: []discoveryv1.Endpoint{{NodeName: &on}}}}
	if got := announcer(local, at, []*corev1.Node{node("a", "True"), node("c", "True")}, endpoints); got != "c" {
		t.Errorf("%q answers for a local service of a pod on c", got)
	}
}

func TestAServiceGetsAnAddressAndGivesItBack(t *testing.T) {
	clock := clocktesting.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	fake := reconciletest.New(clock.Now)
	env := reconcile.Env{Client: fake, Clock: clock}
	events := reconcile.NewRecorder(env)
	loop := New(env, events)
	ctx := t.Context()
	must := func(_ api.Object, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	run := func(names ...string) {
		t.Helper()
		for _, n := range names {
			if _, err := loop.Reconcile(ctx, reconcile.Key{Namespace: "n", Name: n}); err != nil {
				t.Fatal(err)
			}
		}
		events.Flush(ctx)
	}
	get := func(name string) *corev1.Service {
		t.Helper()
		s, err := reconcile.Get[*corev1.Service](ctx, fake, reconcile.Services(), "n", name)
		if err != nil {
			t.Fatal(err)
		}
		if s == nil {
			return nil
		}
		return s.DeepCopy()
	}
	said := func(reason string) (out []string) {
		list, _ := reconcile.List[*corev1.Event](ctx, fake, reconcile.Events(), "", nil)
		for _, e := range list {
			if e.Reason == reason {
				out = append(out, e.InvolvedObject.Name+": "+e.Message)
			}
		}
		return out
	}
	must(fake.Create(ctx, reconcile.Nodes(), node("n1", "True")))
	for _, n := range []string{"a", "b"} {
		must(fake.Create(ctx, reconcile.Services(), service(n, "")))
	}
	run("a", "b")
	if s := get("a"); len(s.Finalizers) > 0 || len(s.Status.LoadBalancer.Ingress) > 0 {
		t.Error("a service was touched though there is no pool")
	}
	must(fake.Create(ctx, reconcile.AddressPools(), pool("p", "10.0.0.1")))
	run("a", "b")
	a := get("a")
	if !slices.Equal(a.Finalizers, []string{Finalizer}) || addressOf(a).String() != "10.0.0.1" || *a.Status.LoadBalancer.Ingress[0].IPMode != corev1.LoadBalancerIPModeVIP ||
		a.Annotations[api.AnnotationAnnouncedBy] != "n1" {
		t.Errorf("%v %v %v", a.Finalizers, a.Status.LoadBalancer, a.Annotations)
	}
	run("a", "b", "b")
	if got := said("SyncLoadBalancerFailed"); len(got) != 1 || got[0] != "b: Error syncing load balancer: failed to ensure load balancer: every address of the pools is taken" {
		t.Errorf("said %q", got)
	}
	if err := fake.Delete(ctx, reconcile.Services(), "n", "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	run("b") // not before the first is gone
	if s := get("b"); addressOf(s).IsValid() {
		t.Errorf("two services have %s", addressOf(s))
	}
	run("a", "b")
	if get("a") != nil || addressOf(get("b")).String() != "10.0.0.1" {
		t.Errorf("%v, %v", get("a"), get("b").Status)
	}
	b := get("b")
	b.Spec.Type = corev1.ServiceTypeClusterIP
	must(fake.Update(ctx, reconcile.Services(), "", b))
	run("b")
	if s := get("b"); len(s.Finalizers) > 0 || addressOf(s).IsValid() || s.Annotations[api.AnnotationAnnouncedBy] != "" {
		t.Errorf("after a change of type: %v %v", s.Finalizers, s.Status)
	}
	other := service("c", "")
	class := "example.com/other"
	other.Spec.LoadBalancerClass = &class
	must(fake.Create(ctx, reconcile.Services(), other))
	run("c")
	if s := get("c"); len(s.Finalizers) > 0 {
		t.Error("another class's service was touched")
	}
	if _, err := loop.Reconcile(ctx, reconcile.Key{Name: "p"}); err != nil {
		t.Fatal(err)
	}
	p, _ := reconcile.Get[*api.AddressPool](ctx, fake, reconcile.AddressPools(), "", "p")
	if p.Status.Total != 1 || p.Status.Allocated != 0 || len(said("EnsuredLoadBalancer")) != 2 || !strings.Contains(said("DeletedLoadBalancer")[0], "Deleted load balancer") {
		t.Errorf("%+v, said %q", p.Status, said("EnsuredLoadBalancer"))
	}
}
