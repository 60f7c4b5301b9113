package raftstoretest

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Net is a network in memory with the failures of a real one. A cut loses nothing that was sent: as
// with TCP, it arrives after the cut has healed, unless somebody gave the connection up. All methods
// may be called at the same time.
type Net struct {
	mu     sync.Mutex
	hosts  map[string]*Host
	cuts   map[[2]string]bool // from, to
	healed chan struct{}      // closed at each change
	delay  time.Duration
}

// NewNet returns a network without hosts.
func NewNet() *Net {
	return &Net{hosts: map[string]*Host{}, cuts: map[[2]string]bool{}, healed: make(chan struct{})}
}

// Host is a place in the network: a raftstore.Network for one run of one member.
type Host struct {
	n        *Net
	address  string
	incoming chan *memConn
	closed   chan struct{}
	once     sync.Once

	mu    sync.Mutex
	conns map[*memConn]struct{}
}

// Host makes a host; an earlier one at the same address is gone.
func (n *Net) Host(address string) *Host {
	h := &Host{n: n, address: address, incoming: make(chan *memConn, 64), closed: make(chan struct{}), conns: map[*memConn]struct{}{}}
	n.mu.Lock()
	old := n.hosts[address]
	n.hosts[address] = h
	n.mu.Unlock()
	if old != nil {
		_ = old.Close()
	}
	return h
}

// Cut lets nothing through from one address to the other; the way back is another.
func (n *Net) Cut(from, to string) { n.set(func() { n.cuts[[2]string{from, to}] = true }) }

// Partition cuts every way between addresses of different groups. Earlier cuts heal.
func (n *Net) Partition(groups ...[]string) {
	n.set(func() {
		clear(n.cuts)
		for i, g := range groups {
			for j, other := range groups {
				for _, a := range g {
					for _, b := range other {
						if i != j {
							n.cuts[[2]string{a, b}] = true
						}
					}
				}
			}
		}
	})
}

// Isolate cuts every way to and from an address.
func (n *Net) Isolate(address string) {
	n.set(func() {
		for a := range n.hosts {
			if a != address {
				n.cuts[[2]string{a, address}] = true
				n.cuts[[2]string{address, a}] = true
			}
		}
	})
}

// Heal ends all cuts.
func (n *Net) Heal() { n.set(func() { clear(n.cuts) }) }

// Break ends every connection of an address, as a router does that has forgotten them. New ones come about.
func (n *Net) Break(address string) {
	n.mu.Lock()
	h := n.hosts[address]
	n.mu.Unlock()
	if h == nil {
		return
	}
	h.mu.Lock()
	conns := slices.Collect(maps.Keys(h.conns))
	h.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
}

// Delay makes everything that is sent from now on arrive later by d.
func (n *Net) Delay(d time.Duration) { n.set(func() { n.delay = d }) }

func (n *Net) set(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
	close(n.healed)
	n.healed = make(chan struct{})
}

// way says whether something gets from one address to the other, and what tells of a change.
func (n *Net) way(from, to string) (open bool, changed <-chan struct{}, delay time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.cuts[[2]string{from, to}], n.healed, n.delay
}

