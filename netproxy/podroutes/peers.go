package podroutes

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// peer is another node: where it is and which pods are behind it.
type peer struct {
	node string
	at   netip.Addr
	pods netip.Prefix
	// near says that it is a neighbour on one of this machine's links.
	near bool
}

// peersOf are the other nodes that have an IPv4 address and a pod network, in the order of their names. links
// are the networks of this machine's own links. Two nodes that claim one network can't both have it: the one
// that has been there longer does.
func peersOf(self string, nodes []*corev1.Node, links []netip.Prefix) (peers []peer) {
	nodes = slices.Clone(nodes)
	slices.SortFunc(nodes, func(a, b *corev1.Node) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	var claimed []netip.Prefix
	for _, n := range nodes {
		pods, err := netip.ParsePrefix(n.Spec.PodCIDR)
		if err != nil || !pods.Addr().Is4() || overlaps(pods, claimed) {
			continue
		}
		claimed = append(claimed, pods)
		at, ok := address(n)
		if n.Name == self || !ok {
			continue
		}
		near := slices.ContainsFunc(links, func(link netip.Prefix) bool { return link.Contains(at) })
		peers = append(peers, peer{node: n.Name, at: at, pods: pods.Masked(), near: near})
	}
	slices.SortFunc(peers, func(a, b peer) int { return cmp.Compare(a.node, b.node) })
	return peers
}

func overlaps(p netip.Prefix, others []netip.Prefix) bool {
	return slices.ContainsFunc(others, p.Overlaps)
}

func address(n *corev1.Node) (netip.Addr, bool) {
	for _, a := range n.Status.Addresses {
		if at, err := netip.ParseAddr(a.Address); a.Type == corev1.NodeInternalIP && err == nil && at.Is4() {
			return at, true
		}
	}
	return netip.Addr{}, false
}

// tunnelID is the VXLAN's identifier, 24 bits that follow from the cluster's name; 0 is not one.
func tunnelID(cluster string) int {
	sum := sha256.Sum256([]byte("pintle vxlan\x00" + cluster))
	return int(binary.BigEndian.Uint32(sum[:4])&0xffffff | 1)
}

// hardwareAddress is the one of a node's end of the tunnel: locally administered, for one.
func hardwareAddress(cluster, node string) net.HardwareAddr {
	sum := sha256.Sum256([]byte("pintle vxlan\x00" + cluster + "\x00" + node))
	mac := net.HardwareAddr(sum[:6])
	mac[0] = mac[0]&^1 | 2
	return mac
}

// tunnelAddress is the inner address of a node's end: the pod network's own, which no pod has.
func tunnelAddress(pods netip.Prefix) netip.Addr { return pods.Masked().Addr() }

// linkName fits in the 15 bytes that Linux has for one.
func linkName(cluster string) string {
	sum := sha256.Sum256([]byte(cluster))
	return "pintle-v" + hexLower(sum[:3])
}

func hexLower(b []byte) string {
	const digits = "0123456789abcdef"
	out := make([]byte, 0, 2*len(b))
	for _, c := range b {
		out = append(out, digits[c>>4], digits[c&15])
	}
	return string(out)
}
