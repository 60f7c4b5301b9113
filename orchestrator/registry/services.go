package registry

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/pintle/pintle/orchestrator/api"
)

func hasNodePorts(t corev1.ServiceType) bool {
	return t == corev1.ServiceTypeNodePort || t == corev1.ServiceTypeLoadBalancer
}

// keptFor is the Service that somebody's IPAddress keeps an address for, by its key; ok says that there is one. It may be
// one that never comes to be: then the address is nobody's to have. IPAddresses that the control plane makes say what
// Services have, and count no more than those.
func (r *Registry) keptFor(ip string) (key string, ok bool) {
	c := r.resources[networkingv1.SchemeGroupVersion.WithResource("ipaddresses")]
	if c == nil {
		return "", false
	}
	e := c.get(entryKey("", ip))
	if e == nil || e.obj.GetLabels()[networkingv1.LabelManagedBy] == api.IPAddressManager {
		return "", false
	}
	if ref := e.obj.(*networkingv1.IPAddress).Spec.ParentRef; ref != nil && ref.Resource == "services" {
		return entryKey(ref.Namespace, ref.Name), true
	}
	return "(an IPAddress)", true
}

// claim fills in what a Service needs and does not have, and keeps it from others until end. Nil for
// every other kind.
func (a *allocator) claim(k *kindRef, obj, old api.Object, now time.Time) (*claim, error) {
	s, ok := obj.(*corev1.Service)
	if !ok {
		return nil, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.expireLocked(now)
	c := &claim{a: a, owner: entryKey(s.Namespace, s.Name), now: now}
	a.claims[c] = struct{}{}
	err := a.claimIPLocked(c, s)
	if err == nil {
		err = a.claimPortsLocked(c, s)
	}
	if err != nil {
		delete(a.claims, c)
	}
	var problem *field.Error
	switch {
	case errors.As(err, &problem):
		return nil, invalid(k.kind, s.Name, field.ErrorList{problem})
	case err != nil:
		return nil, apierrors.NewInternalError(err)
	}
	return c, nil
}

func (a *allocator) claimIPLocked(c *claim, s *corev1.Service) error {
	at := field.NewPath("spec", "clusterIPs")
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	if s.Spec.ClusterIP == "" && len(s.Spec.ClusterIPs) > 0 {
		s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
	}
	switch s.Spec.ClusterIP {
	case corev1.ClusterIPNone:
	case "":
		ip, ok := a.freeIPLocked(c.owner)
		if !ok {
			return errors.New("failed to allocate a serviceIP: range is full")
		}
		s.Spec.ClusterIP = ip.String()
		c.ips, c.fresh = append(c.ips, ip), true
	default:
		ip, err := netip.ParseAddr(s.Spec.ClusterIP)
		if err != nil {
			return nil // validation says what is wrong with it
		}
		owner := a.ownerOfIPLocked(ip)
		if !a.usableLocked(ip) && owner != c.owner {
			return field.Invalid(at, []string{s.Spec.ClusterIP}, fmt.Sprintf(
				"failed to allocate IP %s: the provided IP (%s) is not in the valid range. The range of valid IPs is %s", ip, ip, a.rangesLocked()))
		}
		if owner != "" && owner != c.owner {
			return field.Invalid(at, []string{s.Spec.ClusterIP}, fmt.Sprintf("failed to allocate IP %s: provided IP is already allocated", ip))
		}
		c.ips, c.fresh = append(c.ips, ip), c.fresh || owner == ""
	}
	if len(s.Spec.ClusterIPs) == 0 {
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	}
	if len(s.Spec.IPFamilies) == 0 {
		s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	}
	if s.Spec.IPFamilyPolicy == nil {
		single := corev1.IPFamilyPolicySingleStack
		s.Spec.IPFamilyPolicy = &single
	}
	if len(s.Spec.ClusterIPs) != 1 || s.Spec.ClusterIPs[0] != s.Spec.ClusterIP {
		return field.Invalid(at, s.Spec.ClusterIPs, "must hold what `clusterIP` says, and nothing else: this cluster is not configured for dual-stack services")
	}
	return nil
}

func (a *allocator) claimPortsLocked(c *claim, s *corev1.Service) error {
	if !hasNodePorts(s.Spec.Type) {
		return nil // validation refuses what is left
	}
	type use struct {
		port     int32
		protocol corev1.Protocol
	}
	mine := map[use]bool{}
	for n, p := range s.Spec.Ports {
		if p.NodePort == 0 {
			continue
		}
		at := field.NewPath("spec", "ports").Index(n).Child("nodePort")
		if p.NodePort < firstNodePort || p.NodePort > lastNodePort {
			return field.Invalid(at, p.NodePort, fmt.Sprintf("provided port is not in the valid range. The range of valid ports is %d-%d", firstNodePort, lastNodePort))
		}
		// One Service may have a port in two protocols.
		owner := a.ownerOfPortLocked(p.NodePort)
		if owner != "" && owner != c.owner || mine[use{p.NodePort, p.Protocol}] {
			return field.Invalid(at, p.NodePort, "provided port is already allocated")
		}
		mine[use{p.NodePort, p.Protocol}] = true
		c.ports, c.fresh = append(c.ports, p.NodePort), c.fresh || owner == ""
	}
	for n := range s.Spec.Ports {
		p := &s.Spec.Ports[n]
		if p.NodePort != 0 || !api.NeedsNodePorts(s) {
			continue
		}
		port, ok := a.freePortLocked()
		if !ok {
			return errors.New("failed to allocate a nodePort: range is full")
		}
		p.NodePort = port
		c.ports, c.fresh = append(c.ports, port), true
	}
	return nil
}