// Accept implements raftstore.Network.
func (h *Host) Accept() (net.Conn, error) {
	select {
	case c := <-h.incoming:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Dial implements raftstore.Network.
func (h *Host) Dial(ctx context.Context, address string) (net.Conn, error) {
	for {
		select {
		case <-h.closed:
			return nil, net.ErrClosed
		default:
		}
		there, changed, _ := h.n.way(h.address, address)
		back, _, _ := h.n.way(address, h.address)
		if there && back {
			break
		}
		select {
		case <-changed:
		case <-h.closed:
			return nil, net.ErrClosed
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	h.n.mu.Lock()
	other := h.n.hosts[address]
	h.n.mu.Unlock()
	if other == nil {
		return nil, connectionRefused(address)
	}
	up, down := newHalf(h.n, h.address, address), newHalf(h.n, address, h.address)
	here := &memConn{host: h, in: down, out: up, remote: address}
	far := &memConn{host: other, in: up, out: down, remote: h.address}
	if !h.add(here) || !other.add(far) {
		_ = here.Close()
		return nil, connectionRefused(address)
	}
	select {
	case other.incoming <- far:
		return here, nil
	case <-other.closed:
	case <-ctx.Done():
	}
	_ = here.Close()
	_ = far.Close()
	return nil, connectionRefused(address)
}

func connectionRefused(address string) error {
	return fmt.Errorf("dial %s: %w", address, syscall.ECONNREFUSED)
}

func (h *Host) add(c *memConn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.closed:
		return false
	default:
	}
	h.conns[c] = struct{}{}
	return true
}

// Close implements raftstore.Network. It ends every connection of the host at once, as when its
// process is killed.
func (h *Host) Close() error {
	h.once.Do(func() {
		h.mu.Lock()
		close(h.closed)
		conns := make([]*memConn, 0, len(h.conns))
		for c := range h.conns {
			conns = append(conns, c)
		}
		h.mu.Unlock()
		for _, c := range conns {
			_ = c.Close()
		}
		h.n.mu.Lock()
		if h.n.hosts[h.address] == h {
			delete(h.n.hosts, h.address)
		}
		h.n.mu.Unlock()
	})
	return nil
}

// memConn is one end of a connection.
type memConn struct {
	host    *Host
	in, out *half
	remote  string
}

type memAddr string

func (memAddr) Network() string  { return "memory" }
func (a memAddr) String() string { return string(a) }

func (c *memConn) LocalAddr() net.Addr  { return memAddr(c.host.address) }
func (c *memConn) RemoteAddr() net.Addr { return memAddr(c.remote) }

func (c *memConn) Close() error {
	c.in.close()
	c.out.close()
	c.host.mu.Lock()
	delete(c.host.conns, c)
	c.host.mu.Unlock()
	return nil
}

func (c *memConn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func (c *memConn) SetReadDeadline(t time.Time) error  { c.in.setReadBy(t); return nil }
func (c *memConn) SetWriteDeadline(t time.Time) error { c.out.setWriteBy(t); return nil }
func (c *memConn) Read(b []byte) (int, error)         { return c.in.read(b) }
func (c *memConn) Write(b []byte) (int, error)        { return c.out.write(b) }

// half carries the bytes of one direction.
type half struct {
	n        *Net
	from, to string

	mu      sync.Mutex
	cond    *sync.Cond
	chunks  []chunk
	size    int
	closed  bool
	readBy  deadline
	writeBy deadline
}

type chunk struct {
	b  []byte
	at time.Time // not to be read before; zero: at once
}

type deadline struct {
	at    time.Time
	timer *time.Timer
}

const halfBuffer = 1 << 20

func newHalf(n *Net, from, to string) *half {
	h := &half{n: n, from: from, to: to}
	h.cond = sync.NewCond(&h.mu)
	return h
}

// wakeAt wakes who waits, at the time or soon after.
func (h *half) wakeAt(d *deadline, t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d.at = t
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if !t.IsZero() && !h.closed {
		d.timer = time.AfterFunc(time.Until(t), func() {
			h.mu.Lock()
			h.cond.Broadcast()
			h.mu.Unlock()
		})
	}
	h.cond.Broadcast()
}

func (h *half) setReadBy(t time.Time)  { h.wakeAt(&h.readBy, t) }
func (h *half) setWriteBy(t time.Time) { h.wakeAt(&h.writeBy, t) }

func (d *deadline) past() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (h *half) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, d := range []*deadline{&h.readBy, &h.writeBy} {
		if d.timer != nil {
			d.timer.Stop()
		}
	}
	h.cond.Broadcast()
}

func (h *half) write(b []byte) (int, error) {
	_, _, delay := h.n.way(h.from, h.to)
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.size > halfBuffer && !h.closed && !h.writeBy.past() {
		h.cond.Wait()
	}
	switch {
	case h.closed:
		return 0, net.ErrClosed
	case h.writeBy.past():
		return 0, os.ErrDeadlineExceeded
	}
	c := chunk{b: append([]byte(nil), b...)}
	if delay > 0 {
		c.at = time.Now().Add(delay)
	}
	h.chunks = append(h.chunks, c)
	h.size += len(b)
	h.cond.Broadcast()
	return len(b), nil
}

func (h *half) read(b []byte) (int, error) {
	for {
		open, changed, _ := h.n.way(h.from, h.to)
		h.mu.Lock()
		if len(h.chunks) > 0 && open && !time.Now().Before(h.chunks[0].at) {
			n := copy(b, h.chunks[0].b)
			if h.chunks[0].b = h.chunks[0].b[n:]; len(h.chunks[0].b) == 0 {
				h.chunks[0] = chunk{}
				h.chunks = h.chunks[1:]
			}
			h.size -= n
			h.cond.Broadcast()
			h.mu.Unlock()
			return n, nil
		}
		switch {
		case h.closed && (open || len(h.chunks) == 0):
			h.mu.Unlock()
			return 0, io.EOF
		case h.readBy.past():
			h.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		}
		if len(h.chunks) == 0 {
			h.cond.Wait()
			h.mu.Unlock()
			continue
		}
		// Something is there that may not be read yet.
		at, by, closed := h.chunks[0].at, h.readBy.at, h.closed
		h.mu.Unlock()
		if closed {
			return 0, io.EOF // lost in the cut
		}
		wait := 10 * time.Millisecond
		if open {
			wait = time.Until(at)
		}
		if !by.IsZero() {
			wait = min(wait, time.Until(by))
		}
		t := time.NewTimer(max(wait, 0))
		select {
		case <-t.C:
		case <-changed:
			t.Stop()
		}
	}
}
