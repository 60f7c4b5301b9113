package api

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// NetworkingGroupVersion is the group of what the network is told beside Kubernetes' own kinds.
func NetworkingGroupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: "networking.pintle.dev", Version: "v1alpha1"}
}

const (
	// LoadBalancerClass is that of Services which get their addresses from AddressPools. One without a class does, too.
	LoadBalancerClass = "networking.pintle.dev/address-pool"
	// AnnotationLoadBalancerIP on a Service asks for one address, AnnotationAddressPool for one of a pool.
	AnnotationLoadBalancerIP = "networking.pintle.dev/load-balancer-ip"
	AnnotationAddressPool    = "networking.pintle.dev/address-pool"
	// AnnotationAnnouncedBy is on a Service with an address of a pool: the node that answers for the address on its network.
	AnnotationAnnouncedBy = "networking.pintle.dev/announced-by"
)

// maxPoolAddresses bounds one entry of a pool.
const maxPoolAddresses = 1 << 16

// AddressPool is addresses for Services of type LoadBalancer.
type AddressPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   AddressPoolSpec   `json:"spec,omitempty"`
	Status AddressPoolStatus `json:"status,omitempty"`
}

// SwaggerDoc is what `kubectl explain` says.
func (AddressPool) SwaggerDoc() map[string]string {
	return map[string]string{
		"":       "AddressPool is addresses for Services of type LoadBalancer. No address is ever that of two Services.",
		"spec":   "Which addresses, and for whom.",
		"status": "How many are taken.",
	}
}

// AddressPoolSpec says which addresses there are, and for whom.
type AddressPoolSpec struct {
	Addresses         []string              `json:"addresses,omitempty"`
	AutoAssign        *bool                 `json:"autoAssign,omitempty"`
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
	ServiceSelector   *metav1.LabelSelector `json:"serviceSelector,omitempty"`
}

// SwaggerDoc is what `kubectl explain` says.
func (AddressPoolSpec) SwaggerDoc() map[string]string {
	return map[string]string{
		"": "AddressPoolSpec says which addresses there are, and for whom.",
		"addresses": "IPv4 ranges, as 192.168.1.240-192.168.1.250, 10.5.0.0/28 or a single address. Of a CIDR, the network's own and its " +
			"broadcast address are left out. A Service keeps an address that is taken out here.",
		"autoAssign":        "False keeps the pool for Services that ask for it, or for one of its addresses, by annotation. Default true.",
		"namespaceSelector": "Selects the namespaces whose Services may have addresses of the pool. Empty or absent: all.",
		"serviceSelector":   "Selects the Services that may have addresses of the pool. Empty or absent: all.",
	}
}

// AddressPoolStatus is how much of a pool is taken.
type AddressPoolStatus struct {
	Total     int64 `json:"total,omitempty"`
	Allocated int64 `json:"allocated,omitempty"`
}

// SwaggerDoc is what `kubectl explain` says.
func (AddressPoolStatus) SwaggerDoc() map[string]string {
	return map[string]string{
		"":          "AddressPoolStatus is how much of a pool is taken.",
		"total":     "How many addresses there are.",
		"allocated": "How many of them are Services'.",
	}
}

// AddressPoolList is a list of AddressPools.
type AddressPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []AddressPool `json:"items"`
}

// DeepCopyObject implements runtime.Object.
func (p *AddressPool) DeepCopyObject() runtime.Object {
	if p == nil {
		return nil
	}
	out := *p
	p.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	out.Spec.Addresses = slices.Clone(p.Spec.Addresses)
	if p.Spec.AutoAssign != nil {
		out.Spec.AutoAssign = ptr(*p.Spec.AutoAssign)
	}
	out.Spec.NamespaceSelector, out.Spec.ServiceSelector = p.Spec.NamespaceSelector.DeepCopy(), p.Spec.ServiceSelector.DeepCopy()
	return &out
}

// DeepCopyObject implements runtime.Object.
func (l *AddressPoolList) DeepCopyObject() runtime.Object {
	if l == nil {
		return nil
	}
	out := *l
	l.ListMeta.DeepCopyInto(&out.ListMeta)
	if l.Items != nil {
		out.Items = make([]AddressPool, len(l.Items))
		for i := range l.Items {
			out.Items[i] = *l.Items[i].DeepCopyObject().(*AddressPool)
		}
	}
	return &out
}

