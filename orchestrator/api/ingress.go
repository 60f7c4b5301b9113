package api

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// annotationIngressClass named an ingress's class before spec.ingressClassName did, and is still accepted.
const annotationIngressClass = "kubernetes.io/ingress.class"

func ingressKind() *Kind {
	return &Kind{
		GroupVersionKind: networkingv1.SchemeGroupVersion.WithKind("Ingress"),
		Resource:         "ingresses", Singular: "ingress", ShortNames: []string{"ing"}, Namespaced: true,
		New:     func() Object { return &networkingv1.Ingress{} },
		NewList: func() runtime.Object { return &networkingv1.IngressList{} },
		PrepareCreate: of(func(i *networkingv1.Ingress) {
			i.Status, i.Generation = networkingv1.IngressStatus{}, 1
		}),
		PrepareUpdate: pair(func(i, old *networkingv1.Ingress) {
			i.Status = old.Status
			bump(i, old, i.Spec, old.Spec)
		}),
		Validate: check(validateIngress),
		Status: &Status{
			PrepareUpdate: pair(func(i, old *networkingv1.Ingress) { i.Spec, i.Generation = old.Spec, old.Generation }),
			ValidateUpdate: checkPair(func(i, _ *networkingv1.Ingress) (errs field.ErrorList) {
				for n, l := range i.Status.LoadBalancer.Ingress {
					path := field.NewPath("status", "loadBalancer", "ingress").Index(n)
					if l.IP != "" {
						errs = append(errs, validation.IsValidIP(path.Child("ip"), l.IP)...)
					}
					if l.Hostname != "" {
						errs = append(errs, invalid(validation.IsDNS1123Subdomain(l.Hostname), path.Child("hostname"), l.Hostname)...)
					}
				}
				return errs
			}),
		},
		Columns: []metav1.TableColumnDefinition{
			nameColumn(), column("Class", "The name of the IngressClass resource that should be used for additional configuration", 0),
			column("Hosts", "Hosts that incoming requests are matched against before the ingress rule", 0),
			column("Address", "Address is a list containing ingress points for the load-balancer", 0),
			column("Ports", "Ports of TLS configurations that open", 0), ageColumn(),
		},
		Row: row(ingressRow),
	}
}

func validateIngress(i *networkingv1.Ingress) (errs field.ErrorList) {
	path := field.NewPath("spec")
	if len(i.Spec.Rules) == 0 && i.Spec.DefaultBackend == nil {
		errs = append(errs, field.Invalid(path, i.Spec.Rules, "either `defaultBackend` or `rules` must be specified"))
	}
	if b := i.Spec.DefaultBackend; b != nil {
		errs = append(errs, validateIngressBackend(b, path.Child("defaultBackend"))...)
	}
	for n := range i.Spec.Rules {
		errs = append(errs, validateIngressRule(&i.Spec.Rules[n], path.Child("rules").Index(n))...)
	}
	for n, tls := range i.Spec.TLS {
		at := path.Child("tls").Index(n)
		for h, host := range tls.Hosts {
			errs = append(errs, validateIngressHost(host, at.Child("hosts").Index(h))...)
		}
		if tls.SecretName != "" {
			errs = append(errs, invalid(validation.IsDNS1123Subdomain(tls.SecretName), at.Child("secretName"), tls.SecretName)...)
		}
	}
	if class := i.Spec.IngressClassName; class != nil {
		errs = append(errs, invalid(validation.IsDNS1123Subdomain(*class), path.Child("ingressClassName"), *class)...)
		if old, both := i.Annotations[annotationIngressClass]; both && old != *class {
			errs = append(errs, field.Invalid(field.NewPath("annotations").Child(annotationIngressClass), old, "must match `ingressClassName` when both are specified"))
		}
	}
	return errs
}

func validateIngressHost(host string, path *field.Path) field.ErrorList {
	if strings.Contains(host, "*") {
		return invalid(validation.IsWildcardDNS1123Subdomain(host), path, host)
	}
	return invalid(validation.IsDNS1123Subdomain(host), path, host)
}

