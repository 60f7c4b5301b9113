package services

import (
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Key names a Service.
type Key struct{ Namespace, Name string }

// String returns namespace/name.
func (k Key) String() string { return k.Namespace + "/" + k.Name }

// Service is one Service with its endpoints, resolved for one node. Immutable.
type Service struct {
	Key
	// ClusterIPs are the IPv4 virtual addresses; empty for headless and ExternalName Services.
	ClusterIPs []netip.Addr
	// ExternalIPs are spec.externalIPs and the load balancer's addresses.
	ExternalIPs []netip.Addr
	// Announced are those of the load balancer's addresses that this node answers for on its network.
	Announced    []netip.Addr
	Headless     bool
	ExternalName string
	// Affinity is how long a client keeps its endpoint; 0 is no affinity.
	Affinity time.Duration
	// ExternalLocal is externalTrafficPolicy Local.
	ExternalLocal bool
	// ScaleToZero is after how long without use the Service's workload may be scaled to zero; 0: never. Then what comes
	// while it has no endpoint is held.
	ScaleToZero time.Duration
	UID         types.UID
	Ports       []Port
}

// Port is one port of a Service.
type Port struct {
	Name        string
	Protocol    corev1.Protocol
	Port        uint16
	NodePort    uint16
	AppProtocol string
	// Endpoints are all of them, sorted by address.
	Endpoints []Endpoint
	// Cluster are the endpoints that new connections may reach from anywhere, Internal those for
	// the cluster's addresses and External those for node ports and external addresses, after the
	// traffic policies. Each is sorted and without duplicates.
	Cluster, Internal, External []netip.AddrPort
}

// Endpoint is one address behind a port.
type Endpoint struct {
	Addr                        netip.AddrPort
	Hostname                    string
	Node                        string
	Ready, Serving, Terminating bool
}

// KeyOr is the key of s, or of o where s is nil.
func (s *Service) KeyOr(o *Service) Key {
	if s == nil {
		return o.Key
	}
	return s.Key
}

// Equal says whether both resolve alike.
func (s *Service) Equal(o *Service) bool {
	if s == nil || o == nil {
		return s == o
	}
	return s.Key == o.Key && s.Headless == o.Headless && s.ExternalName == o.ExternalName &&
		s.Affinity == o.Affinity && s.ExternalLocal == o.ExternalLocal && s.ScaleToZero == o.ScaleToZero && s.UID == o.UID &&
		slices.Equal(s.ClusterIPs, o.ClusterIPs) && slices.Equal(s.ExternalIPs, o.ExternalIPs) && slices.Equal(s.Announced, o.Announced) &&
		slices.EqualFunc(s.Ports, o.Ports, func(a, b Port) bool {
			return a.Name == b.Name && a.Protocol == b.Protocol && a.Port == b.Port && a.NodePort == b.NodePort &&
				a.AppProtocol == b.AppProtocol && slices.Equal(a.Endpoints, b.Endpoints) &&
				slices.Equal(a.Cluster, b.Cluster) && slices.Equal(a.Internal, b.Internal) && slices.Equal(a.External, b.External)
		})
}

// annotationAnnouncedBy names the node that answers for the load balancer's addresses: the control plane chooses it.
const annotationAnnouncedBy = "networking.pintle.dev/announced-by"

// defaultAffinity is Kubernetes' default of sessionAffinityConfig.clientIP.timeoutSeconds.
const defaultAffinity = 3 * time.Hour

// Resolve decides for one Service which endpoints get its connections on the named node.
// Addresses that are not IPv4 are left out. Pure.
func Resolve(svc *corev1.Service, list []*discoveryv1.EndpointSlice, node string) *Service {
	s := &Service{Key: Key{svc.Namespace, svc.Name}, UID: svc.UID, ExternalLocal: svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal}
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		s.ExternalName = svc.Spec.ExternalName
		return s
	}
	if svc.Spec.ClusterIP == corev1.ClusterIPNone {
		s.Headless = true
	} else {
		ips := svc.Spec.ClusterIPs
		if len(ips) == 0 {
			ips = []string{svc.Spec.ClusterIP}
		}
		s.ClusterIPs = addrs(ips)
	}
	if !s.Headless {
		s.ScaleToZero, _ = ScaleToZeroAfter(svc.Annotations)
	}
	s.ExternalIPs = addrs(svc.Spec.ExternalIPs)
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if in.IPMode == nil || *in.IPMode == corev1.LoadBalancerIPModeVIP {
			s.ExternalIPs = append(s.ExternalIPs, addrs([]string{in.IP})...)
			if node != "" && svc.Annotations[annotationAnnouncedBy] == node {
				s.Announced = append(s.Announced, addrs([]string{in.IP})...)
			}
		}
	}
	slices.SortFunc(s.ExternalIPs, netip.Addr.Compare)
	s.ExternalIPs = slices.Compact(s.ExternalIPs)
	if svc.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		s.Affinity = defaultAffinity
		if c := svc.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
			s.Affinity = time.Duration(*c.ClientIP.TimeoutSeconds) * time.Second
		}
	}
	internalLocal := svc.Spec.InternalTrafficPolicy != nil && *svc.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal
	for i := range svc.Spec.Ports {
		sp := &svc.Spec.Ports[i]
		p := Port{Name: sp.Name, Protocol: sp.Protocol, Port: uint16(sp.Port), NodePort: uint16(sp.NodePort)}
		if p.Protocol == "" {
			p.Protocol = corev1.ProtocolTCP
		}
		if sp.AppProtocol != nil {
			p.AppProtocol = *sp.AppProtocol
		}
		p.Endpoints = endpointsOf(list, p.Name, p.Protocol, uint16(sp.Port), s.Headless)
		all := func(Endpoint) bool { return true }
		ready := func(e Endpoint) bool { return e.Ready }
		local := func(e Endpoint) bool { return e.Node == node }
		if s.ScaleToZero > 0 { // what comes while the last ones end is held: they may end before they answer
			all, local = ready, func(e Endpoint) bool { return e.Ready && e.Node == node }
		}
		p.Cluster = choose(p.Endpoints, all)
		p.Internal, p.External = p.Cluster, p.Cluster
		if internalLocal {
			p.Internal = choose(p.Endpoints, local)
		}
		if s.ExternalLocal {
			p.External = choose(p.Endpoints, local)
		}
		s.Ports = append(s.Ports, p)
	}
	if s.Headless && len(s.Ports) == 0 {
		// A headless Service may name no port; DNS still answers with its endpoints.
		s.Ports = []Port{{Endpoints: endpointsOf(list, "", "", 0, true)}}
	}
	return s
}