func addressPoolKind() *Kind {
	return &Kind{
		GroupVersionKind: NetworkingGroupVersion().WithKind("AddressPool"),
		Resource:         "addresspools", Singular: "addresspool",
		New:           func() Object { return &AddressPool{} },
		NewList:       func() runtime.Object { return &AddressPoolList{} },
		Default:       of(func(p *AddressPool) { setDefault(&p.Spec.AutoAssign, true) }),
		PrepareCreate: of(func(p *AddressPool) { p.Generation, p.Status = 1, AddressPoolStatus{} }),
		PrepareUpdate: pair(func(p, old *AddressPool) {
			p.Status = old.Status
			bump(p, old, p.Spec, old.Spec)
		}),
		Validate: check(validateAddressPool),
		Status: &Status{
			PrepareUpdate: pair(func(p, old *AddressPool) { p.Spec, p.Generation = old.Spec, old.Generation }),
			ValidateUpdate: checkPair(func(p, _ *AddressPool) field.ErrorList {
				at := field.NewPath("status")
				return append(nonNegative(p.Status.Total, at.Child("total")), nonNegative(p.Status.Allocated, at.Child("allocated"))...)
			}),
		},
		Columns: []metav1.TableColumnDefinition{
			nameColumn(), column("Addresses", "Which there are", 0), typed(column("Auto-Assign", "Whether Services get them that don't ask", 0), "boolean"),
			typed(column("Allocated", "How many are Services'", 0), "integer"), typed(column("Total", "How many there are", 0), "integer"), ageColumn(),
		},
		Row: row(func(p *AddressPool) []any {
			return []any{p.Name, orNone(strings.Join(p.Spec.Addresses, ",")), p.Spec.AutoAssign == nil || *p.Spec.AutoAssign, p.Status.Allocated, p.Status.Total, p.CreationTimestamp}
		}),
	}
}

func validateAddressPool(p *AddressPool) (errs field.ErrorList) {
	at := field.NewPath("spec")
	if len(p.Spec.Addresses) == 0 {
		errs = append(errs, field.Required(at.Child("addresses"), ""))
	}
	for i, text := range p.Spec.Addresses {
		if _, err := ParseAddressRange(text); err != nil {
			errs = append(errs, field.Invalid(at.Child("addresses").Index(i), text, err.Error()))
		}
	}
	for name, s := range inOrder(map[string]*metav1.LabelSelector{"namespaceSelector": p.Spec.NamespaceSelector, "serviceSelector": p.Spec.ServiceSelector}) {
		if s != nil {
			errs = append(errs, metav1validation.ValidateLabelSelector(s, metav1validation.LabelSelectorValidationOptions{}, at.Child(name))...)
		}
	}
	return errs
}

// AddressRange is addresses that follow each other, both ends included.
type AddressRange struct{ First, Last netip.Addr }

// ParseAddressRange reads an entry of a pool.
func ParseAddressRange(text string) (r AddressRange, err error) {
	switch {
	case strings.Contains(text, "/"):
		prefix, err := netip.ParsePrefix(text)
		if err != nil || prefix != prefix.Masked() {
			return r, errors.New("must be an IPv4 CIDR, such as 10.5.0.0/28")
		}
		if !prefix.Addr().Is4() {
			return r, errors.New("must be IPv4")
		}
		base := binary.BigEndian.Uint32(prefix.Addr().AsSlice())
		r = AddressRange{prefix.Addr(), addressOf(base | uint32(1<<(32-prefix.Bits())-1))}
		if prefix.Bits() < 31 {
			r.First, r.Last = r.First.Next(), r.Last.Prev()
		}
	default:
		first, last, isRange := strings.Cut(text, "-")
		if !isRange {
			last = first
		}
		a, errA := netip.ParseAddr(strings.TrimSpace(first))
		b, errB := netip.ParseAddr(strings.TrimSpace(last))
		if errA != nil || errB != nil || !a.Is4() || !b.Is4() {
			return r, errors.New("must be an IPv4 range, such as 192.168.1.240-192.168.1.250, a CIDR or an address")
		}
		if b.Less(a) {
			return r, errors.New("must not end before it begins")
		}
		r = AddressRange{a, b}
	}
	if n := r.Size(); n > maxPoolAddresses {
		return r, fmt.Errorf("must not have more than %d addresses", maxPoolAddresses)
	}
	if !r.First.IsGlobalUnicast() || !r.Last.IsGlobalUnicast() {
		return r, errors.New("must be unicast addresses that others reach: no loopback, link-local, multicast or broadcast address")
	}
	return r, nil
}

func addressOf(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

// Size is how many addresses there are.
func (r AddressRange) Size() int64 {
	return int64(binary.BigEndian.Uint32(r.Last.AsSlice())) - int64(binary.BigEndian.Uint32(r.First.AsSlice())) + 1
}

// Contains says whether an address is one of them.
func (r AddressRange) Contains(a netip.Addr) bool { return !a.Less(r.First) && !r.Last.Less(a) }

// WantsPoolAddress says whether a Service is to have an address of a pool.
func WantsPoolAddress(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.DeletionTimestamp == nil &&
		(s.Spec.LoadBalancerClass == nil || *s.Spec.LoadBalancerClass == LoadBalancerClass)
}
