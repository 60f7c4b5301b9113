package ingress

import (
	"context"
	"crypto/tls"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

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

	now    atomic.Int64 // the last sweep's time
	ending atomic.Bool  // set under mu

	mu    sync.Mutex // guards conns
	conns map[*tracked]struct{}
}

// The phases of a client connection.
const (
	phaseIdle int32 = iota // between requests, and before the first
	phaseReading
	phaseHandling
	phaseHijacked
)

// tracked is an open client connection.
type tracked struct {
	net.Conn
	s               *fastConns
	raw             net.Conn // below TLS
	ip, proto, port string   // as in X-Forwarded headers
	phase           atomic.Int32
	since           atomic.Int64 // when the phase began, or what was awaited changed; Unix nanoseconds, coarse
	writeBy         time.Time    // the write deadline; zero: none

	mu sync.Mutex // guards up
	up *upConn    // what the request under way waits for
}

func trackedOf(c net.Conn) *tracked {
	if tt, ok := c.(*trackedTLS); ok {
		return tt.tracked
	}
	t, _ := c.(*tracked)
	return t
}

func (t *tracked) enter(phase int32) {
	t.phase.Store(phase)
	t.since.Store(t.s.now.Load())
}

// await notes which connection would be for nothing if the client left; nil: none.
func (t *tracked) await(c *upConn) {
	t.mu.Lock()
	t.up = c
	t.mu.Unlock()
	t.since.Store(t.s.now.Load())
}

// armWrite gives the client d from now, or a little more, to take what is sent.
func (t *tracked) armWrite(now time.Time, d time.Duration) {
	if left := t.writeBy.Sub(now); left < d || left > d+2*slack {
		t.writeBy = now.Add(d + slack)
		t.SetWriteDeadline(t.writeBy) //nolint:errcheck // a connection that is gone shows in the write
	}
}

func (t *tracked) disarmWrite() {
	if !t.writeBy.IsZero() {
		t.writeBy = time.Time{}
		t.SetWriteDeadline(time.Time{}) //nolint:errcheck // see armWrite
	}
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
	t := trackedOf(c)
	if t == nil {
		return
	}
	switch st {
	case fasthttp.StateActive:
		t.enter(phaseReading)
	case fasthttp.StateHijacked:
		t.enter(phaseHijacked)
	case fasthttp.StateIdle:
		t.enter(phaseIdle)
		if s.ending.Load() {
			t.Close()
		}
	}
}

const (
	keepAlive  = 75 * time.Second       // a client's connection without a request
	stalled    = 3 * time.Minute        // an answer that its client doesn't take
	sweepEvery = 500 * time.Millisecond // see sweep
)

// sweep ends what fasthttp's deadlines would, at none of their cost per request: connections idle or
// stalled for too long. And it ends the connections to endpoints whose answers nobody waits for any
// more, so that they hear of it.
func (s *fastConns) sweep(now time.Time) {
	s.now.Store(now.UnixNano())
	s.mu.Lock()
	list := make([]*tracked, 0, len(s.conns))
	for t := range s.conns {
		list = append(list, t)
	}
	s.mu.Unlock()
	for _, t := range list {
		age := time.Duration(now.UnixNano() - t.since.Load())
		switch t.phase.Load() {
		case phaseIdle:
			if age > keepAlive {
				t.Close()
			}
		case phaseReading:
			if age > clientIdle {
				t.Close()
			}
		case phaseHandling:
			t.mu.Lock()
			if up := t.up; up != nil && age >= sweepEvery && clientGone(t.raw) {
				up.Close()
			}
			idle := t.up == nil && age > stalled
			t.mu.Unlock()
			if idle {
				t.Close()
			}
		}
	}
}

// push serves a connection until it ends.
func (s *fastConns) push(c net.Conn) {
	t := &tracked{Conn: c, s: s, raw: c, proto: "http", port: "80"}
	tc, isTLS := c.(*tls.Conn)
	if isTLS {
		t.raw, t.proto, t.port = tc.NetConn(), "https", "443"
	}
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		t.ip = a.AddrPort().Addr().Unmap().String()
	}
	if a, ok := c.LocalAddr().(*net.TCPAddr); ok {
		t.port = strconv.Itoa(a.Port)
	}
	t.since.Store(time.Now().UnixNano())
	s.mu.Lock()
	if s.ending.Load() {
		s.mu.Unlock()
		c.Close()
		return
	}
	s.conns[t] = struct{}{}
	s.wg.Add(1)
	s.mu.Unlock()
	var conn net.Conn = t
	if isTLS {
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
	s.ending.Store(true)
	s.mu.Unlock()
	s.closeWhere(func(t *tracked) bool { return t.phase.Load() == phaseIdle })
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
