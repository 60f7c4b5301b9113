package servicecidr

import (
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/api"
)

const (
	// Finalizer keeps a ServiceCIDR while its addresses are used.
	Finalizer = "networking.k8s.io/service-cidr-finalizer"
	// settle is how long a deletion waits at least: whoever has chosen an address before it shows by then.
	settle = 10 * time.Second
)

func prefixes(c *networkingv1.ServiceCIDR) (out []netip.Prefix) {
	for _, text := range c.Spec.CIDRs {
		if p, err := netip.ParsePrefix(text); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// used returns an address of the ServiceCIDR that a Service has and no other ServiceCIDR holds.
func used(c *networkingv1.ServiceCIDR, all []*networkingv1.ServiceCIDR, addresses []netip.Addr) (netip.Addr, bool) {
	holds := func(c *networkingv1.ServiceCIDR, a netip.Addr) bool {
		return slices.ContainsFunc(prefixes(c), func(p netip.Prefix) bool { return p.Contains(a) })
	}
	for _, a := range addresses {
		if holds(c, a) && !slices.ContainsFunc(all, func(o *networkingv1.ServiceCIDR) bool {
			return o.Name != c.Name && o.DeletionTimestamp == nil && holds(o, a)
		}) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// condition is what a ServiceCIDR says of itself.
func condition(c *networkingv1.ServiceCIDR, now time.Time) metav1.Condition {
	out := metav1.Condition{Type: networkingv1.ServiceCIDRConditionReady, Status: metav1.ConditionTrue, Reason: "Ready", Message: "Kubernetes Service CIDR is ready",
		ObservedGeneration: c.Generation, LastTransitionTime: metav1.NewTime(now)}
	if c.DeletionTimestamp != nil {
		out.Status, out.Reason = metav1.ConditionFalse, networkingv1.ServiceCIDRReasonTerminating
		out.Message = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR"
	}
	return out
}

// clusterIPs are the addresses that a Service has.
func clusterIPs(s *corev1.Service) (out []netip.Addr) {
	if s == nil || s.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	ips := s.Spec.ClusterIPs
	if len(ips) == 0 {
		ips = []string{s.Spec.ClusterIP}
	}
	for _, text := range ips {
		if a, err := netip.ParseAddr(text); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// wanted is the IPAddress of a Service's address.
func wanted(s *corev1.Service, a netip.Addr) *networkingv1.IPAddress {
	return &networkingv1.IPAddress{
		ObjectMeta: metav1.ObjectMeta{Name: a.String(), Labels: map[string]string{
			networkingv1.LabelManagedBy: api.IPAddressManager, networkingv1.LabelIPAddressFamily: string(corev1.IPv4Protocol)}},
		Spec: networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{Resource: "services", Namespace: s.Namespace, Name: s.Name}},
	}
}

// isFor says whether an IPAddress is the Service's.
func isFor(a *networkingv1.IPAddress, namespace, name string) bool {
	r := a.Spec.ParentRef
	return r != nil && r.Group == "" && r.Resource == "services" && r.Namespace == namespace && r.Name == name
}
