package registry_test

import (
	"fmt"
	"net/netip"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/registry"
)

func TestServiceCIDRsAddAddressesAtRunTime(t *testing.T) {
	r := open(t, func(c *registry.Config) { c.ServiceCIDR = netip.MustParsePrefix("10.9.0.0/27") })
	svcs, cidrs := core("services"), networkingv1.SchemeGroupVersion.WithResource("servicecidrs")
	n := 0
	fill := func() (err error) {
		for ; err == nil; n++ {
			_, err = r.Create(t.Context(), svcs, service(fmt.Sprint("s", n)), registry.CreateOptions{})
		}
		return err
	}
	refused(t, fill(), apierrors.IsInternalError, "range is full")
	create(t, r, cidrs, &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "more", Finalizers: []string{"networking.k8s.io/service-cidr-finalizer"}},
		Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.77.0.0/29"}}})
	before := n
	refused(t, fill(), apierrors.IsInternalError, "range is full")
	if n-before != 6+1 { // the last was refused
		t.Errorf("%d Services more, of 6 addresses more", n-before-1)
	}
	fixed := service("fixed")
	fixed.Spec.ClusterIP = "10.88.0.1"
	_, err := r.Create(t.Context(), svcs, fixed, registry.CreateOptions{})
	refused(t, err, apierrors.IsInvalid, "The range of valid IPs is 10.9.0.0/27,10.77.0.0/29")

	// One that is being deleted gives no more.
	if _, _, err := r.Delete(t.Context(), svcs, "default", fmt.Sprint("s", n-2), metav1.DeleteOptions{}, ""); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Delete(t.Context(), cidrs, "", "more", metav1.DeleteOptions{}, ""); err != nil {
		t.Fatal(err)
	}
	refused(t, fill(), apierrors.IsInternalError, "range is full")
}

func TestAnIPAddressThatSomebodyKeepsIsNobodyElses(t *testing.T) {
	r := open(t)
	svcs, ips := core("services"), networkingv1.SchemeGroupVersion.WithResource("ipaddresses")
	create(t, r, ips, &networkingv1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: "10.9.0.50"},
		Spec: networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{Resource: "services", Namespace: "default", Name: "mine"}}})
	other, mine := service("other"), service("mine")
	other.Spec.ClusterIP, mine.Spec.ClusterIP = "10.9.0.50", "10.9.0.50"
	_, err := r.Create(t.Context(), svcs, other, registry.CreateOptions{})
	refused(t, err, apierrors.IsInvalid, "provided IP is already allocated")
	create(t, r, svcs, mine)
}
