package userspace

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"
)

func (pt *port) openTCP(a netip.AddrPort) error {
	ln, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(a))
	if err != nil {
		return err
	}
	pt.mapping.StandIn = ln.Addr().(*net.TCPAddr).AddrPort()
	pt.close = ln.Close
	pt.p.wg.Go(func() {
		for {
			c, err := ln.AcceptTCP()
			if errors.Is(err, net.ErrClosed) || pt.p.ctx.Err() != nil {
				if c != nil {
					c.Close()
				}
				return
			}
			if err != nil { // out of descriptors, perhaps: let others end first
				select {
				case <-time.After(5 * time.Millisecond):
				case <-pt.p.ctx.Done():
				}
				continue
			}
			pt.p.wg.Go(func() { pt.splice(c) })
		}
	})
	return nil
}

// maxWaits is how often a connection waits for an endpoint, each of which may be gone again when it is dialled.
const maxWaits = 3

func (pt *port) splice(c *net.TCPConn) {
	defer c.Close()
	var failed []netip.AddrPort
	client := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr()
	entry := pt.p.cfg.Standby.Of(pt.mapping.Service)
	defer entry.Begin()()
	// Another port of the Service may have endpoints, or another node, and then there is nothing to wait for.
	waits := maxWaits
	for {
		to, ok := pt.pick(client, failed)
		if !ok && entry != nil && pt.bare() && waits > 0 {
			waits--
			if err := entry.Wait(pt.p.ctx); err == nil {
				failed = nil // of before
				continue
			}
		}
		if !ok {
			c.SetLinger(0) // a reset, as a refused connection would be
			return
		}
		up, err := pt.p.cfg.Dial(pt.p.ctx, "tcp", to.String())
		if err != nil {
			failed = append(failed, to)
			continue
		}
		if pt.removed(to) { // while it was dialled: nothing was sent yet, so another can have it
			up.Close()
			continue
		}
		join(pt.p.ctx, c, up)
		return
	}
}

// bare says whether there are no endpoints at all.
func (pt *port) bare() bool {
	pt.mu.Lock()
	defer pt.mu.Unlock()
	return len(pt.eps) == 0
}

type closeWriter interface{ CloseWrite() error }

// join copies both ways until both have ended; the end of one half is passed on.
func join(ctx context.Context, a, b net.Conn) {
	stop := context.AfterFunc(ctx, func() { a.Close(); b.Close() })
	defer stop()
	defer a.Close()
	defer b.Close()
	done := make(chan struct{})
	half := func(dst, src net.Conn) {
		_, err := io.Copy(dst, src)
		if cw, ok := dst.(closeWriter); ok && err == nil {
			cw.CloseWrite()
			return
		}
		dst.Close()
		src.Close()
	}
	go func() { defer close(done); half(a, b) }()
	half(b, a)
	<-done
}
