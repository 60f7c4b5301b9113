package ingress

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"

	"github.com/valyala/fasthttp"
)

// chanListener hands accepted connections to net/http.
type chanListener struct {
	ch   chan net.Conn
	done chan struct{}
	once sync.Once
}

func newChanListener() *chanListener {
	return &chanListener{ch: make(chan net.Conn), done: make(chan struct{})}
}

func (l *chanListener) push(c net.Conn) {
	select {
	case l.ch <- c:
	case <-l.done:
		c.Close()
	}
}

// Accept implements net.Listener.
func (l *chanListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ch:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *chanListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *chanListener) Addr() net.Addr { return &net.TCPAddr{} }

// fastConns serves connections with fasthttp, one goroutine each. fasthttp's own accept loop
// leaves a goroutine asleep for ten seconds after its end, so it isn't used.
type fastConns struct {
	srv *fasthttp.Server
	wg  sync.WaitGroup

	mu     sync.Mutex // guards what follows
	conns  map[*tracked]struct{}
	ending bool
}

// tracked is an open client connection. busy says that a request is under way.
type tracked struct {
	net.Conn
	s    *fastConns
	busy atomic.Bool
}

// Close implements net.Conn.
func (t *tracked) Close() error {
	t.s.mu.Lock()
	delete(t.s.conns, t)
	t.s.mu.Unlock()
	return t.Conn.Close()
}

// trackedTLS shows fasthttp that the connection is encrypted.
type trackedTLS struct {
	*tracked
	tls *tls.Conn
}

func (t *trackedTLS) Handshake() error                     { return t.tls.Handshake() }
func (t *trackedTLS) ConnectionState() tls.ConnectionState { return t.tls.ConnectionState() }

// state is fasthttp's ConnState callback.
func (s *fastConns) state(c net.Conn, st fasthttp.ConnState) {
	t, ok := c.(*tracked)
	if tt, is := c.(*trackedTLS); is {
		t, ok = tt.tracked, true
	}
	if !ok {
		return
	}
	t.busy.Store(st == fasthttp.StateActive || st == fasthttp.StateHijacked)
	if st == fasthttp.StateIdle {
		s.mu.Lock()
		ending := s.ending
		s.mu.Unlock()
		if ending {
			t.Close()
		}
	}
}

// push serves a connection until it ends.
func (s *fastConns) push(c net.Conn) {
	t := &tracked{Conn: c, s: s}
	s.mu.Lock()
	if s.ending {
		s.mu.Unlock()
		c.Close()
		return
	}
	s.conns[t] = struct{}{}
	s.wg.Add(1)
	s.mu.Unlock()
	var conn net.Conn = t
	if tc, ok := c.(*tls.Conn); ok {
		conn = &trackedTLS{t, tc}
	}
	go func() {
		defer s.wg.Done()
		s.srv.ServeConn(conn) //nolint:errcheck // a client that went away
	}()
}

// shutdown closes idle connections, waits for the others until ctx ends, then closes them too.
func (s *fastConns) shutdown(ctx context.Context) {
	s.mu.Lock()
	s.ending = true
	s.mu.Unlock()
	s.closeWhere(func(t *tracked) bool { return !t.busy.Load() })
	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		s.closeWhere(func(*tracked) bool { return true })
		<-done
	}
}

func (s *fastConns) closeWhere(match func(*tracked) bool) {
	s.mu.Lock()
	var list []*tracked
	for t := range s.conns {
		if match(t) {
			list = append(list, t)
		}
	}
	s.mu.Unlock()
	for _, t := range list {
		t.Close()
	}
}
