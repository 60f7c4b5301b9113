// Package memnet is a net.Listener without a socket: Dial gives one end of an in-memory
// connection and Accept the other. Connections carry the value that the dialer gave, so that a
// server can know who called without credentials on the wire.
package memnet

import (
	"context"
	"net"
	"sync"
)

// Listener accepts what its own Dial makes. It is safe for concurrent use.
type Listener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

// Listen returns an open listener.
func Listen() *Listener {
	return &Listener{conns: make(chan net.Conn), done: make(chan struct{})}
}

// Conn is the server's end. Value is what the client passed to Dial.
type Conn struct {
	net.Conn
	Value any
}

// Dial connects. value is for the server's end alone.
func (l *Listener) Dial(ctx context.Context, value any) (net.Conn, error) {
	client, server := pipe()
	select {
	case l.conns <- &Conn{Conn: server, Value: value}:
		return client, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Accept waits for the next Dial.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept and refuses further dials. Connections stay open.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr is a fixed name; nothing can be dialled by it.
func (l *Listener) Addr() net.Addr { return addr{} }

type addr struct{}

func (addr) Network() string { return "memory" }
func (addr) String() string  { return "memory" }
