package appliance

import (
	"fmt"
	"net"
	"sync"
)

// port is a net.Listener whose port is opened when Run begins: the proxy wants its listeners when it
// is made, which is earlier.
type port struct {
	address string

	mu     sync.Mutex // guards opened
	opened net.Listener
}

func newPort(address string) *port { return &port{address: address} }

func (p *port) open() error {
	l, err := net.Listen("tcp", p.address)
	if err != nil {
		return fmt.Errorf("appliance: the ingress's port: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opened = l
	return nil
}

func (p *port) listener() net.Listener {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.opened
}

func (p *port) Accept() (net.Conn, error) {
	if l := p.listener(); l != nil {
		return l.Accept()
	}
	return nil, net.ErrClosed
}

// Close closes what is open. The port may be closed twice.
func (p *port) Close() error {
	if l := p.listener(); l != nil {
		l.Close()
	}
	return nil
}

func (p *port) Addr() net.Addr {
	if l := p.listener(); l != nil {
		return l.Addr()
	}
	return unopened(p.address)
}

// local is the address at which this machine reaches the port.
func (p *port) local() string {
	host, number, err := net.SplitHostPort(p.Addr().String())
	if ip := net.ParseIP(host); err == nil && (ip == nil || ip.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", number)
	}
	return p.Addr().String()
}

// unopened is the address of a port that is not open.
type unopened string

func (u unopened) Network() string { return "tcp" }
func (u unopened) String() string  { return string(u) }
