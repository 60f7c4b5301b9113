package api

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func endpointSliceKind() *Kind {
	return &Kind{
		GroupVersionKind: discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"),
		Resource:         "endpointslices", Singular: "endpointslice", Namespaced: true,
		New:     func() Object { return &discoveryv1.EndpointSlice{} },
		NewList: func() runtime.Object { return &discoveryv1.EndpointSliceList{} },
		Default: of(func(s *discoveryv1.EndpointSlice) {
			for i := range s.Endpoints {
				s.Endpoints[i].DeprecatedTopology = nil // not writable through this version, by its definition
			}
			for i := range s.Ports {
				setDefault(&s.Ports[i].Name, "")
				setDefault(&s.Ports[i].Protocol, corev1.ProtocolTCP)
			}
		}),
		PrepareCreate: of(func(s *discoveryv1.EndpointSlice) { s.Generation = 1 }),
		PrepareUpdate: pair(func(s, old *discoveryv1.EndpointSlice) {
			bump(s, old, []any{s.Endpoints, s.Ports, s.AddressType, s.Labels}, []any{old.Endpoints, old.Ports, old.AddressType, old.Labels})
		}),
		Validate: check(validateEndpointSlice),
		ValidateUpdate: checkPair(func(s, old *discoveryv1.EndpointSlice) field.ErrorList {
			return immutable(s.AddressType, old.AddressType, field.NewPath("addressType"))
		}),
		Columns: []metav1.TableColumnDefinition{
			nameColumn(), column("AddressType", "Kind of the addresses", 0), column("Ports", "Ports of the endpoints", 0),
			column("Endpoints", "Addresses of the endpoints", 0), ageColumn(),
		},
		Row: row(endpointSliceRow),
	}
}

func validateEndpointSlice(s *discoveryv1.EndpointSlice) (errs field.ErrorList) {
	path := field.NewPath("addressType")
	switch s.AddressType {
	case "":
		errs = append(errs, field.Required(path, ""))
	case discoveryv1.AddressTypeIPv4:
	case discoveryv1.AddressTypeIPv6, discoveryv1.AddressTypeFQDN:
		errs = append(errs, unsupported(path, "clusters have IPv4 addresses only"))
	default:
		errs = append(errs, field.NotSupported(path, s.AddressType, []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6, discoveryv1.AddressTypeFQDN}))
	}
	if len(s.Endpoints) > 1000 {
		errs = append(errs, field.TooMany(field.NewPath("endpoints"), len(s.Endpoints), 1000))
	}
	if len(s.Ports) > 20000 {
		errs = append(errs, field.TooMany(field.NewPath("ports"), len(s.Ports), 20000))
	}
	for i, e := range s.Endpoints {
		at := field.NewPath("endpoints").Index(i)
		if len(e.Addresses) == 0 {
			errs = append(errs, field.Required(at.Child("addresses"), "must contain at least 1 address"))
		}
		if len(e.Addresses) > 100 {
			errs = append(errs, field.TooMany(at.Child("addresses"), len(e.Addresses), 100))
		}
		for j, a := range e.Addresses {
			errs = append(errs, validateEndpointIP(a, at.Child("addresses").Index(j))...)
		}
		if e.NodeName != nil {
			errs = append(errs, invalid(validation.IsDNS1123Subdomain(*e.NodeName), at.Child("nodeName"), *e.NodeName)...)
		}
		if e.Hints != nil {
			errs = append(errs, unsupported(at.Child("hints"), "every endpoint of a service is used from every node"))
		}
		if e.Hostname != nil {
			errs = append(errs, invalid(validation.IsDNS1123Label(*e.Hostname), at.Child("hostname"), *e.Hostname)...)
		}
	}
	names := map[string]bool{}
	for i, p := range s.Ports {
		at := field.NewPath("ports").Index(i)
		if p.Name != nil {
			if *p.Name != "" {
				errs = append(errs, invalid(validation.IsDNS1123Label(*p.Name), at.Child("name"), *p.Name)...)
			}
			if names[*p.Name] {
				errs = append(errs, field.Duplicate(at.Child("name"), *p.Name))
			}
			names[*p.Name] = true
		}
		if p.Protocol != nil {
			errs = append(errs, oneOf(*p.Protocol, protocols(), at.Child("protocol"))...)
		}
		if p.Port != nil {
			errs = append(errs, validatePort(int64(*p.Port), at.Child("port"))...)
		}
	}
	return errs
}

func endpointSliceRow(s *discoveryv1.EndpointSlice) []any {
	ports := "<unset>"
	if len(s.Ports) > 0 {
		var shown []string
		for _, p := range s.Ports {
			switch {
			case len(shown) == 3:
			case p.Port != nil:
				shown = append(shown, fmt.Sprint(*p.Port))
			case p.Name != nil && *p.Name != "":
				shown = append(shown, *p.Name)
			default:
				shown = append(shown, "*")
			}
		}
		ports = andMore(shown, len(s.Ports))
	}
	addresses := "<unset>"
	if len(s.Endpoints) > 0 {
		var shown []string
		count := 0
		for _, e := range s.Endpoints {
			for _, a := range e.Addresses {
				if count++; len(shown) < 3 {
					shown = append(shown, a)
				}
			}
		}
		addresses = andMore(shown, count)
	}
	return []any{s.Name, string(s.AddressType), ports, addresses, s.CreationTimestamp}
}

func joinSorted(values []string, by string) string {
	values = slices.Clone(values)
	slices.Sort(values)
	return strings.Join(values, by)
}
