//go:build linux

package nft

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Registers of four bytes; 8 is the first (NFT_REG32_00).
const reg0 = 8

func saddr(r uint32) expr.Any {
	return &expr.Payload{DestRegister: r, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4}
}
func daddr(r uint32) expr.Any {
	return &expr.Payload{DestRegister: r, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4}
}
func dport(r uint32) expr.Any {
	return &expr.Payload{DestRegister: r, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}
}
func l4proto(r uint32) expr.Any { return &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: r} }
func zero(r uint32) expr.Any    { return &expr.Immediate{Register: r, Data: make([]byte, 4)} }

// frontendRegs loads addr . proto . port into three registers from r on.
func frontendRegs(r uint32, nodePort bool) []expr.Any {
	addr := daddr(r)
	if nodePort {
		addr = zero(r)
	}
	return []expr.Any{addr, l4proto(r + 1), dport(r + 2)}
}

// originalRegs loads 0.0.0.0 . proto . port of the connection as its client sees it.
func originalRegs(r uint32) []expr.Any {
	return []expr.Any{zero(r), l4proto(r + 1), &expr.Ct{Key: expr.CtKeyPROTODST, Register: r + 2, Direction: 0}}
}

// inPrefix matches (or not) the address in register r against one prefix.
func inPrefix(load expr.Any, r uint32, p netip.Prefix, not bool) []expr.Any {
	a := p.Masked().Addr().As4()
	var mask [4]byte
	binary.BigEndian.PutUint32(mask[:], uint32(0xffffffff<<(32-p.Bits())))
	op := expr.CmpOpEq
	if not {
		op = expr.CmpOpNeq
	}
	return []expr.Any{load, &expr.Bitwise{SourceRegister: r, DestRegister: r, Len: 4, Mask: mask[:], Xor: make([]byte, 4)},
		&expr.Cmp{Op: op, Register: r, Data: a[:]}}
}

func notLoopback() []expr.Any {
	return inPrefix(daddr(reg0), reg0, netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8), true)
}

func native(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

func stateNew() []expr.Any {
	return []expr.Any{&expr.Ct{Key: expr.CtKeySTATE, Register: reg0},
		&expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: 4, Mask: native(expr.CtStateBitNEW), Xor: native(0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg0, Data: native(0)}}
}

const ipsDstNAT = 1 << 5 // IPS_DST_NAT of linux/netfilter/nf_conntrack_common.h

func statusDNAT() []expr.Any {
	return []expr.Any{&expr.Ct{Key: expr.CtKeySTATUS, Register: reg0},
		&expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: 4, Mask: native(ipsDstNAT), Xor: native(0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg0, Data: native(0)}}
}

func daddrLocal(op expr.CmpOp) []expr.Any {
	return []expr.Any{&expr.Fib{Register: reg0, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: op, Register: reg0, Data: native(unix.RTN_LOCAL)}}
}

func vmap(s *nftables.Set, r uint32) expr.Any {
	return &expr.Lookup{SourceRegister: r, SetName: s.Name, SetID: s.ID, DestRegister: 0, IsDestRegSet: true}
}
func inSet(s *nftables.Set, r uint32) expr.Any {
	return &expr.Lookup{SourceRegister: r, SetName: s.Name, SetID: s.ID}
}
func lookup(s *nftables.Set, r, to uint32) expr.Any {
	return &expr.Lookup{SourceRegister: r, SetName: s.Name, SetID: s.ID, DestRegister: to, IsDestRegSet: true}
}
func dynset(op uint32, s *nftables.Set, key, data uint32, timeout time.Duration) expr.Any {
	return &expr.Dynset{Operation: op, SetName: s.Name, SetID: s.ID, SrcRegKey: key, SrcRegData: data, Timeout: timeout}
}
func dnat(r uint32) expr.Any {
	return &expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: r, RegProtoMin: r + 1}
}

// Operations of a dynset.
const (
	dynAdd    = 0
	dynUpdate = 1
	dynDelete = 2
)

func concat(parts ...[]expr.Any) []expr.Any {
	var out []expr.Any
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}
