package registry

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/pintle/pintle/orchestrator/api"
)

// The range of node ports, as Kubernetes documents it.
const (
	firstNodePort = 30000
	lastNodePort  = 32767
)

const (
	kubernetesService = "default/kubernetes" // has the range's first address
	dnsService        = "kube-system/kube-dns"
	dnsIndex          = 10 // has the tenth
	// claimPatience is how long a claim of a write with an unknown outcome stands.
	claimPatience = time.Minute
)

// allocator knows which cluster IPs and node ports are taken: those of the Services in the cache, which
// the feeder tells it of, and those claimed by writes under way. Safe for concurrent use.
type allocator struct {
	primary ipRange                               // that the cluster was made with
	turn    chan struct{}                         // taken by the one write of this member that claims something new
	parent  func(ip string) (key string, ok bool) // of the IPAddress of that name: the Service that it is kept for

	mu     sync.Mutex // guards what follows
	cidrs  map[string]*networkingv1.ServiceCIDR
	ranges []ipRange             // that new addresses come from
	ips    map[netip.Addr]string // by whom: the key of a Service
	ports  map[int32]string      // the same
	claims map[*claim]struct{}
}

// claim is what one write wants to have. A nil claim holds nothing.
type claim struct {
	fresh bool // it wants what its Service did not have
	a     *allocator
	owner string
	ips   []netip.Addr
	ports []int32
	keep  bool      // after end, until the time
	until time.Time // zero while the write is under way
	now   time.Time
}

func newAllocator(prefix netip.Prefix) (*allocator, error) {
	prefix = prefix.Masked()
	if !prefix.Addr().Is4() || prefix.Bits() > 27 || prefix.Bits() < 8 {
		return nil, fmt.Errorf("Config.ServiceCIDR %s: give an IPv4 range between /8 and /27", prefix)
	}
	a := &allocator{primary: newRange(prefix), claims: map[*claim]struct{}{}, turn: make(chan struct{}, 1),
		parent: func(string) (string, bool) { return "", false }}
	a.reset(nil, nil)
	return a, nil
}

// ipRange is a range that Services get addresses from.
type ipRange struct {
	prefix netip.Prefix
	size   uint32 // addresses in prefix
}

func newRange(prefix netip.Prefix) ipRange { return ipRange{prefix, 1 << (32 - prefix.Bits())} }

// nth is the nth address of the range.
func (r ipRange) nth(n uint32) netip.Addr {
	base := r.prefix.Addr().As4()
	var out [4]byte
	binary.BigEndian.PutUint32(out[:], binary.BigEndian.Uint32(base[:])+n)
	return netip.AddrFrom4(out)
}

// usable reports whether an address can be a Service's: neither the network's nor the broadcast address.
func (r ipRange) usable(ip netip.Addr) bool {
	return r.prefix.Contains(ip) && ip != r.nth(0) && ip != r.nth(r.size-1)
}

func (a *allocator) usableLocked(ip netip.Addr) bool {
	return slices.ContainsFunc(a.ranges, func(r ipRange) bool { return r.usable(ip) })
}

func (a *allocator) rangesLocked() string {
	text := make([]string, len(a.ranges))
	for i, r := range a.ranges {
		text[i] = r.prefix.String()
	}
	return strings.Join(text, ",")
}

// observeCIDR follows the cache's ServiceCIDRs.
func (a *allocator) observeCIDR(old, now *Entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if old != nil {
		delete(a.cidrs, old.key)
	}
	if now != nil {
		a.cidrs[now.key] = now.obj.(*networkingv1.ServiceCIDR)
	}
	a.arrangeLocked()
}

// arrangeLocked takes every ServiceCIDR that isn't being deleted. The range that the cluster was made with counts until its
// object is there and is being deleted.
func (a *allocator) arrangeLocked() {
	a.ranges = nil
	var first *networkingv1.ServiceCIDR
	for _, c := range a.cidrs {
		if c.Name == api.DefaultServiceCIDR {
			first = c
		}
	}
	if first == nil || first.DeletionTimestamp == nil {
		a.ranges = []ipRange{a.primary}
	}
	for _, key := range slices.Sorted(maps.Keys(a.cidrs)) {
		c := a.cidrs[key]
		for _, text := range c.Spec.CIDRs {
			prefix, err := netip.ParsePrefix(text)
			if err != nil || !prefix.Addr().Is4() || c.DeletionTimestamp != nil || prefix == a.primary.prefix {
				continue
			}
			a.ranges = append(a.ranges, newRange(prefix.Masked()))
		}
	}
}

