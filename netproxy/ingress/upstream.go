package ingress

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pintle/pintle/netproxy/standby"
)

// upstream is the endpoints of one backend. Immutable but for the turn.
type upstream struct {
	eps  []*endpoint
	next atomic.Uint32
	zero *standby.Entry // nil: its Service isn't scaled to zero
}

// endpoint is one address with its kept connections. It is shared by all routes and states that
// name it with the same protocol.
type endpoint struct {
	addr  netip.AddrPort
	proto string
	c     *Controller
	// picked counts requests that chose it and have no answer yet. gone is set before picked is
	// read by Quiesce, and read after picked was raised: one of both sides sees the other.
	picked atomic.Int64
	gone   atomic.Bool
	// silence says that nobody seems to be there.
	silence silence

	mu        sync.Mutex // guards what follows
	idle      []*upConn
	rt, fresh *http.Transport
	rtOpts    [2]time.Duration // the timeouts that both were made with
}

// upConn is one HTTP/1.1 connection to an endpoint.
type upConn struct {
	net.Conn
	br     *bufio.Reader
	bw     *bufio.Writer
	since  time.Time
	reused bool
	// readBy and writeBy are the deadlines. They are moved once a second at most.
	readBy, writeBy time.Time
}

// slack is how much later than asked for a deadline may strike.
const slack = time.Second

func (c *upConn) armRead(now time.Time, d time.Duration) {
	if left := c.readBy.Sub(now); left < d || left > d+2*slack {
		c.readBy = now.Add(d + slack)
		c.SetReadDeadline(c.readBy) //nolint:errcheck // a connection that is gone shows in the read
	}
}

func (c *upConn) armWrite(now time.Time, d time.Duration) {
	if left := c.writeBy.Sub(now); left < d || left > d+2*slack {
		c.writeBy = now.Add(d + slack)
		c.SetWriteDeadline(c.writeBy) //nolint:errcheck // a connection that is gone shows in the write
	}
}

const (
	maxIdle     = 256
	idleTimeout = 50 * time.Second
)

// errNoEndpoint: nothing can take the request.
var errNoEndpoint = errors.New("no endpoint")

// pick chooses an endpoint that is still there, not one of failed, and counts the request. The
// caller ends it with done.
func (u *upstream) pick(failed []*endpoint) *endpoint {
	n := uint32(len(u.eps))
	if n == 0 {
		return nil
	}
	start := u.next.Add(1)
next:
	for i := range 2 * n { // the second time, those that were silent too
		e := u.eps[(start+i)%n]
		for _, f := range failed {
			if f == e {
				continue next
			}
		}
		if i < n && e.silence.avoid() {
			continue
		}
		e.picked.Add(1)
		if !e.gone.Load() {
			return e
		}
		e.done()
	}
	return nil
}

func (e *endpoint) done() {
	if e.picked.Add(-1) == 0 && e.gone.Load() {
		e.c.wake()
	}
}

// leave takes the endpoint out of use.
func (e *endpoint) leave() {
	e.gone.Store(true)
	e.mu.Lock()
	idle, rt := e.idle, e.rt // fresh keeps none
	e.idle = nil
	e.mu.Unlock()
	for _, c := range idle {
		c.Close()
	}
	if rt != nil {
		rt.CloseIdleConnections()
	}
}

// dialError says that nothing was sent.
type dialError struct{ err error }

func (d *dialError) Error() string { return d.err.Error() }
func (d *dialError) Unwrap() error { return d.err }

func (e *endpoint) dial(ctx context.Context, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	c, err := e.c.cfg.Dial(ctx, "tcp", e.addr.String())
	if err != nil {
		return nil, &dialError{fmt.Errorf("dial endpoint: %w", err)}
	}
	if e.proto == "HTTPS" || e.proto == "GRPCS" {
		conf := &tls.Config{InsecureSkipVerify: true} // pods' certificates name no address; as nginx does by default
		if e.proto == "GRPCS" {
			conf.NextProtos = []string{"h2"}
		}
		tc := tls.Client(c, conf)
		if err := tc.HandshakeContext(ctx); err != nil {
			c.Close()
			return nil, &dialError{fmt.Errorf("TLS to endpoint: %w", err)}
		}
		return tc, nil
	}
	return c, nil
}

