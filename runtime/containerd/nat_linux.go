package containerd

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sort"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/pintle/pintle/runtime"
)

// hostPort is one published port of one pod.
type hostPort struct {
	runtime.PortMap
	to netip.Addr
}

// applyNAT replaces our nft table in one transaction: what pods send beyond the cluster's pod networks is
// masqueraded, and host ports are translated.
func applyNAT(table string, pods, cluster netip.Prefix, ports []hostPort) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	t := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: table}
	conn.AddTable(t)
	conn.DelTable(t) // together with the add above: no error when it isn't there
	conn.AddTable(t)
	post := conn.AddChain(&nftables.Chain{Name: "postrouting", Table: t, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
	conn.AddRule(&nftables.Rule{Table: t, Chain: post, Exprs: append(append(
		inPrefix(12, pods, expr.CmpOpEq), inPrefix(16, cluster, expr.CmpOpNeq)...), &expr.Masq{})})
	if len(ports) > 0 {
		sort.Slice(ports, func(i, j int) bool { return ports[i].HostPort < ports[j].HostPort })
		pre := conn.AddChain(&nftables.Chain{Name: "prerouting", Table: t, Type: nftables.ChainTypeNAT,
			Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest})
		out := conn.AddChain(&nftables.Chain{Name: "output", Table: t, Type: nftables.ChainTypeNAT,
			Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest})
		for _, p := range ports {
			exprs, err := p.exprs()
			if err != nil {
				return err
			}
			conn.AddRule(&nftables.Rule{Table: t, Chain: pre, Exprs: exprs})
			conn.AddRule(&nftables.Rule{Table: t, Chain: out, Exprs: exprs})
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("commit nft table %s: %w", table, err)
	}
	return nil
}

func removeNAT(table string) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	t := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: table}
	conn.AddTable(t)
	conn.DelTable(t)
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("remove nft table %s: %w", table, err)
	}
	return nil
}

func inPrefix(offset uint32, p netip.Prefix, op expr.CmpOp) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: net.CIDRMask(p.Bits(), 32), Xor: make([]byte, 4)},
		&expr.Cmp{Register: 1, Op: op, Data: p.Addr().AsSlice()},
	}
}

func (p hostPort) exprs() ([]expr.Any, error) {
	var proto byte
	switch p.Protocol {
	case "tcp", "TCP", "":
		proto = unix.IPPROTO_TCP
	case "udp", "UDP":
		proto = unix.IPPROTO_UDP
	case "sctp", "SCTP":
		proto = unix.IPPROTO_SCTP
	default:
		return nil, fmt.Errorf("hostPort %d: protocol %q is none of tcp, udp, sctp", p.HostPort, p.Protocol)
	}
	exprs := []expr.Any{
		&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Register: 1, Op: expr.CmpOpEq, Data: binary.NativeEndian.AppendUint32(nil, unix.RTN_LOCAL)},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Register: 1, Op: expr.CmpOpEq, Data: []byte{proto}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Register: 1, Op: expr.CmpOpEq, Data: binary.BigEndian.AppendUint16(nil, p.HostPort)},
	}
	if p.HostIP != "" && p.HostIP != "0.0.0.0" {
		ip, err := netip.ParseAddr(p.HostIP)
		if err != nil || !ip.Is4() {
			return nil, fmt.Errorf("hostPort %d: hostIP %q is not an IPv4 address", p.HostPort, p.HostIP)
		}
		exprs = append(exprs, inPrefix(16, netip.PrefixFrom(ip, 32), expr.CmpOpEq)...)
	}
	return append(exprs,
		&expr.Immediate{Register: 1, Data: p.to.AsSlice()},
		&expr.Immediate{Register: 2, Data: binary.BigEndian.AppendUint16(nil, p.ContainerPort)},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2, Specified: true},
	), nil
}
