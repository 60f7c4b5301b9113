package api

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func serviceKind() *Kind {
	return &Kind{
		GroupVersionKind: corev1.SchemeGroupVersion.WithKind("Service"),
		Resource:         "services", Singular: "service", ShortNames: []string{"svc"}, Categories: []string{"all"}, Namespaced: true,
		CreateOnUpdate: true,
		New:            func() Object { return &corev1.Service{} },
		NewList:        func() runtime.Object { return &corev1.ServiceList{} },
		Default:        of(defaultService),
		PrepareCreate:  of(func(s *corev1.Service) { s.Status = corev1.ServiceStatus{} }),
		PrepareUpdate:  pair(prepareServiceUpdate),
		Validate:       check(validateService),
		ValidateUpdate: checkPair(func(s, old *corev1.Service) field.ErrorList {
			const balanced = corev1.ServiceTypeLoadBalancer
			if old.Spec.Type == balanced && s.Spec.Type == balanced && !equal(s.Spec.LoadBalancerClass, old.Spec.LoadBalancerClass) {
				return field.ErrorList{field.Invalid(field.NewPath("spec", "loadBalancerClass"), s.Spec.LoadBalancerClass, "field is immutable")}
			}
			if old.Spec.Type == corev1.ServiceTypeExternalName || s.Spec.Type == corev1.ServiceTypeExternalName || old.Spec.ClusterIP == "" {
				return nil
			}
			if s.Spec.ClusterIP != old.Spec.ClusterIP {
				return field.ErrorList{field.Invalid(field.NewPath("spec", "clusterIPs").Index(0), s.Spec.ClusterIPs, "may not change once set")}
			}
			return nil
		}),
		ValidName: validation.IsDNS1035Label,
		Status:    &Status{PrepareUpdate: pair(func(s, old *corev1.Service) { s.Spec = old.Spec })},
		Columns: []metav1.TableColumnDefinition{
			nameColumn(), column("Type", "Type determines how the Service is exposed.", 0), column("Cluster-IP", "The Service's address", 0),
			column("External-IP", "Where it is reached from outside", 0), column("Port(s)", "The ports", 0), ageColumn(), column("Selector", "The pods it means", 1),
		},
		Row: row(serviceRow),
		Fields: func(o Object) fields.Set {
			s := o.(*corev1.Service)
			return fields.Set{"spec.clusterIP": s.Spec.ClusterIP, "spec.type": string(s.Spec.Type)}
		},
	}
}

func defaultService(s *corev1.Service) {
	spec := &s.Spec
	setZero(&spec.SessionAffinity, corev1.ServiceAffinityNone)
	setZero(&spec.Type, corev1.ServiceTypeClusterIP)
	if spec.SessionAffinity == corev1.ServiceAffinityNone {
		spec.SessionAffinityConfig = nil
	} else if spec.SessionAffinityConfig == nil || spec.SessionAffinityConfig.ClientIP == nil || spec.SessionAffinityConfig.ClientIP.TimeoutSeconds == nil {
		spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr(int32(corev1.DefaultClientIPServiceAffinitySeconds))}}
	}
	for i := range spec.Ports {
		p := &spec.Ports[i]
		setZero(&p.Protocol, corev1.ProtocolTCP)
		if p.TargetPort == (intstr.IntOrString{}) {
			p.TargetPort = intstr.FromInt32(p.Port)
		}
	}
	if spec.Type == corev1.ServiceTypeExternalName {
		return
	}
	// Two names of one field.
	if spec.ClusterIP == "" && len(spec.ClusterIPs) > 0 {
		spec.ClusterIP = spec.ClusterIPs[0]
	} else if spec.ClusterIP != "" && len(spec.ClusterIPs) == 0 {
		spec.ClusterIPs = []string{spec.ClusterIP}
	}
	setDefault(&spec.InternalTrafficPolicy, corev1.ServiceInternalTrafficPolicyCluster)
	setDefault(&spec.IPFamilyPolicy, corev1.IPFamilyPolicySingleStack)
	if len(spec.IPFamilies) == 0 {
		spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	}
	if spec.Type == corev1.ServiceTypeNodePort || spec.Type == corev1.ServiceTypeLoadBalancer {
		setZero(&spec.ExternalTrafficPolicy, corev1.ServiceExternalTrafficPolicyCluster)
	}
	if spec.Type == corev1.ServiceTypeLoadBalancer {
		setDefault(&spec.AllocateLoadBalancerNodePorts, true)
	}
}

