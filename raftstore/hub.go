package raftstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// The first byte of a connection says whose it is.
const (
	connRaft = 'R'
	connCall = 'C'
)

const (
	// helloWait is how long an accepted connection has to say whose it is.
	helloWait = 10 * time.Second
	// raftCallWait bounds each of raft's calls; a snapshot gets as much for each 256 KiB.
	raftCallWait = 5 * time.Second
)

var errHubClosed = errors.New("raftstore: the network of this member is closed")

// hub divides the Network between raft and the store's own calls, and ends every connection when the
// store stops: raft's transport leaves its own open.
type hub struct {
	net     Network
	address string

	raftConns chan net.Conn // accepted, for raft
	broke     chan struct{} // told when one of those has ended
	closed    chan struct{}
	serving   sync.WaitGroup

	mu    sync.Mutex
	ended bool
	conns map[*hubConn]struct{}
}

type hubConn struct {
	net.Conn
	h      *hub
	ofRaft bool // accepted for raft, which closes it when the other end has
}

func (c *hubConn) Close() error {
	c.h.mu.Lock()
	delete(c.h.conns, c)
	c.h.mu.Unlock()
	if c.ofRaft {
		signal(c.h.broke)
	}
	return c.Conn.Close()
}

func newHub(n Network, address string) *hub {
	return &hub{net: n, address: address, raftConns: make(chan net.Conn), broke: make(chan struct{}, 1), closed: make(chan struct{}),
		conns: map[*hubConn]struct{}{}}
}

// track owns the connection from now on; it closes it if the hub has ended.
func (h *hub) track(c net.Conn) (*hubConn, error) {
	hc := &hubConn{Conn: c, h: h}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		_ = c.Close()
		return nil, errHubClosed
	}
	h.conns[hc] = struct{}{}
	return hc, nil
}

// serve accepts until the hub is closed; call handles one connection of the store's own.
func (h *hub) serve(call func(net.Conn)) {
	defer h.serving.Wait()
	for {
		c, err := h.net.Accept()
		if err != nil {
			select {
			case <-h.closed:
				return
			case <-time.After(10 * time.Millisecond): // out of descriptors, say
				continue
			}
		}
		hc, err := h.track(c)
		if err != nil {
			return
		}
		h.serving.Go(func() { h.divide(hc, call) })
	}
}

func (h *hub) divide(c *hubConn, call func(net.Conn)) {
	var b [1]byte
	_ = c.SetReadDeadline(time.Now().Add(helloWait))
	if _, err := c.Read(b[:]); err != nil {
		_ = c.Close()
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	switch b[0] {
	case connRaft:
		c.ofRaft = true
		select {
		case h.raftConns <- c:
		case <-h.closed:
			_ = c.Close()
		}
	case connCall:
		call(c)
		_ = c.Close()
	default:
		_ = c.Close()
	}
}

func (h *hub) dial(ctx context.Context, address string, whose byte) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-h.closed:
			cancel()
		case <-stop:
		}
	}()
	c, err := h.net.Dial(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	hc, err := h.track(c)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = hc.SetWriteDeadline(deadline)
	}
	if _, err := hc.Write([]byte{whose}); err != nil {
		_ = hc.Close()
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	_ = hc.SetWriteDeadline(time.Time{})
	return hc, nil
}

// close ends every connection, and serve.
func (h *hub) close() {
	h.mu.Lock()
	if h.ended {
		h.mu.Unlock()
		return
	}
	h.ended = true
	close(h.closed)
	conns := h.conns
	h.conns = map[*hubConn]struct{}{}
	h.mu.Unlock()
	_ = h.net.Close()
	for c := range conns {
		_ = c.Conn.Close()
	}
}

// raftStream is the hub as raft's transport sees it.
type raftStream struct {
	h    *hub
	once *sync.Once
	done chan struct{}
}

func (r raftStream) Accept() (net.Conn, error) {
	select {
	case c := <-r.h.raftConns:
		return c, nil
	case <-r.done:
		return nil, errHubClosed
	}
}

func (r raftStream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return r.h.dial(ctx, string(address), connRaft)
}

// Close leaves the rest to the hub, which ends in its own time.
func (r raftStream) Close() error {
	r.once.Do(func() { close(r.done) })
	return nil
}

func (r raftStream) Addr() net.Addr { return hubAddr(r.h.address) }

type hubAddr string

func (hubAddr) Network() string  { return "raftstore" }
func (a hubAddr) String() string { return string(a) }
