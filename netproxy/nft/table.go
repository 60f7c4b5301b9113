//go:build linux

package nft

import (
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// table is the fixed part: sets, base chains and their rules.
type table struct {
	t        *nftables.Table
	sets     [numSets]*nftables.Set
	affinity *nftables.Set // client . addr . proto . port → addr . port, filled by packets
	hairpin  *nftables.Set // client . endpoint whose packets leave by the way they came, filled by packets
	loops    *nftables.Set // interface . the same interface, filled by packets
	rules    int           // how many were queued since create
}

func newTable(name string) *table {
	t := &table{t: &nftables.Table{Family: nftables.TableFamilyIPv4, Name: TableName(name)}}
	addr, proto, port, mark := nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService, nftables.TypeMark
	// The ids are given here: the library's counter is a global without a lock, and two proxies
	// may live in one process.
	set := func(id uint32, s nftables.Set, key ...nftables.SetDatatype) *nftables.Set {
		s.Table, s.ID, s.Concatenation = t.t, id, true
		s.KeyType = nftables.MustConcatSetType(key...)
		s.KeyByteOrder = binaryutil.BigEndian
		return &s
	}
	target := nftables.MustConcatSetType(addr, port)
	// The kernel walks a verdict map whole, once for each base chain and rule that reaches it, when an
	// element is added. So cluster addresses, the most by far, are in none, see directChain; and each
	// map is used by one rule.
	t.sets[setServices] = set(1, nftables.Set{Name: "services", IsMap: true, DataType: nftables.TypeVerdict}, addr, proto, port)
	t.sets[setNodePorts] = set(2, nftables.Set{Name: "node-ports", IsMap: true, DataType: nftables.TypeVerdict}, addr, proto, port)
	t.sets[setEndpoints] = set(3, nftables.Set{Name: "endpoints", IsMap: true, DataType: target}, addr, proto, port, mark)
	t.sets[setRejects] = set(4, nftables.Set{Name: "no-endpoints"}, addr, proto, port)
	t.sets[setDrops] = set(5, nftables.Set{Name: "no-local-endpoints"}, addr, proto, port)
	t.sets[setMasq] = set(6, nftables.Set{Name: "masquerade"}, addr, proto, port)
	t.sets[setValid] = set(7, nftables.Set{Name: "affinity-valid"}, addr, proto, port, addr, port)
	t.affinity = set(8, nftables.Set{Name: "affinity", IsMap: true, DataType: target, Dynamic: true, HasTimeout: true, Size: 1 << 18}, addr, addr, proto, port)
	t.loops = set(9, nftables.Set{Name: "loops", Dynamic: true, HasTimeout: true, Timeout: time.Minute, Size: 1 << 16}, nftables.TypeIFIndex, nftables.TypeIFIndex)
	t.hairpin = set(10, nftables.Set{Name: "hairpin", Dynamic: true, HasTimeout: true, Timeout: 10 * time.Second, Size: 1 << 16}, addr, addr)
	return t
}

// create queues the whole fixed part, replacing what is there. Connections that exist keep their
// translation: it is conntrack's, not the table's.
func (t *table) create(c *nftables.Conn, cfg *Config) error {
	c.AddTable(t.t)
	c.DelTable(t.t)
	c.AddTable(t.t)
	for _, s := range append(t.sets[:], t.affinity, t.loops, t.hairpin) {
		if err := c.AddSet(s, nil); err != nil {
			return err
		}
	}
	chain := func(name string) *nftables.Chain { return c.AddChain(&nftables.Chain{Name: name, Table: t.t}) }
	base := func(name string, typ nftables.ChainType, hook *nftables.ChainHook, prio nftables.ChainPriority) *nftables.Chain {
		return c.AddChain(&nftables.Chain{Name: name, Table: t.t, Type: typ, Hooknum: hook, Priority: &prio})
	}
	rule := func(ch *nftables.Chain, parts ...[]expr.Any) {
		t.rules++
		c.AddRule(&nftables.Rule{Table: t.t, Chain: ch, Exprs: concat(parts...)})
	}
	jump := func(ch *nftables.Chain) []expr.Any {
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: ch.Name}}
	}
	one := func(e expr.Any) []expr.Any { return []expr.Any{e} }

	reject := chain("reject")
	rule(reject, []expr.Any{l4proto(reg0), &expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}})
	rule(reject, one(&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: 3}))

	nat := chain("translate")
	direct := chain(directChain)
	for _, p := range cfg.ServiceCIDRs {
		rule(nat, inPrefix(daddr(reg0), reg0, p, false), jump(direct))
	}
	rule(nat, frontendRegs(reg0, false), one(vmap(t.sets[setServices], reg0)))
	rule(nat, daddrLocal(expr.CmpOpEq), notLoopback(), frontendRegs(reg0, true), one(vmap(t.sets[setNodePorts], reg0)))
	for _, hook := range []struct {
		name string
		hook *nftables.ChainHook
	}{{"prerouting", nftables.ChainHookPrerouting}, {"output", nftables.ChainHookOutput}} {
		rule(base(hook.name, nftables.ChainTypeNAT, hook.hook, -100), jump(nat))
	}

	refuse := chain("refuse")
	for set, verdict := range map[int]expr.Any{setRejects: &expr.Verdict{Kind: expr.VerdictGoto, Chain: reject.Name}, setDrops: &expr.Verdict{Kind: expr.VerdictDrop}} {
		match := []expr.Any{inSet(t.sets[set], reg0), verdict}
		rule(refuse, frontendRegs(reg0, false), match)
		rule(refuse, daddrLocal(expr.CmpOpEq), notLoopback(), frontendRegs(reg0, true), match)
	}
	for _, p := range cfg.ServiceCIDRs {
		rule(refuse, inPrefix(daddr(reg0), reg0, p, false), daddrLocal(expr.CmpOpNeq), one(&expr.Verdict{Kind: expr.VerdictGoto, Chain: reject.Name}))
	}
	// After the translation, so that what is still addressed to a Service has no endpoint.
	rule(base("refuse-prerouting", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, -90), stateNew(), jump(refuse))
	rule(base("refuse-output", nftables.ChainTypeFilter, nftables.ChainHookOutput, -90), stateNew(), jump(refuse))

	// A connection that leaves by the interface that it came from (a pod to itself, or two pods on
	// one bridge) would be answered past us. Registers can't be compared with each other, so the
	// pair (in, in) is put into a set and the pair (in, out) looked up there. The forward hook knows
	// the input even of bridged packets, postrouting doesn't; a second set carries the answer there.
	forward := base("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, 0)
	iif, oif := func(r uint32) expr.Any { return &expr.Meta{Key: expr.MetaKeyIIF, Register: r} }, &expr.Meta{Key: expr.MetaKeyOIF, Register: reg0 + 1}
	toPods := [][]expr.Any{nil}
	for i, p := range cfg.PodCIDRs {
		toPods = append(toPods[:i], inPrefix(daddr(reg0), reg0, p, false))
	}
	for _, to := range toPods {
		rule(forward, stateNew(), statusDNAT(), to, []expr.Any{iif(reg0), iif(reg0 + 1), dynset(dynUpdate, t.loops, reg0, 0, time.Minute),
			iif(reg0), oif, inSet(t.loops, reg0), saddr(reg0), daddr(reg0 + 1), dynset(dynUpdate, t.hairpin, reg0, 0, 10*time.Second)})
	}

	post := base("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, 100)
	masq := chain("masquerade")
	rule(post, statusDNAT(), jump(masq))
	m := one(&expr.Masq{})
	rule(masq, []expr.Any{saddr(reg0), daddr(reg0 + 1), inSet(t.hairpin, reg0)}, m)
	outside := func(parts ...[]expr.Any) [][]expr.Any {
		for _, p := range cfg.PodCIDRs {
			parts = append(parts, inPrefix(saddr(reg0), reg0, p, true))
		}
		return parts
	}
	if len(cfg.PodCIDRs) > 0 {
		for _, p := range cfg.ServiceCIDRs {
			rule(masq, append(outside(inPrefix(&expr.Ct{Key: expr.CtKeyDST, Register: reg0}, reg0, p, false)), m)...)
		}
	}
	notService := [][]expr.Any{}
	for _, p := range cfg.ServiceCIDRs {
		notService = append(notService, inPrefix(&expr.Ct{Key: expr.CtKeyDST, Register: reg0}, reg0, p, true))
	}
	rule(masq, append(notService, originalRegs(reg0), one(inSet(t.sets[setMasq], reg0)), m)...)
	return nil
}

// directChain has one rule for each number of endpoints that a Service has. A rule that doesn't find
// the address under its own number is passed by.
const directChain = "cluster-ips"

// addChain queues the chain that picks one of spec.count endpoints, or the direct rule.
func (t *table) addChain(c *nftables.Conn, spec chainSpec) {
	ch := &nftables.Chain{Name: directChain, Table: t.t}
	if !spec.direct {
		ch = c.AddChain(&nftables.Chain{Name: spec.name(), Table: t.t})
	}
	rule := func(parts ...[]expr.Any) {
		t.rules++
		c.AddRule(&nftables.Rule{Table: t.t, Chain: ch, Exprs: concat(parts...)})
	}
	random := func(r uint32) expr.Any {
		return &expr.Numgen{Register: r, Modulus: uint32(spec.count), Type: unix.NFT_NG_RANDOM, Offset: spec.offset()}
	}
	if spec.affinity == 0 {
		rule(frontendRegs(reg0, spec.nodePort), []expr.Any{random(reg0 + 3), lookup(t.sets[setEndpoints], reg0, reg0+4), dnat(reg0 + 4)})
		return
	}
	timeout := time.Duration(spec.affinity) * time.Second
	key := append([]expr.Any{saddr(reg0)}, frontendRegs(reg0+1, spec.nodePort)...)
	// The client's last endpoint, if the service still has it.
	rule(key, []expr.Any{lookup(t.affinity, reg0, reg0+4), inSet(t.sets[setValid], reg0+1), dynset(dynUpdate, t.affinity, reg0, reg0+4, timeout), dnat(reg0 + 4)})
	// An update would keep the stale endpoint, so it goes first.
	rule(key, []expr.Any{dynset(dynDelete, t.affinity, reg0, reg0, 0)})
	rule(key, []expr.Any{random(reg0 + 4), lookup(t.sets[setEndpoints], reg0+1, reg0+6), dynset(dynAdd, t.affinity, reg0, reg0+6, timeout), dnat(reg0 + 6)})
}
