package netproxy

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/netproxy/services"
	"github.com/pintle/pintle/netproxy/standby"
	"github.com/pintle/pintle/netproxy/userspace"
)

// heldPlane is a data plane of rules before one in user space: while a Service that is scaled to zero has no endpoint,
// the rules send its TCP connections to user space, where they wait for one.
type heldPlane struct {
	rules    dataPlane
	holder   *userspace.Proxy
	log      *slog.Logger
	has      map[services.Key]*services.Service // in the holder
	standsIn map[services.Key]*services.Service // what the rules have in the place of a Service
}

func newHeldPlane(rules dataPlane, at netip.Addr, desk *standby.Desk, cfg *Config) *heldPlane {
	return &heldPlane{rules: rules, holder: userspace.New(userspace.Config{Address: at, Dial: cfg.Dial, Standby: desk, Logger: cfg.Logger}), log: cfg.Logger,
		has: map[services.Key]*services.Service{}, standsIn: map[services.Key]*services.Service{}}
}

// Apply implements dataPlane. The holder is first: what waits goes on at once, and its listeners are open before rules
// point to them.
func (h *heldPlane) Apply(ctx context.Context, changes []services.Change) error {
	var inside []services.Change
	for _, ch := range changes {
		key, now := ch.Old.KeyOr(ch.New), tcpOf(ch.New)
		was := h.has[key]
		if was == nil && now == nil {
			continue
		}
		if now == nil {
			delete(h.has, key)
		} else {
			h.has[key] = now
		}
		inside = append(inside, services.Change{Old: was, New: now})
	}
	if len(inside) > 0 {
		if err := h.holder.Apply(ctx, inside); err != nil {
			h.log.Warn("some ports can't be held while their Service is scaled to zero", "err", err)
		}
	}
	at := map[services.Key]map[netip.AddrPort]netip.AddrPort{}
	for _, m := range h.holder.Mapping() {
		if at[m.Service] == nil {
			at[m.Service] = map[netip.AddrPort]netip.AddrPort{}
		}
		at[m.Service][m.Address] = m.StandIn
	}
	outside := make([]services.Change, len(changes))
	for i, ch := range changes {
		outside[i] = ch
		key := ch.Old.KeyOr(ch.New)
		if s := h.standsIn[key]; s != nil {
			outside[i].Old = s
			delete(h.standsIn, key)
		}
		if ch.New != nil && ch.New.ScaleToZero > 0 {
			s := standIn(ch.New, at[key])
			outside[i].New, h.standsIn[key] = s, s
		}
	}
	return h.rules.Apply(ctx, outside)
}

// Repair implements repairer.
func (h *heldPlane) Repair(ctx context.Context) (bool, error) {
	if r, ok := h.rules.(repairer); ok {
		return r.Repair(ctx)
	}
	return false, nil
}

// tcpOf is what of a Service is held; nil: nothing.
func tcpOf(s *services.Service) *services.Service {
	if s == nil || s.ScaleToZero == 0 {
		return nil
	}
	out := *s
	out.Ports = nil
	for _, p := range s.Ports {
		if p.Protocol == corev1.ProtocolTCP {
			out.Ports = append(out.Ports, p)
		}
	}
	return &out
}

// standIn is the Service with the holder's addresses as the endpoints of its TCP ports that have none anywhere.
// An address from outside has the node port's listener, or that of the Service's own address.
func standIn(s *services.Service, at map[netip.AddrPort]netip.AddrPort) *services.Service {
	out := *s
	out.Ports = append([]services.Port(nil), s.Ports...)
	for i := range out.Ports {
		p := &out.Ports[i]
		if p.Protocol != corev1.ProtocolTCP || len(p.Cluster) > 0 {
			continue
		}
		for _, ip := range s.ClusterIPs {
			if a, ok := at[netip.AddrPortFrom(ip, p.Port)]; ok {
				p.Internal, p.External = []netip.AddrPort{a}, []netip.AddrPort{a}
			}
		}
		if a, ok := at[netip.AddrPortFrom(netip.IPv4Unspecified(), p.NodePort)]; ok && p.NodePort != 0 {
			p.External = []netip.AddrPort{a}
		}
	}
	return &out
}

// holdAt is where user space listens for what the rules send it: an address of this host that pods and clients of node
// ports are routed to. Invalid: there is none, and nothing is held but by the ingress.
func (p *Proxy) holdAt() netip.Addr {
	if p.cfg.DNSServiceIP.IsValid() { // on the loopback interface, see raiseHost
		return p.cfg.DNSServiceIP
	}
	for _, a := range p.cfg.NodeIPs {
		if a.Is4() && !a.IsLoopback() {
			return a
		}
	}
	p.log.Info("no address to hold connections at: Services that are scaled to zero refuse them")
	return netip.Addr{}
}

// used says when Services were used through the rules; the rest counts itself.
func (p *Proxy) used(list []*services.Service) (map[services.Key]time.Time, error) {
	p.stateMu.Lock()
	rules := p.rules
	p.stateMu.Unlock()
	if rules == nil {
		return nil, nil
	}
	return rules.Used(list)
}
