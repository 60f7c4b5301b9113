package api

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func endpointsKind() *Kind {
	return &Kind{
		GroupVersionKind: corev1.SchemeGroupVersion.WithKind("Endpoints"),
		Resource:         "endpoints", Singular: "endpoints", ShortNames: []string{"ep"}, Namespaced: true,
		CreateOnUpdate: true,
		New:            func() Object { return &corev1.Endpoints{} },
		NewList:        func() runtime.Object { return &corev1.EndpointsList{} },
		Default: of(func(e *corev1.Endpoints) {
			for i := range e.Subsets {
				for j := range e.Subsets[i].Ports {
					setZero(&e.Subsets[i].Ports[j].Protocol, corev1.ProtocolTCP)
				}
			}
		}),
		Validate: check(validateEndpoints),
		Columns:  []metav1.TableColumnDefinition{nameColumn(), column("Endpoints", "Addresses and ports that the service reaches", 0), ageColumn()},
		Row: row(func(e *corev1.Endpoints) []any {
			return []any{e.Name, endpointsCell(e.Subsets), e.CreationTimestamp}
		}),
	}
}

func validateEndpoints(e *corev1.Endpoints) (errs field.ErrorList) {
	for i, subset := range e.Subsets {
		path := field.NewPath("subsets").Index(i)
		if len(subset.Addresses)+len(subset.NotReadyAddresses) == 0 {
			errs = append(errs, field.Required(path, "must specify `addresses` or `notReadyAddresses`"))
		}
		for j, a := range subset.Addresses {
			errs = append(errs, validateEndpointAddress(a, path.Child("addresses").Index(j))...)
		}
		for j, a := range subset.NotReadyAddresses {
			errs = append(errs, validateEndpointAddress(a, path.Child("notReadyAddresses").Index(j))...)
		}
		for j, p := range subset.Ports {
			at := path.Child("ports").Index(j)
			if p.Name == "" {
				if len(subset.Ports) > 1 {
					errs = append(errs, field.Required(at.Child("name"), ""))
				}
			} else {
				errs = append(errs, invalid(validation.IsDNS1123Label(p.Name), at.Child("name"), p.Name)...)
			}
			errs = append(errs, validatePort(int64(p.Port), at.Child("port"))...)
			errs = append(errs, oneOf(p.Protocol, protocols(), at.Child("protocol"))...)
		}
	}
	return errs
}

func validateEndpointAddress(a corev1.EndpointAddress, path *field.Path) (errs field.ErrorList) {
	errs = append(errs, validateEndpointIP(a.IP, path.Child("ip"))...)
	if a.Hostname != "" {
		errs = append(errs, invalid(validation.IsDNS1123Label(a.Hostname), path.Child("hostname"), a.Hostname)...)
	}
	if a.NodeName != nil {
		errs = append(errs, invalid(validation.IsDNS1123Subdomain(*a.NodeName), path.Child("nodeName"), *a.NodeName)...)
	}
	return errs
}

// validateEndpointIP refuses the addresses that could be used to reach the node itself through a proxy.
func validateEndpointIP(ip string, path *field.Path) field.ErrorList {
	addr, err := netip.ParseAddr(ip)
	switch {
	case err != nil:
		return field.ErrorList{field.Invalid(path, ip, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")}
	case !addr.Is4():
		return field.ErrorList{field.Invalid(path, ip, "must be an IPv4 address: clusters have no others")}
	case addr.IsUnspecified():
		return field.ErrorList{field.Invalid(path, ip, fmt.Sprintf("may not be unspecified (%s)", ip))}
	case addr.IsLoopback() && !wasiPodRange().Contains(addr):
		return field.ErrorList{field.Invalid(path, ip, "may not be in the loopback range (127.0.0.0/8, ::1/128)")}
	case addr.IsLinkLocalUnicast():
		return field.ErrorList{field.Invalid(path, ip, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")}
	case addr.IsLinkLocalMulticast():
		return field.ErrorList{field.Invalid(path, ip, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")}
	}
	return nil
}

// wasiPodRange is where pods that run in process have their addresses. Kubernetes refuses all loopback
// addresses, so that nobody reaches the node's own services through a proxy; those don't listen here.
func wasiPodRange() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{127, 64, 0, 0}), 10)
}

// endpointsCell lists the first three addresses, as kubectl does.
func endpointsCell(subsets []corev1.EndpointSubset) string {
	const most = 3
	var shown []string
	count := 0
	add := func(ip string, port int32, withPort bool) {
		if count++; count > most {
			return
		}
		if withPort {
			ip = hostPort(ip, port)
		}
		shown = append(shown, ip)
	}
	for _, s := range subsets {
		if len(s.Ports) == 0 {
			for _, a := range s.Addresses {
				add(a.IP, 0, false)
			}
			continue
		}
		for _, p := range s.Ports {
			for _, a := range s.Addresses {
				add(a.IP, p.Port, true)
			}
		}
	}
	return andMore(shown, count)
}

func andMore(shown []string, count int) string {
	text := orNone(strings.Join(shown, ","))
	if more := count - len(shown); more > 0 {
		text = fmt.Sprintf("%s + %d more...", text, more)
	}
	return text
}