func validateService(s *corev1.Service) field.ErrorList {
	var errs field.ErrorList
	at := field.NewPath("spec")
	spec := &s.Spec
	switch spec.Type {
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer:
	case corev1.ServiceTypeExternalName:
		if spec.ExternalName == "" {
			errs = append(errs, field.Required(at.Child("externalName"), ""))
		} else {
			for _, m := range validation.IsDNS1123Subdomain(strings.TrimSuffix(spec.ExternalName, ".")) {
				errs = append(errs, field.Invalid(at.Child("externalName"), spec.ExternalName, m))
			}
		}
		if spec.ClusterIP != "" {
			errs = append(errs, field.Forbidden(at.Child("clusterIP"), "may not be set when `type` is 'ExternalName'"))
		}
	default:
		errs = append(errs, field.NotSupported(at.Child("type"), spec.Type, []corev1.ServiceType{
			corev1.ServiceTypeClusterIP, corev1.ServiceTypeExternalName, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort}))
	}
	if spec.ClusterIP != "" && spec.ClusterIP != corev1.ClusterIPNone {
		if a, err := netip.ParseAddr(spec.ClusterIP); err != nil || !a.Is4() {
			errs = append(errs, field.Invalid(at.Child("clusterIPs").Index(0), spec.ClusterIP, "must be a valid IPv4 address"))
		}
	}
	if spec.ClusterIP == corev1.ClusterIPNone && spec.Type != corev1.ServiceTypeClusterIP {
		errs = append(errs, field.Invalid(at.Child("clusterIPs").Index(0), spec.ClusterIP, "may not be set to 'None' for "+string(spec.Type)+" services"))
	}
	for i, family := range spec.IPFamilies {
		if family != corev1.IPv4Protocol {
			errs = append(errs, field.Invalid(at.Child("ipFamilies").Index(i), family, "not configured on this cluster"))
		}
	}
	if p := spec.IPFamilyPolicy; p != nil && *p == corev1.IPFamilyPolicyRequireDualStack {
		errs = append(errs, field.Invalid(at.Child("ipFamilyPolicy"), *p, "this cluster is not configured for dual-stack services"))
	}
	switch spec.SessionAffinity {
	case corev1.ServiceAffinityNone, corev1.ServiceAffinityClientIP:
	default:
		errs = append(errs, field.NotSupported(at.Child("sessionAffinity"), spec.SessionAffinity, []corev1.ServiceAffinity{corev1.ServiceAffinityClientIP, corev1.ServiceAffinityNone}))
	}
	if spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		path := at.Child("sessionAffinityConfig", "clientIP", "timeoutSeconds")
		if c := spec.SessionAffinityConfig; c == nil || c.ClientIP == nil || c.ClientIP.TimeoutSeconds == nil {
			errs = append(errs, field.Required(path, "when session affinity type is ClientIP"))
		} else if t := *c.ClientIP.TimeoutSeconds; t <= 0 || t > 86400 {
			errs = append(errs, field.Invalid(path, t, "must be greater than 0 and less than 86400"))
		}
	}
	switch ips := spec.ClusterIPs; {
	case len(ips) > 1:
		errs = append(errs, field.Invalid(at.Child("clusterIPs"), ips, "may only hold one address: this cluster is not configured for dual-stack services"))
	case len(ips) == 1 && ips[0] != spec.ClusterIP:
		errs = append(errs, field.Invalid(at.Child("clusterIPs"), ips, "first value must match `clusterIP`"))
	}
	if p := spec.IPFamilyPolicy; p != nil && *p != corev1.IPFamilyPolicyRequireDualStack {
		errs = append(errs, oneOf(*p, []corev1.IPFamilyPolicy{corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack, corev1.IPFamilyPolicySingleStack}, at.Child("ipFamilyPolicy"))...)
	}
	if p := spec.InternalTrafficPolicy; p != nil {
		errs = append(errs, oneOf(*p, []corev1.ServiceInternalTrafficPolicy{corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal}, at.Child("internalTrafficPolicy"))...)
	}
	if p := spec.ExternalTrafficPolicy; reachedFromOutside(s) {
		errs = append(errs, oneOf(p, []corev1.ServiceExternalTrafficPolicy{corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal}, at.Child("externalTrafficPolicy"))...)
	} else if p != "" {
		errs = append(errs, field.Invalid(at.Child("externalTrafficPolicy"), p, "may only be set for externally-accessible services"))
	}
	if spec.AllocateLoadBalancerNodePorts != nil && spec.Type != corev1.ServiceTypeLoadBalancer {
		errs = append(errs, field.Forbidden(at.Child("allocateLoadBalancerNodePorts"), "may only be used when `type` is 'LoadBalancer'"))
	}
	if class := spec.LoadBalancerClass; class != nil {
		if spec.Type != corev1.ServiceTypeLoadBalancer {
			errs = append(errs, field.Forbidden(at.Child("loadBalancerClass"), "may only be used when `type` is 'LoadBalancer'"))
		}
		errs = append(errs, invalid(validation.IsQualifiedName(*class), at.Child("loadBalancerClass"), *class)...)
	}
	for path, unsupported := range inOrder(map[string]bool{
		"healthCheckNodePort":      spec.HealthCheckNodePort != 0,
		"loadBalancerSourceRanges": len(spec.LoadBalancerSourceRanges) > 0, "externalIPs": len(spec.ExternalIPs) > 0, "trafficDistribution": spec.TrafficDistribution != nil,
	}) {
		if unsupported {
			errs = append(errs, notSupported(at.Child(path)))
		}
	}
	if spec.ExternalName != "" && spec.Type != corev1.ServiceTypeExternalName {
		errs = append(errs, field.Forbidden(at.Child("externalName"), "may only be set when `type` is 'ExternalName'"))
	}
	errs = append(errs, validateLabels(spec.Selector, at.Child("selector"))...)
	return append(errs, validateServicePorts(spec, at.Child("ports"))...)
}

