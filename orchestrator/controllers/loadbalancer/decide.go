package loadbalancer

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pintle/pintle/orchestrator/api"
)

// addressOf is the address that a Service has; the zero Addr is none.
func addressOf(s *corev1.Service) netip.Addr {
	for _, in := range s.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(in.IP); err == nil {
			return a
		}
	}
	return netip.Addr{}
}

// holders says whose each address is: of two that have one, the older's.
func holders(services []*corev1.Service) map[netip.Addr]*corev1.Service {
	out := map[netip.Addr]*corev1.Service{}
	for _, s := range services {
		for _, in := range s.Status.LoadBalancer.Ingress {
			a, err := netip.ParseAddr(in.IP)
			if err != nil {
				continue
			}
			if had := out[a]; had == nil || older(s, had) {
				out[a] = s
			}
		}
	}
	return out
}

func older(a, b *corev1.Service) bool {
	if c := a.CreationTimestamp.Time.Compare(b.CreationTimestamp.Time); c != 0 {
		return c < 0
	}
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name)) < 0
}

// decide chooses the Service's address, or says why it gets none.
func decide(s *corev1.Service, namespace labels.Set, pools []*api.AddressPool, held map[netip.Addr]*corev1.Service) (netip.Addr, string) {
	wanted, err := requested(s)
	if err != nil {
		return netip.Addr{}, err.Error()
	}
	free := func(a netip.Addr) bool {
		h := held[a]
		return h == nil || h.UID == s.UID && h.Namespace == s.Namespace && h.Name == s.Name
	}
	asked := s.Annotations[api.AnnotationAddressPool]
	if had := addressOf(s); had.IsValid() && free(had) && (!wanted.IsValid() || wanted == had) && (asked == "" || poolHas(pools, asked, had)) {
		return had, ""
	}
	pools = slices.Clone(pools)
	slices.SortFunc(pools, func(a, b *api.AddressPool) int { return cmp.Compare(a.Name, b.Name) })
	full := false
	for _, p := range pools {
		switch {
		case asked != "" && p.Name != asked, !allows(p, s, namespace):
			continue
		case asked == "" && !wanted.IsValid() && p.Spec.AutoAssign != nil && !*p.Spec.AutoAssign:
			continue
		}
		for _, text := range p.Spec.Addresses {
			r, err := api.ParseAddressRange(text)
			if err != nil {
				continue
			}
			if wanted.IsValid() {
				switch {
				case !r.Contains(wanted):
				case free(wanted):
					return wanted, ""
				default:
					return netip.Addr{}, fmt.Sprintf("address %s is that of service %s/%s", wanted, held[wanted].Namespace, held[wanted].Name)
				}
				continue
			}
			for a := r.First; r.Contains(a); a = a.Next() {
				if free(a) {
					return a, ""
				}
			}
		}
		full = true
	}
	switch {
	case wanted.IsValid():
		return netip.Addr{}, fmt.Sprintf("address %s is in no pool that the service may use", wanted)
	case full:
		return netip.Addr{}, "every address of the pools is taken"
	case asked != "":
		return netip.Addr{}, fmt.Sprintf("there is no pool %q that the service may use", asked)
	}
	return netip.Addr{}, "there is no pool that the service may use"
}

func requested(s *corev1.Service) (a netip.Addr, err error) {
	text := s.Annotations[api.AnnotationLoadBalancerIP]
	if text == "" {
		text = s.Spec.LoadBalancerIP
	}
	if text == "" {
		return a, nil
	}
	if a, err = netip.ParseAddr(text); err != nil || !a.Is4() {
		return netip.Addr{}, fmt.Errorf("%q is no IPv4 address", text)
	}
	return a, nil
}

func poolHas(pools []*api.AddressPool, name string, a netip.Addr) bool {
	return slices.ContainsFunc(pools, func(p *api.AddressPool) bool {
		return p.Name == name && slices.ContainsFunc(p.Spec.Addresses, func(text string) bool {
			r, err := api.ParseAddressRange(text)
			return err == nil && r.Contains(a)
		})
	})
}

func allows(p *api.AddressPool, s *corev1.Service, namespace labels.Set) bool {
	match := func(sel *metav1.LabelSelector, l labels.Set) bool {
		if sel == nil {
			return true
		}
		parsed, err := metav1.LabelSelectorAsSelector(sel)
		return err == nil && parsed.Matches(l)
	}
	return match(p.Spec.NamespaceSelector, namespace) && match(p.Spec.ServiceSelector, s.Labels)
}

// poolStatus counts a pool.
func poolStatus(p *api.AddressPool, held map[netip.Addr]*corev1.Service) (status api.AddressPoolStatus) {
	var ranges []api.AddressRange
	for _, text := range p.Spec.Addresses {
		if r, err := api.ParseAddressRange(text); err == nil {
			ranges = append(ranges, r)
		}
	}
	slices.SortFunc(ranges, func(a, b api.AddressRange) int { return a.First.Compare(b.First) })
	last := netip.Addr{}
	for _, r := range ranges { // ranges may overlap
		if last.IsValid() && !last.Less(r.First) {
			if !last.Less(r.Last) {
				continue
			}
			r.First = last.Next()
		}
		status.Total += r.Size()
		for a := range held {
			if r.Contains(a) {
				status.Allocated++
			}
		}
		last = r.Last
	}
	return status
}

// announcer chooses the node that answers for an address: the present one for as long as it may, and otherwise one by
// a hash of both, so that addresses spread and few move when a node goes. "" is none.
func announcer(s *corev1.Service, a netip.Addr, nodes []*corev1.Node, endpoints []*discoveryv1.EndpointSlice) string {
	local := map[string]bool{}
	for _, sl := range endpoints {
		for _, e := range sl.Endpoints {
			if e.NodeName != nil && (e.Conditions.Ready == nil || *e.Conditions.Ready) {
				local[*e.NodeName] = true
			}
		}
	}
	best, score := "", uint64(0)
	for _, n := range nodes {
		if _, excluded := n.Labels[corev1.LabelNodeExcludeBalancers]; excluded || !ready(n) || n.DeletionTimestamp != nil ||
			s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal && !local[n.Name] {
			continue
		}
		if s.Annotations[api.AnnotationAnnouncedBy] == n.Name {
			return n.Name
		}
		h := fnv.New64a()
		fmt.Fprintf(h, "%s %s", a, n.Name)
		if sum := h.Sum64(); best == "" || sum > score || sum == score && n.Name < best {
			best, score = n.Name, sum
		}
	}
	return best
}

func ready(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}
