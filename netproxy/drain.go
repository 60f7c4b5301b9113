package netproxy

import (
	"context"
	"net/netip"
	"time"

	"github.com/pintle/pintle/netproxy/services"
)

// account follows which addresses the programmed state sends new connections to as ready ones.
func (p *Proxy) account(changes []services.Change) {
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	now := time.Now()
	for a, at := range p.left {
		if now.Sub(at) > settle {
			delete(p.left, a)
		}
	}
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
					p.left[a] = now
				} else {
					delete(p.left, a)
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

// settle is how long a connection that was on its way when its endpoint left gets to be accepted
// there: a listener that is closed resets what waits in its queue.
const settle = 50 * time.Millisecond

// Drained returns once the programmed state has no ready endpoint with addr, and every ingress
// request that chose one before has been answered, and 50 ms have passed since; or with the context's cause. An address that
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
		n, changed, ing, left := p.programmed[addr], p.changed, p.ing, p.left[addr]
		p.stateMu.Unlock()
		if n == 0 {
			if wait := time.Until(left.Add(settle)); !left.IsZero() && wait > 0 {
				select {
				case <-time.After(wait):
					continue // it may be back meanwhile
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
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
