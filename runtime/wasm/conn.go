package wasm

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// maxBuffered is how many bytes lie between the guest and a connection, each way.
const maxBuffered = 64 << 10

// guestConn is a connection as the guest sees it: nonblocking, with readiness. One goroutine reads
// ahead and one writes behind, so the guest never waits on the network inside a call.
type guestConn struct {
	conn net.Conn
	wake func() // tells the guest's poll to look again

	mu        sync.Mutex // guards all below
	change    sync.Cond  // the buffers' or flags' change, for the two goroutines
	in, out   []byte
	inErr     error // what the guest gets once in is empty; io.EOF is an end
	outErr    error
	shutWrite bool
	closed    bool // by the guest: out is flushed first
	nonblock  bool
	asked     bool // the guest has read something
	answered  bool // the guest's last act was to write, or it has not been asked yet
	last      time.Time
}

func newGuestConn(conn net.Conn, wake func()) *guestConn {
	c := &guestConn{conn: conn, wake: wake, answered: true, last: time.Now()}
	c.change.L = &c.mu
	return c
}

// serve runs both goroutines' work and returns when the connection has ended both ways.
func (c *guestConn) serve() {
	var wg sync.WaitGroup
	wg.Go(c.readAhead)
	wg.Go(c.writeBehind)
	wg.Wait()
	_ = c.conn.Close()
}

func (c *guestConn) readAhead() {
	buf := make([]byte, 16<<10)
	for {
		n, err := c.conn.Read(buf)
		c.mu.Lock()
		if n > 0 {
			c.in = append(c.in, buf[:n]...)
			c.last = time.Now()
		}
		if err != nil {
			c.inErr = err
		}
		for len(c.in) >= maxBuffered && !c.closed {
			c.wake()
			c.change.Wait()
		}
		stop := err != nil || c.closed
		c.mu.Unlock()
		c.wake()
		if stop {
			return
		}
	}
}

func (c *guestConn) writeBehind() {
	defer func() {
		c.mu.Lock()
		closed := c.closed
		c.mu.Unlock()
		if closed {
			_ = c.conn.Close() // ends readAhead
		}
	}()
	for {
		c.mu.Lock()
		for len(c.out) == 0 && !c.closed && !c.shutWrite && c.outErr == nil {
			c.change.Wait()
		}
		if len(c.out) == 0 || c.outErr != nil {
			half, closed := c.shutWrite, c.closed
			c.mu.Unlock()
			if !closed && half {
				if t, ok := c.conn.(interface{ CloseWrite() error }); ok {
					_ = t.CloseWrite()
				}
				c.mu.Lock()
				for !c.closed {
					c.change.Wait()
				}
				c.mu.Unlock()
			} else if !closed { // outErr: wait for the guest to notice and close
				c.mu.Lock()
				for !c.closed {
					c.change.Wait()
				}
				c.mu.Unlock()
			}
			return
		}
		data := c.out
		c.mu.Unlock()
		n, err := c.conn.Write(data)
		c.mu.Lock()
		c.out = c.out[n:]
		c.last = time.Now()
		if err != nil {
			c.outErr, c.out = err, nil
		}
		c.mu.Unlock()
		c.wake()
	}
}

// read returns errAgain when nothing is there yet.
func (c *guestConn) read(p []byte, peek bool) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.in) == 0 {
		if c.inErr == nil {
			return 0, errAgain
		}
		return 0, c.inErr
	}
	n := copy(p, c.in)
	if !peek {
		if c.in = c.in[n:]; len(c.in) == 0 {
			c.in = nil
		}
		c.asked, c.answered, c.last = true, false, time.Now()
		c.change.Broadcast()
	}
	return n, nil
}

func (c *guestConn) write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed, c.shutWrite:
		return 0, net.ErrClosed
	case c.outErr != nil:
		return 0, c.outErr
	case len(c.out) >= maxBuffered:
		return 0, errAgain
	}
	n := min(len(p), maxBuffered-len(c.out))
	c.out = append(c.out, p[:n]...)
	c.answered, c.last = true, time.Now()
	c.change.Broadcast()
	return n, nil
}

func (c *guestConn) readable() (n int, ready bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.in), len(c.in) > 0 || c.inErr != nil
}

func (c *guestConn) writable() (n int, ready bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maxBuffered - len(c.out), len(c.out) < maxBuffered || c.outErr != nil
}

func (c *guestConn) shutdown(read, write bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if read {
		c.in, c.inErr = nil, io.EOF
	}
	if write {
		c.shutWrite = true
	}
	c.change.Broadcast()
}

// close lets what is written go out, then closes. With kill nothing more goes out.
func (c *guestConn) close(kill bool) {
	c.mu.Lock()
	c.closed = true
	flushing := len(c.out) > 0 && !kill
	c.change.Broadcast()
	c.mu.Unlock()
	if kill {
		_ = c.conn.Close()
	} else if !flushing {
		_ = c.conn.SetReadDeadline(time.Now()) // ends readAhead; writeBehind closes
	}
}

// idle says whether nothing is in flight: all that came was read and answered, and the answer went
// out at least quiet ago. One that has not asked anything yet is given longer, unless it has ended.
func (c *guestConn) idle(now time.Time, quiet time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return len(c.out) == 0 || c.outErr != nil
	}
	if !c.asked && c.inErr == nil && quiet > 0 {
		quiet = askQuiet
	}
	return errors.Is(c.inErr, net.ErrClosed) || c.answered && len(c.in) == 0 && len(c.out) == 0 && now.Sub(c.last) >= quiet
}