// notSupported refuses a field that Kubernetes has and this version doesn't honour.
func notSupported(path *field.Path) *field.Error {
	return field.Forbidden(path, "not supported by Pintle: leave it out")
}

func validateServicePorts(spec *corev1.ServiceSpec, path *field.Path) (errs field.ErrorList) {
	if len(spec.Ports) == 0 && spec.ClusterIP != corev1.ClusterIPNone && spec.Type != corev1.ServiceTypeExternalName {
		errs = append(errs, field.Required(path, ""))
	}
	names := map[string]bool{}
	type key struct {
		protocol corev1.Protocol
		port     int32
	}
	ports, nodePorts := map[key]bool{}, map[key]bool{}
	for i := range spec.Ports {
		p, at := &spec.Ports[i], path.Index(i)
		switch {
		case p.Name == "" && len(spec.Ports) > 1:
			errs = append(errs, field.Required(at.Child("name"), ""))
		case p.Name != "":
			for _, m := range validation.IsDNS1123Label(p.Name) {
				errs = append(errs, field.Invalid(at.Child("name"), p.Name, m))
			}
			if names[p.Name] {
				errs = append(errs, field.Duplicate(at.Child("name"), p.Name))
			}
			names[p.Name] = true
		}
		for _, m := range validation.IsValidPortNum(int(p.Port)) {
			errs = append(errs, field.Invalid(at.Child("port"), p.Port, m))
		}
		if p.TargetPort.Type == intstr.Int {
			for _, m := range validation.IsValidPortNum(p.TargetPort.IntValue()) {
				errs = append(errs, field.Invalid(at.Child("targetPort"), p.TargetPort, m))
			}
		} else {
			for _, m := range validation.IsValidPortName(p.TargetPort.StrVal) {
				errs = append(errs, field.Invalid(at.Child("targetPort"), p.TargetPort, m))
			}
		}
		switch p.Protocol {
		case corev1.ProtocolTCP, corev1.ProtocolUDP:
		case corev1.ProtocolSCTP:
			errs = append(errs, notSupported(at.Child("protocol")))
		default:
			errs = append(errs, field.NotSupported(at.Child("protocol"), p.Protocol, []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP}))
		}
		if p.NodePort != 0 {
			errs = append(errs, validatePort(int64(p.NodePort), at.Child("nodePort"))...)
		}
		if p.AppProtocol != nil {
			errs = append(errs, invalid(validation.IsQualifiedName(*p.AppProtocol), at.Child("appProtocol"), *p.AppProtocol)...)
		}
		if p.NodePort != 0 && (spec.Type == corev1.ServiceTypeClusterIP || spec.Type == corev1.ServiceTypeExternalName) {
			errs = append(errs, field.Forbidden(at.Child("nodePort"), fmt.Sprintf("may not be used when `type` is '%s'", spec.Type)))
		}
		if k := (key{p.Protocol, p.NodePort}); p.NodePort != 0 {
			if nodePorts[k] {
				errs = append(errs, field.Duplicate(at.Child("nodePort"), p.NodePort))
			}
			nodePorts[k] = true
		}
		if k := (key{p.Protocol, p.Port}); ports[k] {
			errs = append(errs, field.Duplicate(at, fmt.Sprintf("%s/%d", p.Protocol, p.Port)))
		} else {
			ports[k] = true
		}
	}
	return errs
}

func serviceRow(s *corev1.Service) []any {
	external := "<none>"
	switch s.Spec.Type {
	case corev1.ServiceTypeLoadBalancer:
		external = "<pending>"
		for i, in := range s.Status.LoadBalancer.Ingress {
			if i == 0 {
				external = ""
			} else {
				external += ","
			}
			external += in.IP + in.Hostname
		}
	case corev1.ServiceTypeExternalName:
		external = s.Spec.ExternalName
	}
	var ports []string
	for _, p := range s.Spec.Ports {
		if p.NodePort > 0 {
			ports = append(ports, fmt.Sprintf("%d:%d/%s", p.Port, p.NodePort, p.Protocol))
		} else {
			ports = append(ports, fmt.Sprintf("%d/%s", p.Port, p.Protocol))
		}
	}
	return []any{s.Name, string(s.Spec.Type), orNone(s.Spec.ClusterIP), external, orNone(strings.Join(ports, ",")), s.CreationTimestamp,
		orNone(labels.Set(s.Spec.Selector).String())}
}
