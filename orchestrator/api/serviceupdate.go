package api

import corev1 "k8s.io/api/core/v1"

// prepareServiceUpdate keeps what was allocated where a client left it out, and drops what the old type
// had and the new one has not, unless the client asks for it anew.
func prepareServiceUpdate(s, old *corev1.Service) {
	s.Status = old.Status
	external := func(s *corev1.Service) bool { return s.Spec.Type == corev1.ServiceTypeExternalName }
	switch {
	case !external(s) && !external(old):
		switch one, all := s.Spec.ClusterIP == old.Spec.ClusterIP, equal(s.Spec.ClusterIPs, old.Spec.ClusterIPs); {
		case s.Spec.ClusterIP == "" && len(s.Spec.ClusterIPs) == 0:
			s.Spec.ClusterIP, s.Spec.ClusterIPs = old.Spec.ClusterIP, old.Spec.ClusterIPs
		case !one && all && s.Spec.ClusterIP != "": // who changes one of the two names means both
			s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
		case one && !all && len(s.Spec.ClusterIPs) == 1:
			s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
		}
	case external(s) && !external(old):
		if s.Spec.ClusterIP == old.Spec.ClusterIP {
			s.Spec.ClusterIP, s.Spec.ClusterIPs = "", nil
		}
		if equal(s.Spec.IPFamilies, old.Spec.IPFamilies) {
			s.Spec.IPFamilies = nil
		}
		if equal(s.Spec.IPFamilyPolicy, old.Spec.IPFamilyPolicy) {
			s.Spec.IPFamilyPolicy = nil
		}
		if equal(s.Spec.InternalTrafficPolicy, old.Spec.InternalTrafficPolicy) {
			s.Spec.InternalTrafficPolicy = nil
		}
	}
	if !external(s) && external(old) && s.Spec.ExternalName == old.Spec.ExternalName {
		s.Spec.ExternalName = ""
	}
	type key struct {
		protocol corev1.Protocol
		port     int32
	}
	of := func(p corev1.ServicePort) key {
		setZero(&p.Protocol, corev1.ProtocolTCP)
		return key{p.Protocol, p.Port}
	}
	before, taken := map[key]int32{}, map[int32]bool{}
	for _, p := range old.Spec.Ports {
		before[of(p)] = p.NodePort
	}
	for _, p := range s.Spec.Ports {
		taken[p.NodePort] = true
	}
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		had := before[of(*p)]
		switch {
		case NeedsNodePorts(s) && NeedsNodePorts(old) && p.NodePort == 0 && !taken[had]:
			p.NodePort = had
		case !NeedsNodePorts(s) && NeedsNodePorts(old) && p.NodePort == had:
			p.NodePort = 0
		}
	}
	if !reachedFromOutside(s) && reachedFromOutside(old) && s.Spec.ExternalTrafficPolicy == old.Spec.ExternalTrafficPolicy {
		s.Spec.ExternalTrafficPolicy = ""
	}
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer && old.Spec.Type == corev1.ServiceTypeLoadBalancer {
		s.Status.LoadBalancer = corev1.LoadBalancerStatus{}
		if equal(s.Spec.AllocateLoadBalancerNodePorts, old.Spec.AllocateLoadBalancerNodePorts) {
			s.Spec.AllocateLoadBalancerNodePorts = nil
		}
		if equal(s.Spec.LoadBalancerClass, old.Spec.LoadBalancerClass) {
			s.Spec.LoadBalancerClass = nil
		}
	}
}

// NeedsNodePorts says whether every port of the service is to have a node port.
func NeedsNodePorts(s *corev1.Service) bool {
	switch s.Spec.Type {
	case corev1.ServiceTypeNodePort:
		return true
	case corev1.ServiceTypeLoadBalancer:
		return s.Spec.AllocateLoadBalancerNodePorts == nil || *s.Spec.AllocateLoadBalancerNodePorts
	}
	return false
}

func reachedFromOutside(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer
}
