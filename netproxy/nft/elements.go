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
	setServices  = iota // addr . proto . port → goto chain, for all but direct frontends
	setNodePorts        // 0.0.0.0 . proto . port → goto chain
	setEndpoints        // addr . proto . port . index → addr . port
	setRejects          // addr . proto . port: refused
	setDrops            // addr . proto . port: dropped
	setMasq             // addr . proto . port: masqueraded whoever calls
	setValid            // addr . proto . port . addr . port: endpoints that affinity may still use
	numSets
)

// element is one element of a set. val is a map's value, a chain's name in verdict maps.
type element struct {
	set  int
	key  string
	val  string
	need *chainSpec // the chain that must exist first
}

// claim is one address, protocol and port that a Service wants, with all its elements. One Service
// has it at a time; see claims.
type claim struct {
	key      string
	elements []element
}

// chainSpec is one chain, or one rule of the chain of cluster addresses if direct, that picks among
// count endpoints; affinity in seconds, 0 for none.
type chainSpec struct {
	direct   bool
	nodePort bool
	count    int
	affinity int
}

func (c chainSpec) name() string {
	p := "n"
	if c.nodePort {
		p = "p"
	}
	if c.direct {
		p = "direct"
	}
	name := p + strconv.Itoa(c.count)
	if c.affinity > 0 {
		name += "-a" + strconv.Itoa(c.affinity)
	}
	return name
}

// offset is added to the index of an endpoint. A direct rule finds only Services with its own number
// of endpoints by it, and leaves the others to the next rule.
func (c chainSpec) offset() uint32 {
	if c.direct {
		return uint32(c.count) << 16
	}
	return 0
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

// claimsOf lists what one Service is in the table. Pure.
func (c *Config) claimsOf(s *services.Service) (out []claim) {
	if s == nil {
		return nil
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
			out = append(out, frontend(ip, proto, p.Port, p.Internal, affinity, c.inServiceCIDR(ip), false, false))
		}
		// Without a local endpoint Local traffic is dropped where other nodes do have endpoints: the
		// load balancer in front shall try those.
		masq, drop := !s.ExternalLocal, s.ExternalLocal && len(p.Cluster) > 0
		for _, ip := range s.ExternalIPs {
			out = append(out, frontend(ip, proto, p.Port, p.External, affinity, false, masq, drop))
		}
		if p.NodePort != 0 {
			out = append(out, frontend(netip.IPv4Unspecified(), proto, p.NodePort, p.External, affinity, false, masq, drop))
		}
	}
	return out
}

func frontend(ip netip.Addr, proto byte, port uint16, eps []netip.AddrPort, affinity int, direct, masq, drop bool) claim {
	fk := frontendKey(ip, proto, port)
	key := string(fk[:])
	if len(eps) == 0 {
		set := setRejects
		if drop {
			set = setDrops
		}
		return claim{key, []element{{set: set, key: key}}}
	}
	spec := chainSpec{direct: direct && affinity == 0, nodePort: ip.IsUnspecified(), count: len(eps), affinity: affinity}
	out := make([]element, 0, 2+len(eps))
	switch {
	case spec.direct:
	case spec.nodePort:
		out = append(out, element{set: setNodePorts, key: key, val: spec.name()})
	default:
		out = append(out, element{set: setServices, key: key, val: spec.name()})
	}
	for i, ep := range eps {
		var k [16]byte
		copy(k[:], fk[:])
		binary.NativeEndian.PutUint32(k[12:], spec.offset()+uint32(i))
		v := endpointValue(ep)
		out = append(out, element{set: setEndpoints, key: string(k[:]), val: string(v[:])})
		if affinity > 0 {
			out = append(out, element{set: setValid, key: key + string(v[:])})
		}
	}
	if masq {
		// By port alone: the rule has already left out the Services' own addresses. Several may want
		// one, so these elements are counted.
		mk := frontendKey(netip.IPv4Unspecified(), proto, port)
		out = append(out, element{set: setMasq, key: string(mk[:])})
	}
	out[0].need = &spec
	return claim{key, out}
}

// String is for messages.
func (c *claim) String() string {
	a, _ := netip.AddrFromSlice([]byte(c.key[:4]))
	return fmt.Sprintf("%s proto %d port %d", a, c.key[4], binary.BigEndian.Uint16([]byte(c.key[8:10])))
}
