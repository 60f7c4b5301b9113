//go:build linux

package nft

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/netproxy/services"
)

// Used says when Services were last used through the rules, by what conntrack still knows: connections that are open
// are used now, one that has ended is known for two minutes. It lists the whole table.
func (p *Proxy) Used(list []*services.Service) (map[services.Key]time.Time, error) {
	if len(list) == 0 {
		return nil, nil
	}
	p.mu.Lock()
	flows, err := p.track.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
	p.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("list connections: %w", err)
	}
	return usedBy(flows, list, time.Now()), nil
}

// ended are how long the kernel remembers what has ended or is silent, by default: TIME_WAIT, and an answered UDP flow.
const (
	endedTCP  = 120 * time.Second
	silentUDP = 120 * time.Second
)

// The states of TCP in conntrack that say that a connection is open or opens.
const (
	tcpSynSent     = 1
	tcpEstablished = 3
)

// usedBy is Used of flows. It is pure.
func usedBy(flows []*netlink.ConntrackFlow, list []*services.Service, now time.Time) map[services.Key]time.Time {
	type front struct {
		at    netip.AddrPort
		proto byte
	}
	fronts := map[front]services.Key{}
	for _, s := range list {
		for i := range s.Ports {
			port := &s.Ports[i]
			proto := protoNumber(port.Protocol)
			for _, ip := range append(append([]netip.Addr(nil), s.ClusterIPs...), s.ExternalIPs...) {
				fronts[front{netip.AddrPortFrom(ip, port.Port), proto}] = s.Key
			}
			if port.NodePort != 0 {
				fronts[front{netip.AddrPortFrom(netip.IPv4Unspecified(), port.NodePort), proto}] = s.Key
			}
		}
	}
	out := map[services.Key]time.Time{}
	for _, f := range flows {
		at := addrPort(f.Forward.DstIP, f.Forward.DstPort)
		key, ok := fronts[front{at, f.Forward.Protocol}]
		if !ok && addrPort(f.Reverse.SrcIP, f.Reverse.SrcPort) != at { // translated, and so by a node port
			key, ok = fronts[front{netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port()), f.Forward.Protocol}]
		}
		if !ok {
			continue
		}
		if last := lastUse(f, now); last.After(out[key]) {
			out[key] = last
		}
	}
	return out
}

func lastUse(f *netlink.ConntrackFlow, now time.Time) time.Time {
	memory := silentUDP
	if f.Forward.Protocol == protoNumber(corev1.ProtocolTCP) {
		if tcp, ok := f.ProtoInfo.(*netlink.ProtoInfoTCP); ok && tcp.State >= tcpSynSent && tcp.State <= tcpEstablished {
			return now
		}
		memory = endedTCP
	}
	return now.Add(-max(memory-time.Duration(f.TimeOut)*time.Second, 0))
}
