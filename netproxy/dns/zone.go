package dns

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/miekg/dns"

	"github.com/pintle/pintle/netproxy/services"
)

// ttl of every answer, in seconds; kube-dns and CoreDNS use the same order.
const ttl = 5

type rrKey struct {
	name  string // lower case wire format
	qtype uint16
}

// answer is packed: the records after the question, compressed against the name at offset 12.
type answer struct {
	body    []byte
	answers uint16
	extra   uint16
	alias   string // where a CNAME leads
}

// Zone is the table of answers.
type Zone struct {
	domain string // "cluster.local."
	soa    dns.RR // never packed after NewZone: packing writes to the record
	denial []byte // soa, packed

	mu      sync.RWMutex
	names   map[string]int // how many Services own a wire name or one below it
	records map[rrKey]*answer
	ptrs    map[string][]string // reverse name → owners' targets
	owned   map[services.Key]owned
	synced  atomic.Bool // before the first Apply nothing is known, and so nothing denied
}

// owned is what one Service put into the table, for its removal.
type owned struct {
	names []string
	keys  []rrKey
	ptrs  [][2]string
}

// NewZone returns the zone of a cluster domain such as "cluster.local".
func NewZone(domain string) *Zone {
	domain = strings.ToLower(dns.Fqdn(domain))
	z := &Zone{domain: domain, names: map[string]int{}, records: map[rrKey]*answer{}, ptrs: map[string][]string{}, owned: map[services.Key]owned{},
		soa: &dns.SOA{Hdr: dns.RR_Header{Name: domain, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: ttl},
			Ns: "ns.dns." + domain, Mbox: "hostmaster." + domain, Serial: 1, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: ttl}}
	b := make([]byte, 1024)
	if n, err := dns.PackRR(z.soa, b, 0, nil, false); err == nil {
		z.denial = b[:n]
	}
	return z
}

func wire(name string) string {
	buf := make([]byte, 256)
	n, err := dns.PackDomainName(name, buf, 0, nil, false)
	if err != nil {
		return ""
	}
	return string(buf[:n])
}

// Apply changes the answers. Until the first call the zone's names are answered with SERVFAIL, so that
// a server that starts tells nobody that a name doesn't exist.
func (z *Zone) Apply(changes []services.Change) {
	z.mu.Lock()
	defer z.mu.Unlock()
	defer z.synced.Store(true)
	for _, ch := range changes {
		if ch.Old != nil {
			z.remove(ch.Old.Key)
		}
		if ch.New != nil {
			z.remove(ch.New.Key)
			z.add(ch.New)
		}
	}
}

func (z *Zone) remove(k services.Key) {
	o := z.owned[k]
	delete(z.owned, k)
	for _, n := range o.names {
		if z.names[n]--; z.names[n] <= 0 {
			delete(z.names, n)
		}
	}
	for _, rk := range o.keys {
		delete(z.records, rk)
	}
	for _, p := range o.ptrs {
		list := z.ptrs[p[0]]
		for i, t := range list {
			if t == p[1] {
				z.ptrs[p[0]] = append(append([]string(nil), list[:i]...), list[i+1:]...)
				break
			}
		}
		if len(z.ptrs[p[0]]) == 0 {
			delete(z.ptrs, p[0])
		}
	}
}