// conn returns a kept connection, or a new one where there is none or fresh asks for it.
func (e *endpoint) conn(ctx context.Context, timeout time.Duration, fresh bool) (*upConn, error) {
	for !fresh {
		e.mu.Lock()
		n := len(e.idle)
		if n == 0 {
			e.mu.Unlock()
			break
		}
		c := e.idle[n-1]
		e.idle = e.idle[:n-1]
		e.mu.Unlock()
		if time.Since(c.since) > idleTimeout {
			c.Close()
			continue
		}
		c.reused = true
		return c, nil
	}
	nc, err := e.dial(ctx, timeout)
	if err != nil {
		return nil, err
	}
	return &upConn{Conn: nc, br: bufio.NewReaderSize(nc, 16<<10), bw: bufio.NewWriterSize(nc, 8<<10)}, nil
}

// keep takes a connection back.
func (e *endpoint) keep(c *upConn) {
	if c.br.Buffered() > 0 { // more than the answer came: not to be trusted
		c.Close()
		return
	}
	c.since = time.Now()
	e.mu.Lock()
	if e.gone.Load() || len(e.idle) >= maxIdle || e.c.closed.Load() {
		e.mu.Unlock()
		c.Close()
		return
	}
	e.idle = append(e.idle, c)
	e.mu.Unlock()
}

// sweep closes connections that were idle for long.
func (e *endpoint) sweep(now time.Time) {
	e.mu.Lock()
	var old []*upConn
	keep := e.idle[:0]
	for _, c := range e.idle {
		if now.Sub(c.since) > idleTimeout {
			old = append(old, c)
		} else {
			keep = append(keep, c)
		}
	}
	e.idle = keep
	e.mu.Unlock()
	for _, c := range old {
		c.Close()
	}
}

// transport is for the net/http path. fresh asks for one that keeps no connections, for requests that
// must not meet one that their endpoint is just closing. Over HTTP/2 an endpoint says what it took.
func (e *endpoint) transport(o *Options, fresh bool) *http.Transport {
	e.mu.Lock()
	defer e.mu.Unlock()
	rt := &e.rt
	if fresh && e.proto != "GRPC" && e.proto != "GRPCS" {
		rt = &e.fresh
	}
	// The timeouts are the Ingress's; when it changes, new connections get the new ones.
	if *rt != nil && e.rtOpts == timeouts(o) {
		return *rt
	}
	if e.rtOpts != timeouts(o) {
		for _, old := range []*http.Transport{e.rt, e.fresh} {
			if old != nil {
				old.CloseIdleConnections()
			}
		}
		e.rt, e.fresh, e.rtOpts = nil, nil, timeouts(o)
	}
	connect := o.Connect
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return e.dial(ctx, connect) }
	t := &http.Transport{DialContext: dial, DialTLSContext: dial, MaxIdleConnsPerHost: maxIdle, IdleConnTimeout: idleTimeout, DisableCompression: true,
		ResponseHeaderTimeout: o.ReadIdle, Protocols: new(http.Protocols)}
	if rt == &e.fresh {
		t.MaxIdleConnsPerHost = -1 // keeps none, and doesn't tell the endpoint, as DisableKeepAlives would
	}
	switch e.proto {
	case "GRPC":
		t.Protocols.SetUnencryptedHTTP2(true)
	case "GRPCS":
		t.Protocols.SetHTTP2(true)
	default:
		t.Protocols.SetHTTP1(true)
	}
	*rt = t
	return t
}

func timeouts(o *Options) [2]time.Duration { return [2]time.Duration{o.Connect, o.ReadIdle} }