func addrs(list []string) []netip.Addr {
	var out []netip.Addr
	for _, t := range list {
		if a, err := netip.ParseAddr(t); err == nil && a.Is4() {
			out = append(out, a)
		}
	}
	return out
}

func endpointsOf(list []*discoveryv1.EndpointSlice, name string, proto corev1.Protocol, port uint16, headless bool) []Endpoint {
	var out []Endpoint
	for _, sl := range list {
		if sl.AddressType != discoveryv1.AddressTypeIPv4 {
			continue
		}
		target, ok := slicePort(sl, name, proto)
		if !ok {
			if !headless || len(sl.Ports) > 0 {
				continue
			}
			target = port // a headless Service whose slices name no ports: the address alone counts
		}
		for i := range sl.Endpoints {
			e := &sl.Endpoints[i]
			ep := Endpoint{Ready: isTrue(e.Conditions.Ready, true), Terminating: isTrue(e.Conditions.Terminating, false)}
			ep.Serving = isTrue(e.Conditions.Serving, ep.Ready)
			if e.Hostname != nil {
				ep.Hostname = *e.Hostname
			}
			if e.NodeName != nil {
				ep.Node = *e.NodeName
			}
			for _, t := range e.Addresses {
				if a, err := netip.ParseAddr(t); err == nil && a.Is4() {
					ep.Addr = netip.AddrPortFrom(a, target)
					out = append(out, ep)
				}
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Endpoint) int {
		if c := a.Addr.Compare(b.Addr); c != 0 {
			return c
		}
		// While a slice is moved an address may stand in two: the ready one wins.
		switch {
		case a.Ready && !b.Ready:
			return -1
		case b.Ready && !a.Ready:
			return 1
		}
		return 0
	})
	return slices.CompactFunc(out, func(a, b Endpoint) bool { return a.Addr == b.Addr })
}

func isTrue(b *bool, unset bool) bool {
	if b == nil {
		return unset
	}
	return *b
}

func slicePort(sl *discoveryv1.EndpointSlice, name string, proto corev1.Protocol) (uint16, bool) {
	for i := range sl.Ports {
		p := &sl.Ports[i]
		n, pr := "", corev1.ProtocolTCP
		if p.Name != nil {
			n = *p.Name
		}
		if p.Protocol != nil {
			pr = *p.Protocol
		}
		if n == name && pr == proto && p.Port != nil {
			return uint16(*p.Port), true
		}
	}
	return 0, false
}

// choose returns the ready endpoints that match, else those that still serve while terminating.
func choose(list []Endpoint, match func(Endpoint) bool) []netip.AddrPort {
	var ready, fallback []netip.AddrPort
	for _, e := range list {
		if !match(e) {
			continue
		}
		if e.Ready {
			ready = append(ready, e.Addr)
		} else if e.Serving && e.Terminating {
			fallback = append(fallback, e.Addr)
		}
	}
	if len(ready) > 0 {
		return ready
	}
	return fallback
}
