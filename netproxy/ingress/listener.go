package ingress

import (
	"crypto/tls"
	"net"
	"sync"
)

// chanListener hands accepted connections to a server, and knows those that are open so that the
// last of them can be closed at the end.
type chanListener struct {
	ch   chan net.Conn
	done chan struct{}
	once sync.Once

	mu    sync.Mutex // guards conns
	conns map[*tracked]struct{}
}

func newChanListener() *chanListener {
	return &chanListener{ch: make(chan net.Conn), done: make(chan struct{}), conns: map[*tracked]struct{}{}}
}

type tracked struct {
	net.Conn
	l    *chanListener
	once sync.Once
}

func (t *tracked) Close() error {
	t.once.Do(func() {
		t.l.mu.Lock()
		delete(t.l.conns, t)
		t.l.mu.Unlock()
	})
	return t.Conn.Close()
}

func (l *chanListener) push(c net.Conn) {
	select {
	case l.ch <- c:
	case <-l.done:
		c.Close()
	}
}

// Accept implements net.Listener. A *tls.Conn with HTTP/2 is returned as it is: net/http must see it.
func (l *chanListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ch:
		if t, ok := c.(*tls.Conn); ok && t.ConnectionState().NegotiatedProtocol == "h2" {
			return c, nil
		}
		t := &tracked{Conn: c, l: l}
		l.mu.Lock()
		l.conns[t] = struct{}{}
		l.mu.Unlock()
		return t, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *chanListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *chanListener) closeAll() {
	l.mu.Lock()
	list := make([]*tracked, 0, len(l.conns))
	for t := range l.conns {
		list = append(list, t)
	}
	l.mu.Unlock()
	for _, t := range list {
		t.Close()
	}
}

func (l *chanListener) Addr() net.Addr { return &net.TCPAddr{} }