// reset starts anew from what is stored.
func (a *allocator) reset(services, cidrs []*Entry) {
	a.mu.Lock()
	a.ips, a.ports = map[netip.Addr]string{}, map[int32]string{}
	a.cidrs = map[string]*networkingv1.ServiceCIDR{}
	for _, e := range cidrs {
		a.cidrs[e.key] = e.obj.(*networkingv1.ServiceCIDR)
	}
	a.arrangeLocked()
	a.mu.Unlock()
	for _, e := range services {
		a.observe(nil, e)
	}
}

// observe follows the cache.
func (a *allocator) observe(old, now *Entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if old != nil {
		ips, ports := holdings(old.obj.(*corev1.Service))
		for _, ip := range ips {
			if a.ips[ip] == old.key {
				delete(a.ips, ip)
			}
		}
		for _, p := range ports {
			if a.ports[p] == old.key {
				delete(a.ports, p)
			}
		}
	}
	if now != nil {
		ips, ports := holdings(now.obj.(*corev1.Service))
		for _, ip := range ips {
			a.ips[ip] = now.key
		}
		for _, p := range ports {
			a.ports[p] = now.key
		}
	}
}

// holdings are the addresses and node ports that a Service has.
func holdings(s *corev1.Service) (ips []netip.Addr, ports []int32) {
	if s.Spec.Type != corev1.ServiceTypeExternalName {
		if ip, err := netip.ParseAddr(s.Spec.ClusterIP); err == nil {
			ips = append(ips, ip)
		}
	}
	for _, p := range s.Spec.Ports {
		if p.NodePort != 0 {
			ports = append(ports, p.NodePort)
		}
	}
	if s.Spec.HealthCheckNodePort != 0 {
		ports = append(ports, s.Spec.HealthCheckNodePort)
	}
	return ips, ports
}

// ownerOfIP is who has an address, "" for nobody.
func (a *allocator) ownerOfIPLocked(ip netip.Addr) string {
	if owner := a.ips[ip]; owner != "" {
		return owner
	}
	for c := range a.claims {
		for _, has := range c.ips {
			if has == ip {
				return c.owner
			}
		}
	}
	if owner, kept := a.parent(ip.String()); kept { // by an IPAddress, before there is a Service, or for ever
		return owner
	}
	return ""
}

func (a *allocator) ownerOfPortLocked(port int32) string {
	if owner := a.ports[port]; owner != "" {
		return owner
	}
	for c := range a.claims {
		for _, has := range c.ports {
			if has == port {
				return c.owner
			}
		}
	}
	return ""
}

// freeIPLocked chooses at random, so that an address that was given back is not somebody else's at once.
func (a *allocator) freeIPLocked(owner string) (netip.Addr, bool) {
	first, dns := a.primary.nth(1), a.primary.nth(dnsIndex)
	switch {
	case owner == kubernetesService && a.ownerOfIPLocked(first) == "":
		return first, true
	case owner == dnsService && a.ownerOfIPLocked(dns) == "":
		return dns, true
	}
	for _, r := range a.ranges {
		from := rand.Uint32N(r.size)
		for n := range r.size {
			ip := r.nth((from + n) % r.size)
			if r.usable(ip) && ip != first && ip != dns && a.ownerOfIPLocked(ip) == "" {
				return ip, true
			}
		}
	}
	return netip.Addr{}, false
}

func (a *allocator) freePortLocked() (int32, bool) {
	const size = lastNodePort - firstNodePort + 1
	from := rand.Int32N(size)
	for n := range int32(size) {
		if port := firstNodePort + (from+n)%size; a.ownerOfPortLocked(port) == "" {
			return port, true
		}
	}
	return 0, false
}

// expireLocked forgets claims whose writes never came to be.
func (a *allocator) expireLocked(now time.Time) {
	for c := range a.claims {
		if !c.until.IsZero() && now.After(c.until) {
			delete(a.claims, c)
		}
	}
}

// keepIf says whether the claim outlives its write for a while, because that may still take effect.
func (c *claim) keepIf(keep bool) {
	if c != nil {
		c.keep = keep
	}
}

// end gives back what was claimed; by then the cache has it, or nobody does.
func (c *claim) end() {
	if c == nil {
		return
	}
	c.a.mu.Lock()
	defer c.a.mu.Unlock()
	if c.keep {
		c.until = c.now.Add(claimPatience)
		return
	}
	delete(c.a.claims, c)
}
