package userspace

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// udpIdle ends a client's association, as conntrack's does for an answered one.
const udpIdle = 2 * time.Minute

func (pt *port) openUDP(a netip.AddrPort) error {
	pc, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(a))
	if err != nil {
		return err
	}
	pt.mapping.StandIn = pc.LocalAddr().(*net.UDPAddr).AddrPort()
	u := &udpPort{port: pt, pc: pc, flows: map[netip.AddrPort]*udpFlow{}}
	pt.close = func() error { defer u.closeFlows(); return pc.Close() }
	pt.p.wg.Go(u.run)
	return nil
}

type udpPort struct {
	*port
	pc    *net.UDPConn
	mu    sync.Mutex // guards flows
	flows map[netip.AddrPort]*udpFlow
}

type udpFlow struct {
	up net.Conn
	to netip.AddrPort
}

func (u *udpPort) run() {
	buf := make([]byte, 65536)
	for {
		n, from, err := u.pc.ReadFromUDPAddrPort(buf)
		if err != nil {
			if u.p.ctx.Err() != nil || isClosed(err) {
				u.closeFlows()
				return
			}
			continue
		}
		if f := u.flow(from); f != nil {
			f.up.Write(buf[:n])
		}
	}
}

func isClosed(err error) bool {
	oe, ok := err.(*net.OpError)
	return ok && oe.Err == net.ErrClosed || err == net.ErrClosed || ok && oe.Err.Error() == net.ErrClosed.Error()
}

// flow returns the client's association; one whose endpoint left is made anew.
func (u *udpPort) flow(from netip.AddrPort) *udpFlow {
	u.port.mu.Lock()
	eps := u.port.eps
	u.port.mu.Unlock()
	u.mu.Lock()
	defer u.mu.Unlock()
	if f := u.flows[from]; f != nil {
		if slices.Contains(eps, f.to) {
			f.up.SetReadDeadline(time.Now().Add(udpIdle))
			return f
		}
		f.up.Close()
		delete(u.flows, from)
	}
	to, ok := u.pick(from.Addr(), nil)
	if !ok {
		return nil
	}
	up, err := u.p.cfg.Dial(u.p.ctx, "udp", to.String())
	if err != nil {
		return nil
	}
	up.SetReadDeadline(time.Now().Add(udpIdle))
	f := &udpFlow{up: up, to: to}
	u.flows[from] = f
	u.p.wg.Go(func() {
		buf := make([]byte, 65536)
		for {
			n, err := up.Read(buf)
			if err != nil {
				break
			}
			u.pc.WriteToUDPAddrPort(buf[:n], from)
		}
		up.Close()
		u.mu.Lock()
		if u.flows[from] == f {
			delete(u.flows, from)
		}
		u.mu.Unlock()
	})
	return f
}

func (u *udpPort) closeFlows() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, f := range u.flows {
		f.up.Close()
	}
}
