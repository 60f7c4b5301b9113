package servicecidr

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/reconciletest"
)

func TestWhatKeepsAServiceCIDR(t *testing.T) {
	cidr := func(name string, ending bool, cidrs ...string) *networkingv1.ServiceCIDR {
		c := &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: cidrs}}
		if ending {
			c.DeletionTimestamp = &metav1.Time{}
		}
		return c
	}
	at := []netip.Addr{netip.MustParseAddr("10.0.0.5")}
	for name, c := range map[string]struct {
		others []*networkingv1.ServiceCIDR
		cidr   string
		want   bool
	}{
		"an address":                      {cidr: "10.0.0.0/24", want: true},
		"none of its addresses":           {cidr: "10.0.1.0/24"},
		"one that another holds, too":     {cidr: "10.0.0.0/24", others: []*networkingv1.ServiceCIDR{cidr("o", false, "10.0.0.0/16")}},
		"one that another ending one has": {cidr: "10.0.0.0/24", others: []*networkingv1.ServiceCIDR{cidr("o", true, "10.0.0.0/16")}, want: true},
	} {
		self := cidr("s", true, c.cidr)
		if _, got := used(self, append(c.others, self), at); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

type bench struct {
	t     *testing.T
	clock *clocktesting.FakeClock
	fake  *reconciletest.Fake
	loops []*reconcile.Controller
}

func (b *bench) run(loop int, key string) {
	b.t.Helper()
	if _, err := b.loops[loop].Reconcile(b.t.Context(), reconcile.Key{Name: key}); err != nil {
		b.t.Fatal(err)
	}
}

// tell hands a change of a Service to the repair loop's watch, and does what it asks for.
func (b *bench) tell(typ watch.EventType, now, old *corev1.Service) {
	b.t.Helper()
	e := reconcile.Event{Type: typ, Object: now}
	if old != nil {
		e.Old = old
	}
	var keys []string
	if err := b.loops[1].Watches[0].Map(b.t.Context(), e, func(k reconcile.Key) { keys = append(keys, k.Name) }); err != nil {
		b.t.Fatal(err)
	}
	for _, k := range keys {
		b.run(1, k)
	}
}

func (b *bench) parents() string {
	list, err := reconcile.List[*networkingv1.IPAddress](context.Background(), b.fake, reconcile.IPAddresses(), "", nil)
	if err != nil {
		b.t.Fatal(err)
	}
	var out []string
	for _, a := range list {
		out = append(out, a.Name+"="+a.Spec.ParentRef.Name)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func newBench(t *testing.T) *bench {
	clock := clocktesting.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	b := &bench{t: t, clock: clock, fake: reconciletest.New(clock.Now)}
	b.loops = New(reconcile.Env{Client: b.fake, Clock: clock}, nil, netip.MustParsePrefix("10.0.0.0/24"))
	return b
}

func (b *bench) service(name, ip string) *corev1.Service {
	b.t.Helper()
	o, err := b.fake.Create(b.t.Context(), reconcile.Services(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: name}, Spec: corev1.ServiceSpec{ClusterIP: ip, ClusterIPs: []string{ip}}})
	if err != nil {
		b.t.Fatal(err)
	}
	return o.(*corev1.Service)
}

func TestEveryClusterIPIsAnIPAddress(t *testing.T) {
	b := newBench(t)
	s := b.service("s", "10.0.0.5")
	b.tell(watch.Added, s, nil)
	if got := b.parents(); got != "10.0.0.5=s" {
		t.Fatalf("IPAddresses %q", got)
	}
	del := func(name string) {
		t.Helper()
		if err := b.fake.Delete(t.Context(), reconcile.IPAddresses(), "", name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	del("10.0.0.5") // by somebody
	b.run(1, "10.0.0.5")
	if got := b.parents(); got != "10.0.0.5=s" {
		t.Errorf("it isn't repaired: %q", got)
	}
	// Of another Service, by somebody.
	del("10.0.0.5")
	wrong := wanted(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "wrong"}}, netip.MustParseAddr("10.0.0.5"))
	if _, err := b.fake.Create(t.Context(), reconcile.IPAddresses(), wrong); err != nil {
		t.Fatal(err)
	}
	b.run(1, "10.0.0.5")
	if got := b.parents(); got != "10.0.0.5=s" {
		t.Errorf("it isn't repaired: %q", got)
	}
	if err := b.fake.Delete(t.Context(), reconcile.Services(), "n", "s", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	b.tell(watch.Deleted, s, s)
	if got := b.parents(); got != "" {
		t.Errorf("left: %q", got)
	}
	kept := wrong.DeepCopy()
	kept.Labels = nil
	if _, err := b.fake.Create(t.Context(), reconcile.IPAddresses(), kept); err != nil {
		t.Fatal(err)
	}
	b.run(1, "10.0.0.5")
	if got := b.parents(); got != "10.0.0.5=wrong" {
		t.Errorf("what somebody keeps is gone: %q", got)
	}
}

func TestAServiceCIDRGoesWhenNobodyHasItsAddresses(t *testing.T) {
	b := newBench(t)
	b.run(0, api.DefaultServiceCIDR)
	b.run(0, api.DefaultServiceCIDR)
	get := func(name string) *networkingv1.ServiceCIDR {
		c, err := reconcile.Get[*networkingv1.ServiceCIDR](t.Context(), b.fake, reconcile.ServiceCIDRs(), "", name)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if c := get(api.DefaultServiceCIDR); c == nil || c.Spec.CIDRs[0] != "10.0.0.0/24" || !meta.IsStatusConditionTrue(c.Status.Conditions, "Ready") || !slices.Contains(c.Finalizers, Finalizer) {
		t.Fatalf("%+v", c)
	}
	if _, err := b.fake.Create(t.Context(), reconcile.ServiceCIDRs(), &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "more"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.7.0.0/24"}}}); err != nil {
		t.Fatal(err)
	}
	b.run(0, "more")
	b.service("s", "10.7.0.9")
	if err := b.fake.Delete(t.Context(), reconcile.ServiceCIDRs(), "", "more", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		b.run(0, "more")
		b.clock.Step(settle)
	}
	if c := get("more"); c == nil || !meta.IsStatusConditionFalse(c.Status.Conditions, "Ready") {
		t.Fatalf("a range that is used is gone: %+v", c)
	}
	if err := b.fake.Delete(t.Context(), reconcile.Services(), "n", "s", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	b.run(0, "more")
	if c := get("more"); c != nil {
		t.Errorf("left: %+v", c)
	}
}
