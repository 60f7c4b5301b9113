package ingress

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/valyala/fasthttp"
)

// clientIdle is how long a client may pause in its request.
const clientIdle = 60 * time.Second

// errTooLarge: the body is over its limit.
type errTooLarge struct{}

func (errTooLarge) Error() string { return "request body too large" }

// clientError is trouble with reading from the client.
type clientError struct{ err error }

func (c *clientError) Error() string { return c.err.Error() }
func (c *clientError) Unwrap() error { return c.err }

// fastBody is a request's body: buffered, or a stream that is read once.
type fastBody struct {
	buf    []byte
	stream io.Reader
	req    *fasthttp.Request
	client net.Conn
	length int // -1: chunked
	limit  int64
	began  bool
}

// write sends what is in c's buffer, the head, and the body.
func (b *fastBody) write(c *upConn, o *Options) error {
	c.armWrite(time.Now(), o.SendIdle)
	if b.stream == nil {
		if _, err := c.bw.Write(b.buf); err != nil {
			return err
		}
		return c.bw.Flush()
	}
	b.began = true
	if err := c.bw.Flush(); err != nil {
		return err
	}
	defer b.client.SetReadDeadline(time.Time{}) //nolint:errcheck // a client that is gone shows elsewhere
	buf := make([]byte, 32<<10)
	var total int64
	for {
		now := time.Now()
		b.client.SetReadDeadline(now.Add(clientIdle)) //nolint:errcheck // see above
		n, err := b.stream.Read(buf)
		total += int64(n)
		if b.limit > 0 && total > b.limit {
			return errTooLarge{}
		}
		c.armWrite(time.Now(), o.SendIdle)
		if n > 0 && b.length < 0 {
			fmt.Fprintf(c.bw, "%x\r\n", n)
		}
		c.bw.Write(buf[:n])
		if n > 0 && b.length < 0 {
			c.bw.WriteString("\r\n")
		}
		if err == io.EOF {
			if b.length < 0 {
				c.bw.WriteString("0\r\n")
				c.bw.Write(b.req.Header.TrailerHeader()) // ends with the empty line
			}
			return c.bw.Flush()
		}
		if err != nil {
			return &clientError{fmt.Errorf("read request body: %w", err)}
		}
		if err := c.bw.Flush(); err != nil {
			return err
		}
	}
}

// chunked reads to the end of the trailer too, so that the connection can be kept, and hands the
// trailer on.
type chunked struct {
	br   *bufio.Reader
	r    io.Reader
	h    *fasthttp.ResponseHeader
	done bool
}

func (c *chunked) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if err == io.EOF && !c.done {
		if terr := c.h.ReadTrailer(c.br); terr != nil && terr != io.EOF {
			return n, terr
		}
		c.done = true
	}
	return n, err
}

// streamBody gives an answer's body through as it comes, and the connection back at its end.
type streamBody struct {
	src    io.Reader
	conn   *upConn
	e      *endpoint
	client *tracked
	keep   bool
	ended  bool
	o      *Options
	left   int
	end    func() // its request is no longer open
}

func (s *streamBody) Read(p []byte) (int, error) {
	now := time.Now()
	s.conn.armRead(now, s.o.ReadIdle)
	s.client.armWrite(now, s.o.SendIdle+s.o.ReadIdle) // from one piece to the next
	n, err := s.src.Read(p)
	if s.left > 0 {
		if s.left -= n; s.left == 0 {
			s.ended = true
		}
	}
	if err == io.EOF {
		if s.left > 0 {
			return n, io.ErrUnexpectedEOF
		}
		s.ended = true
	}
	return n, err
}

func (s *streamBody) Close() error {
	defer s.end()
	s.client.await(nil)
	s.client.disarmWrite()
	if s.ended && s.keep {
		s.e.keep(s.conn)
		return nil
	}
	return s.conn.Close()
}
