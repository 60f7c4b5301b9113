package api

import (
	"net/netip"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	// DefaultServiceCIDR is the ServiceCIDR that stands for the range that the cluster was made with.
	DefaultServiceCIDR = "kubernetes"
	// IPAddressManager is the label networkingv1.LabelManagedBy of IPAddresses that say which Service has an address.
	IPAddressManager = "ipallocator.k8s.io"
)

func serviceCIDRKind() *Kind {
	return &Kind{
		GroupVersionKind: networkingv1.SchemeGroupVersion.WithKind("ServiceCIDR"),
		Resource:         "servicecidrs", Singular: "servicecidr",
		New:           func() Object { return &networkingv1.ServiceCIDR{} },
		NewList:       func() runtime.Object { return &networkingv1.ServiceCIDRList{} },
		PrepareCreate: of(func(c *networkingv1.ServiceCIDR) { c.Generation, c.Status = 1, networkingv1.ServiceCIDRStatus{} }),
		PrepareUpdate: pair(func(c, old *networkingv1.ServiceCIDR) {
			c.Status = old.Status
			bump(c, old, c.Spec, old.Spec)
		}),
		Validate: check(validateServiceCIDR),
		ValidateUpdate: checkPair(func(c, old *networkingv1.ServiceCIDR) field.ErrorList {
			return immutable(c.Spec.CIDRs, old.Spec.CIDRs, field.NewPath("spec", "cidrs"))
		}),
		Status: &Status{PrepareUpdate: pair(func(c, old *networkingv1.ServiceCIDR) { c.Spec, c.Generation = old.Spec, old.Generation })},
		Columns: []metav1.TableColumnDefinition{
			nameColumn(), column("CIDRs", "CIDRs defines the IP blocks in CIDR notation (e.g. \"192.168.0.0/24\" or \"2001:db8::/64\") from which to assign service cluster IPs.", 0), ageColumn(),
		},
		Row: row(func(c *networkingv1.ServiceCIDR) []any {
			return []any{c.Name, strings.Join(c.Spec.CIDRs, ","), c.CreationTimestamp}
		}),
	}
}

func validateServiceCIDR(c *networkingv1.ServiceCIDR) (errs field.ErrorList) {
	at := field.NewPath("spec", "cidrs")
	switch {
	case len(c.Spec.CIDRs) == 0:
		return field.ErrorList{field.Required(at, "at least one CIDR required")}
	case len(c.Spec.CIDRs) > 2:
		return field.ErrorList{field.Invalid(at, c.Spec.CIDRs, "may only hold up to 2 values")}
	}
	for i, text := range c.Spec.CIDRs {
		p, err := netip.ParsePrefix(text)
		switch {
		case err != nil:
			errs = append(errs, field.Invalid(at.Index(i), text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"))
		case p != p.Masked() || p.String() != text:
			errs = append(errs, field.Invalid(at.Index(i), text, "must be in canonical form ("+p.Masked().String()+")"))
		case !p.Addr().Is4():
			errs = append(errs, unsupported(at.Index(i), "Services have IPv4 addresses"))
		case i > 0:
			errs = append(errs, field.Invalid(at, c.Spec.CIDRs, "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"))
		case p.Bits() < 8 || p.Bits() > 30:
			errs = append(errs, unsupported(at.Index(i), "give a range between /8 and /30"))
		case !p.Addr().IsGlobalUnicast():
			errs = append(errs, field.Invalid(at.Index(i), text, "must be unicast addresses"))
		}
	}
	return errs
}

func ipAddressKind() *Kind {
	return &Kind{
		GroupVersionKind: networkingv1.SchemeGroupVersion.WithKind("IPAddress"),
		Resource:         "ipaddresses", Singular: "ipaddress", ShortNames: []string{"ip"},
		New:           func() Object { return &networkingv1.IPAddress{} },
		NewList:       func() runtime.Object { return &networkingv1.IPAddressList{} },
		PrepareCreate: of(func(a *networkingv1.IPAddress) { a.Generation = 1 }),
		PrepareUpdate: pair(func(a, old *networkingv1.IPAddress) { bump(a, old, a.Spec, old.Spec) }),
		Validate: check(func(a *networkingv1.IPAddress) (errs field.ErrorList) {
			at := field.NewPath("spec", "parentRef")
			ref := a.Spec.ParentRef
			if ref == nil {
				return append(errs, field.Required(at, ""))
			}
			if ref.Resource == "" {
				errs = append(errs, field.Required(at.Child("resource"), ""))
			}
			if ref.Name == "" {
				errs = append(errs, field.Required(at.Child("name"), ""))
			}
			return errs
		}),
		ValidateUpdate: checkPair(func(a, old *networkingv1.IPAddress) field.ErrorList {
			return immutable(a.Spec.ParentRef, old.Spec.ParentRef, field.NewPath("spec", "parentRef"))
		}),
		ValidName: func(name string) []string {
			if a, err := netip.ParseAddr(name); err != nil || a.String() != name || a.Zone() != "" {
				return []string{"must be an IP address in canonical form, (e.g. 10.9.8.7 or 2001:db8::ffff)"}
			}
			return nil
		},
		Columns: []metav1.TableColumnDefinition{
			nameColumn(), column("ParentRef", "ParentRef references the resource that an IPAddress is attached to. An IPAddress must reference a parent object.", 0), ageColumn(),
		},
		Row: row(func(a *networkingv1.IPAddress) []any {
			parent := "<none>"
			if r := a.Spec.ParentRef; r != nil {
				parts := []string{r.Group, r.Resource, r.Namespace, r.Name}
				parent = strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "/")
			}
			return []any{a.Name, parent, a.CreationTimestamp}
		}),
	}
}
