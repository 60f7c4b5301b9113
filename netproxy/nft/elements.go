//go:build linux

package nft

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/netproxy/services"
)

// The sets of the table.
const (
	setServices  = iota // addr . proto . port → goto chain
	setEndpoints        // addr . proto . port . index → addr . port
	setRejects          // addr . proto . port → goto reject, or drop
	setMasq             // addr . proto . port: masqueraded whoever calls
	setValid            // addr . proto . port . addr . port: endpoints that affinity may still use
	numSets
)

// element is one element of a set; chain is for verdict maps, val for other maps.
type element struct {
	set  int
	key  string
	val  string
	need *chainSpec // the chain that must exist first
}

// chainSpec is one chain that picks among count endpoints; affinity in seconds, 0 for none.
type chainSpec struct {
	nodePort bool
	count    int
	affinity int
}

func (c chainSpec) name() string {
	p := "n"
	if c.nodePort {
		p = "p"
	}
	name := p + strconv.Itoa(c.count)
	if c.affinity > 0 {
		name += "-a" + strconv.Itoa(c.affinity)
	}
	return name
}

// protoNumber returns 0 for what is not proxied.
func protoNumber(p corev1.Protocol) byte {
	switch p {
	case corev1.ProtocolTCP:
		return 6
	case corev1.ProtocolUDP:
		return 17
	case corev1.ProtocolSCTP:
		return 132
	}
	return 0
}

func frontendKey(addr netip.Addr, proto byte, port uint16) [12]byte {
	var k [12]byte
	a := addr.As4()
	copy(k[:], a[:])
	k[4] = proto
	binary.BigEndian.PutUint16(k[8:], port)
	return k
}

func endpointValue(a netip.AddrPort) [8]byte {
	var v [8]byte
	ip := a.Addr().As4()
	copy(v[:], ip[:])
	binary.BigEndian.PutUint16(v[4:], a.Port())
	return v
}

// elements appends what one Service is in the table. Pure.
func (c *Config) elements(out []element, s *services.Service) []element {
	if s == nil {
		return out
	}
	affinity := int(s.Affinity.Seconds())
	for i := range s.Ports {
		p := &s.Ports[i]
		proto := protoNumber(p.Protocol)
		if proto == 0 || p.Port == 0 {
			continue
		}
		for _, ip := range s.ClusterIPs {
			if ip == c.DNSServiceIP && p.Port == 53 {
				continue
			}
			out = frontend(out, ip, proto, p.Port, p.Internal, affinity, false, false)
		}
		for _, ip := range s.ExternalIPs {
			out = frontend(out, ip, proto, p.Port, p.External, affinity, !s.ExternalLocal, s.ExternalLocal && len(p.Cluster) > 0)
		}
		if p.NodePort != 0 {
			out = frontend(out, netip.IPv4Unspecified(), proto, p.NodePort, p.External, affinity, !s.ExternalLocal, s.ExternalLocal && len(p.Cluster) > 0)
		}
	}
	return out
}

// verdictDrop is the value of a reject element that drops: other nodes do have endpoints, and the
// load balancer in front shall try them.
const verdictDrop = "drop"

func frontend(out []element, ip netip.Addr, proto byte, port uint16, eps []netip.AddrPort, affinity int, masq, drop bool) []element {
	fk := frontendKey(ip, proto, port)
	key := string(fk[:])
	if len(eps) == 0 {
		v := "reject"
		if drop {
			v = verdictDrop
		}
		return append(out, element{set: setRejects, key: key, val: v})
	}
	spec := chainSpec{nodePort: ip.IsUnspecified(), count: len(eps), affinity: affinity}
	out = append(out, element{set: setServices, key: key, val: spec.name(), need: &spec})
	for i, ep := range eps {
		var k [16]byte
		copy(k[:], fk[:])
		binary.NativeEndian.PutUint32(k[12:], uint32(i))
		v := endpointValue(ep)
		out = append(out, element{set: setEndpoints, key: string(k[:]), val: string(v[:])})
		if affinity > 0 {
			out = append(out, element{set: setValid, key: key + string(v[:])})
		}
	}
	if masq {
		// By port alone: the rule has already left out the Services' own addresses.
		mk := frontendKey(netip.IPv4Unspecified(), proto, port)
		out = append(out, element{set: setMasq, key: string(mk[:])})
	}
	return out
}

// describe is for messages about an element.
func (e *element) describe() string {
	a, _ := netip.AddrFromSlice([]byte(e.key[:4]))
	return fmt.Sprintf("%s proto %d port %d", a, e.key[4], binary.BigEndian.Uint16([]byte(e.key[8:10])))
}
