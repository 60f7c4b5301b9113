package memnet

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// bufferSize is how far a writer may run ahead of its reader. net.Pipe has no buffer at all,
// and two peers that both write first (an HTTP server that answers early) would deadlock.
const bufferSize = 64 << 10

func pipe() (client, server net.Conn) {
	a, b := newHalf(), newHalf()
	return &conn{in: a, out: b}, &conn{in: b, out: a}
}

type conn struct {
	in, out *half
}

func (c *conn) Read(p []byte) (int, error)  { return c.in.read(p) }
func (c *conn) Write(p []byte) (int, error) { return c.out.write(p) }

func (c *conn) Close() error {
	c.in.closeRead()
	c.out.closeWrite()
	return nil
}

// CloseWrite ends the peer's reads with io.EOF once it has read everything.
func (c *conn) CloseWrite() error {
	c.out.closeWrite()
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return addr{} }
func (c *conn) RemoteAddr() net.Addr { return addr{} }

func (c *conn) SetDeadline(t time.Time) error {
	c.in.readDeadline.set(c.in, t)
	c.out.writeDeadline.set(c.out, t)
	return nil
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.readDeadline.set(c.in, t)
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.out.writeDeadline.set(c.out, t)
	return nil
}

// half is one direction: a byte queue with a bound.
type half struct {
	mu                          sync.Mutex
	cond                        *sync.Cond
	buf                         []byte
	writeClosed                 bool // no more bytes come
	readClosed                  bool // nobody reads any more
	readDeadline, writeDeadline deadline
}

func newHalf() *half {
	h := &half{}
	h.cond = sync.NewCond(&h.mu)
	return h
}

func (h *half) read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.readClosed:
			return 0, net.ErrClosed
		case h.readDeadline.passed:
			return 0, os.ErrDeadlineExceeded
		case len(h.buf) > 0:
			n := copy(p, h.buf)
			h.buf = h.buf[n:]
			h.cond.Broadcast()
			return n, nil
		case h.writeClosed:
			return 0, io.EOF
		case len(p) == 0:
			return 0, nil
		}
		h.cond.Wait()
	}
}

func (h *half) write(p []byte) (n int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.writeClosed:
			return n, net.ErrClosed
		case h.readClosed:
			return n, io.ErrClosedPipe
		case h.writeDeadline.passed:
			return n, os.ErrDeadlineExceeded
		case len(p) == 0:
			return n, nil
		case len(h.buf) < bufferSize:
			m := min(len(p), bufferSize-len(h.buf))
			h.buf = append(h.buf, p[:m]...)
			p, n = p[m:], n+m
			h.cond.Broadcast()
			continue
		}
		h.cond.Wait()
	}
}

func (h *half) closeRead() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.readClosed = true
	h.buf = nil
	h.readDeadline.stop()
	h.cond.Broadcast()
}

func (h *half) closeWrite() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.writeClosed = true
	h.writeDeadline.stop()
	h.cond.Broadcast()
}

// deadline is guarded by its half's mutex. generation outdates timers that fire late.
type deadline struct {
	timer      *time.Timer
	passed     bool
	generation int
}

func (d *deadline) stop() {
	d.generation++
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

func (d *deadline) set(h *half, t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d.stop()
	d.passed = false
	h.cond.Broadcast()
	if t.IsZero() {
		return
	}
	generation := d.generation
	wait := time.Until(t)
	if wait <= 0 {
		d.passed = true
		return
	}
	d.timer = time.AfterFunc(wait, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if d.generation == generation {
			d.passed = true
			h.cond.Broadcast()
		}
	})
}
