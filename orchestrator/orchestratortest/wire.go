package orchestratortest

import (
	"context"
	"errors"
	"net"
	"sync"
)

// wire is what ties a member to the others. Cut, it breaks every connection and lets no new one come about, in
// either direction: to the others the member's process is dead.
type wire struct {
	listener net.Listener

	mu    sync.Mutex // guards what follows
	cut   bool
	conns map[net.Conn]struct{}
}

var errCut = errors.New("orchestratortest: the member was killed")

// take keeps a connection until it is closed, and closes it at once where the wire is cut.
func (w *wire) take(conn net.Conn) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut {
		_ = conn.Close()
		return nil, errCut
	}
	if w.conns == nil {
		w.conns = map[net.Conn]struct{}{}
	}
	w.conns[conn] = struct{}{}
	return wired{conn, w}, nil
}

func (w *wire) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return w.take(conn)
}

func (w *wire) kill() {
	_ = w.listener.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = true
	for conn := range w.conns {
		if t, ok := conn.(*net.TCPConn); ok {
			_ = t.SetLinger(0) // as the kernel does for a process that died
		}
		_ = conn.Close()
	}
	w.conns = nil
}

type wired struct {
	net.Conn
	w *wire
}

func (c wired) Close() error {
	c.w.mu.Lock()
	delete(c.w.conns, c.Conn)
	c.w.mu.Unlock()
	return c.Conn.Close()
}

// wiredListener gives out connections of the wire.
type wiredListener struct {
	net.Listener
	w *wire
}

func (l wiredListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if conn, err = l.w.take(conn); err == nil {
			return conn, nil
		}
	}
}