// recordsOf lists what one Service means in DNS: records by owner name, and reverse names. Pure.
func (z *Zone) recordsOf(s *services.Service) (map[string][]dns.RR, [][2]string) {
	base := strings.ToLower(s.Name + "." + s.Namespace + ".svc." + z.domain)
	out := map[string][]dns.RR{}
	var ptrs [][2]string
	hdr := func(name string, t uint16) dns.RR_Header {
		return dns.RR_Header{Name: name, Rrtype: t, Class: dns.ClassINET, Ttl: ttl}
	}
	a := func(name string, ip netip.Addr) {
		for _, rr := range out[name] {
			if x, ok := rr.(*dns.A); ok && x.A.Equal(ip.AsSlice()) {
				return
			}
		}
		out[name] = append(out[name], &dns.A{Hdr: hdr(name, dns.TypeA), A: ip.AsSlice()})
	}
	srv := func(p *services.Port, port uint16, target string) {
		if p.Name == "" {
			return
		}
		name := strings.ToLower("_" + p.Name + "._" + string(p.Protocol) + "." + base)
		for _, rr := range out[name] {
			if x, ok := rr.(*dns.SRV); ok && x.Target == target && x.Port == port {
				return
			}
		}
		out[name] = append(out[name], &dns.SRV{Hdr: hdr(name, dns.TypeSRV), Priority: 0, Weight: 100, Port: port, Target: target})
	}
	switch {
	case s.ExternalName != "":
		out[base] = []dns.RR{&dns.CNAME{Hdr: hdr(base, dns.TypeCNAME), Target: dns.Fqdn(s.ExternalName)}}
	case s.Headless:
		out[base] = nil
		for i := range s.Ports {
			p := &s.Ports[i]
			for _, e := range p.Endpoints {
				if !e.Ready {
					continue
				}
				host := e.Hostname
				if host == "" {
					host = strings.ReplaceAll(e.Addr.Addr().String(), ".", "-")
				}
				target := strings.ToLower(host + "." + base)
				a(base, e.Addr.Addr())
				a(target, e.Addr.Addr())
				srv(p, e.Addr.Port(), target)
				if i == 0 && e.Hostname != "" {
					ptrs = append(ptrs, [2]string{wire(reverse(e.Addr.Addr())), target})
				}
			}
		}
	default:
		for _, ip := range s.ClusterIPs {
			a(base, ip)
			ptrs = append(ptrs, [2]string{wire(reverse(ip)), base})
		}
		for i := range s.Ports {
			srv(&s.Ports[i], s.Ports[i].Port, base)
		}
	}
	return out, ptrs
}

func reverse(ip netip.Addr) string {
	b := ip.As4()
	return fmt.Sprintf("%d.%d.%d.%d.in-addr.arpa.", b[3], b[2], b[1], b[0])
}

func (z *Zone) add(s *services.Service) {
	recs, ptrs := z.recordsOf(s)
	var o owned
	for name, rrs := range recs {
		w := wire(name)
		if w == "" {
			continue
		}
		// The name and those above it exist: asked for another type they answer NOERROR.
		for n := w; len(n) > 1; n = n[1+int(n[0]):] {
			z.names[n]++
			o.names = append(o.names, n)
		}
		byType := map[uint16][]dns.RR{}
		for _, rr := range rrs {
			byType[rr.Header().Rrtype] = append(byType[rr.Header().Rrtype], rr)
		}
		for t, list := range byType {
			var extra []dns.RR
			for _, rr := range list {
				if sv, ok := rr.(*dns.SRV); ok {
					for _, tr := range recs[sv.Target] {
						if tr.Header().Rrtype == dns.TypeA && (!s.Headless || len(list) < 16) {
							extra = append(extra, tr)
						}
					}
				}
			}
			if ans := pack(name, t, list, extra); ans != nil {
				if t == dns.TypeCNAME {
					ans.alias = list[0].(*dns.CNAME).Target
				}
				k := rrKey{w, t}
				z.records[k] = ans
				o.keys = append(o.keys, k)
			}
		}
	}
	for _, p := range ptrs {
		z.ptrs[p[0]] = append(z.ptrs[p[0]], p[1])
		o.ptrs = append(o.ptrs, p)
	}
	z.owned[s.Key] = o
}

// pack makes the bytes that follow the question.
func pack(name string, qtype uint16, list, extra []dns.RR) *answer {
	m := &dns.Msg{Compress: true, Question: []dns.Question{{Name: name, Qtype: qtype, Qclass: dns.ClassINET}}, Answer: list, Extra: extra}
	b, err := m.Pack()
	if err != nil || len(b) > 65000 {
		return nil
	}
	return &answer{body: b[12+len(wire(name))+4:], answers: uint16(len(list)), extra: uint16(len(extra))}
}

// podAddr parses the name a-b-c-d.namespace.pod.<domain>; ok when it is one.
func (z *Zone) podAddr(name string) (ip netip.Addr, ok bool) {
	rest, found := strings.CutSuffix(name, ".pod."+z.domain)
	if !found {
		return ip, false
	}
	host, ns, found := strings.Cut(rest, ".")
	if !found || ns == "" || strings.Contains(ns, ".") {
		return ip, false
	}
	parts := strings.Split(host, "-")
	if len(parts) != 4 {
		return ip, false
	}
	var b [4]byte
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 8)
		if err != nil {
			return ip, false
		}
		b[i] = byte(n)
	}
	return netip.AddrFrom4(b), true
}
