package netproxy

import (
	"context"
	"net/netip"

	"github.com/pintle/pintle/netproxy/services"
)

// account follows which addresses the programmed state sends new connections to as ready ones.
func (p *Proxy) account(changes []services.Change) {
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	count := func(s *services.Service, by int) {
		if s == nil {
			return
		}
		for i := range s.Ports {
			for _, e := range s.Ports[i].Endpoints {
				if !e.Ready {
					continue
				}
				a := e.Addr.Addr()
				if p.programmed[a] += by; p.programmed[a] == 0 {
					delete(p.programmed, a)
				}
			}
		}
	}
	for _, ch := range changes {
		count(ch.New, 1)
		count(ch.Old, -1)
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// Drained returns once the programmed state has no ready endpoint with addr, and every ingress
// request that chose one before has been answered; or with the context's cause. An address that
// no Service ever had is drained. A terminating endpoint that is kept because its Service has no
// other doesn't count: it would never drain.
func (p *Proxy) Drained(ctx context.Context, addr netip.Addr) error {
	select {
	case <-p.ready:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	addr = addr.Unmap()
	for {
		p.stateMu.Lock()
		n, changed, ing := p.programmed[addr], p.changed, p.ing
		p.stateMu.Unlock()
		if n == 0 {
			if ing == nil {
				return nil
			}
			return ing.Quiesce(ctx, addr)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
