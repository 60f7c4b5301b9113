//go:build linux

package nft

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/netproxy/services"
)

func TestUseByConnections(t *testing.T) {
	now := time.Unix(1e9, 0)
	key := services.Key{Namespace: "d", Name: "web"}
	list := []*services.Service{{Key: key, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.7")}, Ports: []services.Port{{Port: 80, NodePort: 30080, Protocol: corev1.ProtocolTCP}}}}
	flow := func(to, from string, state uint8, left uint32) *netlink.ConntrackFlow {
		f := &netlink.ConntrackFlow{TimeOut: left, ProtoInfo: &netlink.ProtoInfoTCP{State: state}}
		d, s := netip.MustParseAddrPort(to), netip.MustParseAddrPort(from)
		f.Forward.Protocol, f.Forward.DstIP, f.Forward.DstPort = 6, net.IP(d.Addr().AsSlice()), d.Port()
		f.Reverse.SrcIP, f.Reverse.SrcPort = net.IP(s.Addr().AsSlice()), s.Port()
		return f
	}
	for name, c := range map[string]struct {
		flows []*netlink.ConntrackFlow
		ago   time.Duration // negative: never
	}{
		"none":                      {nil, -1},
		"another Service's":         {[]*netlink.ConntrackFlow{flow("10.96.0.8:80", "10.0.0.1:80", 3, 100)}, -1},
		"open":                      {[]*netlink.ConntrackFlow{flow("10.96.0.7:80", "10.0.0.1:8080", 3, 400000)}, 0},
		"ended 50 s ago":            {[]*netlink.ConntrackFlow{flow("10.96.0.7:80", "10.0.0.1:8080", 7, 70)}, 50 * time.Second},
		"the later of two":          {[]*netlink.ConntrackFlow{flow("10.96.0.7:80", "10.0.0.1:8080", 7, 70), flow("10.96.0.7:80", "10.0.0.1:8080", 7, 110)}, 10 * time.Second},
		"by a node port":            {[]*netlink.ConntrackFlow{flow("192.0.2.1:30080", "10.0.0.1:8080", 3, 70)}, 0},
		"that port, not translated": {[]*netlink.ConntrackFlow{flow("192.0.2.1:30080", "192.0.2.1:30080", 3, 70)}, -1},
	} {
		t.Run(name, func(t *testing.T) {
			at, ok := usedBy(c.flows, list, now)[key]
			if ok != (c.ago >= 0) || ok && !at.Equal(now.Add(-c.ago)) {
				t.Errorf("used %v ago (%v), want %v", now.Sub(at), ok, c.ago)
			}
		})
	}
}