func validateIngressRule(r *networkingv1.IngressRule, path *field.Path) (errs field.ErrorList) {
	if r.Host != "" {
		if _, err := netip.ParseAddr(r.Host); err == nil {
			errs = append(errs, field.Invalid(path.Child("host"), r.Host, "must be a DNS name, not an IP address"))
		} else {
			errs = append(errs, validateIngressHost(r.Host, path.Child("host"))...)
		}
	}
	if r.HTTP == nil {
		return errs
	}
	if len(r.HTTP.Paths) == 0 {
		errs = append(errs, field.Required(path.Child("http", "paths"), ""))
	}
	for n := range r.HTTP.Paths {
		p, at := &r.HTTP.Paths[n], path.Child("http", "paths").Index(n)
		errs = append(errs, validateIngressPath(p, at)...)
		errs = append(errs, validateIngressBackend(&p.Backend, at.Child("backend"))...)
	}
	return errs
}

func validateIngressPath(p *networkingv1.HTTPIngressPath, path *field.Path) (errs field.ErrorList) {
	if p.PathType == nil {
		return field.ErrorList{field.Required(path.Child("pathType"), "pathType must be specified")}
	}
	at := path.Child("path")
	switch *p.PathType {
	case networkingv1.PathTypeExact, networkingv1.PathTypePrefix:
		if !strings.HasPrefix(p.Path, "/") {
			errs = append(errs, field.Invalid(at, p.Path, "must be an absolute path"))
		}
		for _, part := range []string{"//", "/./", "/../", "%2f", "%2F"} {
			if strings.Contains(p.Path, part) {
				errs = append(errs, field.Invalid(at, p.Path, fmt.Sprintf("must not contain '%s'", part)))
			}
		}
		for _, end := range []string{"/..", "/."} {
			if strings.HasSuffix(p.Path, end) {
				errs = append(errs, field.Invalid(at, p.Path, fmt.Sprintf("cannot end with '%s'", end)))
			}
		}
	case networkingv1.PathTypeImplementationSpecific:
		if p.Path != "" && !strings.HasPrefix(p.Path, "/") {
			errs = append(errs, field.Invalid(at, p.Path, "must be an absolute path"))
		}
	default:
		errs = append(errs, field.NotSupported(path.Child("pathType"), *p.PathType,
			[]networkingv1.PathType{networkingv1.PathTypeExact, networkingv1.PathTypeImplementationSpecific, networkingv1.PathTypePrefix}))
	}
	return errs
}

func validateIngressBackend(b *networkingv1.IngressBackend, path *field.Path) (errs field.ErrorList) {
	switch {
	case b.Resource != nil && b.Service != nil:
		return field.ErrorList{field.Invalid(path, "", "cannot set both resource and service backends"),
			unsupported(path.Child("resource"), "the ingress sends requests to Services only")}
	case b.Resource != nil:
		return field.ErrorList{unsupported(path.Child("resource"), "the ingress sends requests to Services only")}
	case b.Service == nil:
		return field.ErrorList{field.Invalid(path, "", "resource or service backend is required")}
	}
	at := path.Child("service")
	if b.Service.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), ""))
	} else {
		errs = append(errs, invalid(validation.IsDNS1035Label(b.Service.Name), at.Child("name"), b.Service.Name)...)
	}
	port := b.Service.Port
	switch {
	case port.Name != "" && port.Number != 0:
		errs = append(errs, field.Invalid(path, "", "cannot set both port name & port number"))
	case port.Name != "":
		errs = append(errs, invalid(validation.IsValidPortName(port.Name), at.Child("port", "name"), port.Name)...)
	case port.Number != 0:
		errs = append(errs, validatePort(int64(port.Number), at.Child("port", "number"))...)
	default:
		errs = append(errs, field.Required(path, "port name or number is required"))
	}
	return errs
}

func ingressRow(i *networkingv1.Ingress) []any {
	class := "<none>"
	if i.Spec.IngressClassName != nil {
		class = *i.Spec.IngressClassName
	} else if old := i.Annotations[annotationIngressClass]; old != "" {
		class = old
	}
	var hosts []string
	count := 0
	for _, r := range i.Spec.Rules {
		if r.Host == "" {
			continue
		}
		if count++; len(hosts) < 3 {
			hosts = append(hosts, r.Host)
		}
	}
	names := "*"
	if count > 0 {
		names = andMore(hosts, count)
	}
	var addresses []string
	for _, l := range i.Status.LoadBalancer.Ingress {
		if a := l.IP; a != "" {
			addresses = append(addresses, a)
		} else if l.Hostname != "" {
			addresses = append(addresses, l.Hostname)
		}
	}
	slices.Sort(addresses)
	ports := "80"
	if len(i.Spec.TLS) > 0 {
		ports = "80, 443"
	}
	return []any{i.Name, class, names, strings.Join(slices.Compact(addresses), ","), ports, i.CreationTimestamp}
}
