//go:build linux

package nft

import (
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/netproxy/services"
)

// forgetUDP deletes conntrack entries that would keep sending a client's datagrams to an endpoint
// that is gone, or past a frontend that is new. TCP connections end by themselves and are kept.
func (p *Proxy) forgetUDP(changes []services.Change) {
	f := &udpFilter{gone: map[udpFlow]bool{}, fresh: map[netip.AddrPort]bool{}}
	for _, ch := range changes {
		was, is := udpFlows(ch.Old), udpFlows(ch.New)
		for flow := range was {
			if !is[flow] {
				f.gone[flow] = true
			}
		}
		for flow := range is {
			if !was[flow] && !p.cfg.inServiceCIDR(flow.front.Addr()) {
				f.fresh[flow.front] = true
			}
		}
	}
	if len(f.gone) == 0 && len(f.fresh) == 0 {
		return
	}
	if _, err := p.track.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, f); err != nil {
		p.log.Warn("could not delete conntrack entries of UDP endpoints", "err", err)
	}
}

type udpFlow struct{ front, end netip.AddrPort }

func udpFlows(s *services.Service) map[udpFlow]bool {
	out := map[udpFlow]bool{}
	if s == nil {
		return out
	}
	for i := range s.Ports {
		p := &s.Ports[i]
		if p.Protocol != corev1.ProtocolUDP {
			continue
		}
		add := func(ip netip.Addr, port uint16, eps []netip.AddrPort) {
			for _, e := range eps {
				out[udpFlow{netip.AddrPortFrom(ip, port), e}] = true
			}
		}
		for _, ip := range s.ClusterIPs {
			add(ip, p.Port, p.Internal)
		}
		for _, ip := range s.ExternalIPs {
			add(ip, p.Port, p.External)
		}
		if p.NodePort != 0 {
			add(netip.IPv4Unspecified(), p.NodePort, p.External)
		}
	}
	return out
}

type udpFilter struct {
	gone  map[udpFlow]bool
	fresh map[netip.AddrPort]bool
}

// MatchConntrackFlow says which entries go.
func (f *udpFilter) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	front, end := addrPort(flow.Forward.DstIP, flow.Forward.DstPort), addrPort(flow.Reverse.SrcIP, flow.Reverse.SrcPort)
	node := netip.AddrPortFrom(netip.IPv4Unspecified(), flow.Forward.DstPort)
	if f.gone[udpFlow{front, end}] || f.gone[udpFlow{node, end}] {
		return true
	}
	return (f.fresh[node] || f.fresh[front]) && front == end // not translated: it began before the frontend was one
}

func (c *Config) inServiceCIDR(a netip.Addr) bool {
	for _, p := range c.ServiceCIDRs {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

func addrPort(ip net.IP, port uint16) netip.AddrPort {
	a, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(a.Unmap(), port)
}
