package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

// The protocols of the one port, as clients name them in the TLS handshake. The API has HTTP's own, and
// a client that names none gets it too.
const (
	ProtocolRaft = "pintle-raft/1"
	ProtocolJoin = "pintle-join/1"
	ProtocolNode = "pintle-node/1"
)

// apiProtocols are HTTP's.
var apiProtocols = []string{"h2", "http/1.1"}

// handshakeTimeout bounds how long a stranger may hold a connection without having said anything.
const handshakeTimeout = 10 * time.Second

// Port shares one listener out by protocol. Take the listeners with API and Listen, then Run it. Methods
// are safe for concurrent use; Run is called once.
type Port struct {
	listener net.Listener
	config   *tls.Config
	log      *slog.Logger

	// mu guards what follows.
	mu      sync.Mutex
	queues  map[string]*queue
	pending map[net.Conn]struct{} // in the handshake
	none    chan struct{}         // for Drain: closed once nothing is pending
	drained bool                  // the listener is closed, and what came before goes on
	closed  bool
}

// NewPort makes a Port. config chooses the certificates; its NextProtos are replaced. It starts nothing
// and owns listener from then on: Run closes it.
func NewPort(listener net.Listener, config *tls.Config, log *slog.Logger) *Port {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	p := &Port{listener: listener, config: config.Clone(), log: log,
		queues: map[string]*queue{}, pending: map[net.Conn]struct{}{}}
	p.config.NextProtos = nil
	return p
}

// API is the listener of the API's connections. They are *tls.Conn whose handshake is done.
func (p *Port) API() net.Listener { return p.listen(apiProtocols...) }

// Listen is the listener of one protocol's connections, *tls.Conn whose handshake is done. A protocol
// that nobody listens for is refused in the handshake.
func (p *Port) Listen(protocol string) net.Listener { return p.listen(protocol) }

func (p *Port) listen(protocols ...string) net.Listener {
	q := &queue{addr: p.listener.Addr(), conns: make(chan net.Conn), done: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	config := p.config.Clone() // handshakes read the old one
	for _, protocol := range protocols {
		p.queues[protocol] = q
		config.NextProtos = append(config.NextProtos, protocol)
	}
	p.config = config
	if p.closed {
		q.Close()
	}
	return q
}

// Addr is the port's address.
func (p *Port) Addr() net.Addr { return p.listener.Addr() }

// Run accepts until ctx ends, and returns once nothing of it goes on. Connections that were handed over are
// their takers'.
func (p *Port) Run(ctx context.Context) error {
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { defer close(closed); p.close() })
	defer func() {
		p.close()
		if !stop() {
			<-closed // whoever closes last gives the port back, and that may be there
		}
	}()
	var handshakes sync.WaitGroup
	defer handshakes.Wait()
	for {
		conn, err := p.listener.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case err != nil && p.draining():
			<-ctx.Done()
			return nil
		case err == nil:
			handshakes.Go(func() { p.welcome(ctx, conn) })
		case temporary(err):
			// Out of file descriptors, most likely: others end, so it is no reason to end the cluster.
			p.log.Warn("a connection could not be accepted", "error", err)
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
			}
		default:
			return fmt.Errorf("accept on %s: %w", p.listener.Addr(), err)
		}
	}
}

// Drain closes the listener, so that who connects from now on is refused and goes to another member, and returns
// once the handshakes under way have ended or ctx has. Connections, and the listeners of the protocols, go on.
func (p *Port) Drain(ctx context.Context) {
	p.mu.Lock()
	p.drained = true
	none := make(chan struct{})
	if p.none = none; len(p.pending) == 0 {
		close(none)
		p.none = nil
	}
	p.mu.Unlock()
	_ = p.listener.Close()
	select {
	case <-none:
	case <-ctx.Done():
	}
}

func (p *Port) draining() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.drained
}

// temporary is the judgement of net/http on an Accept that failed.
func temporary(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Temporary() //nolint:staticcheck // nothing else tells EMFILE from a closed listener
}

// welcome does the handshake and hands the connection over.
func (p *Port) welcome(ctx context.Context, raw net.Conn) {
	if !p.note(raw) {
		_ = raw.Close()
		return
	}
	defer p.forget(raw)
	p.mu.Lock()
	config := p.config
	p.mu.Unlock()
	conn := tls.Server(raw, config)
	handshake, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if err := conn.HandshakeContext(handshake); err != nil {
		p.log.Debug("TLS handshake failed", "from", raw.RemoteAddr().String(), "error", err)
		_ = raw.Close()
		return
	}
	protocol := conn.ConnectionState().NegotiatedProtocol
	if protocol == "" {
		protocol = "http/1.1" // curl without ALPN
	}
	p.mu.Lock()
	q := p.queues[protocol]
	p.mu.Unlock()
	if q == nil || !q.put(conn) {
		_ = raw.Close()
	}
}

func (p *Port) note(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.pending[conn] = struct{}{}
	return true
}

func (p *Port) forget(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.pending, conn)
	if p.none != nil && len(p.pending) == 0 {
		close(p.none)
		p.none = nil
	}
}

// close ends Accept, the handshakes under way and the listeners.
func (p *Port) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, q := range p.queues {
		_ = q.Close()
	}
}

// queue is a listener that is fed by a Port.
type queue struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

// put waits until somebody accepts: the backlog of one protocol is its own.
func (q *queue) put(conn net.Conn) bool {
	select {
	case q.conns <- conn:
		return true
	case <-q.done:
		return false
	}
}

func (q *queue) Accept() (net.Conn, error) {
	select {
	case conn := <-q.conns:
		return conn, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

func (q *queue) Close() error {
	q.once.Do(func() { close(q.done) })
	return nil
}

func (q *queue) Addr() net.Addr { return q.addr }
