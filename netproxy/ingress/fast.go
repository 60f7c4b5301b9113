package ingress

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
)

const (
	maxHeader = 32 << 10 // bytes of a request's header
	prefetch  = 64 << 10 // request bodies up to this are buffered, and so can be sent again
	smallBody = 64 << 10 // response bodies up to this are buffered
)

// hopHeaders concern one connection only.
func hopHeaders() [8]string {
	return [8]string{"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Transfer-Encoding", "Upgrade"}
}

// errTooLarge: the body is over its limit.
type errTooLarge struct{}

func (errTooLarge) Error() string { return "request body too large" }

// serveFast answers one HTTP/1.1 request.
func (c *Controller) serveFast(rc *fasthttp.RequestCtx) {
	defer func() {
		if r := recover(); r != nil {
			c.log.Error("panic in ingress", "panic", r)
			rc.Response.Reset()
			rc.Error("Internal Server Error", fasthttp.StatusInternalServerError)
			rc.SetConnectionClose()
		}
	}()
	req := &rc.Request
	host, path := hostOnly(string(req.Host())), string(rc.Path())
	r := c.state.Load().table.match(host, path)
	if r == nil {
		rc.Error("no Ingress serves this host and path\n", fasthttp.StatusNotFound)
		return
	}
	header := func(k string) string { return string(req.Header.Peek(k)) }
	if to, code := c.redirect(r, rc.IsTLS(), host, string(req.RequestURI())); to != "" {
		rc.Response.Header.Set("Location", to)
		rc.SetStatusCode(code)
		return
	}
	r = r.choose(header)
	limit := r.opts.BodySize
	if limit < 0 {
		limit = c.cfg.MaxBody
	}
	if limit > 0 && int64(req.Header.ContentLength()) > limit {
		rc.Error("Request Entity Too Large\n", fasthttp.StatusRequestEntityTooLarge)
		rc.SetConnectionClose()
		return
	}
	upgrade := ""
	if req.Header.ConnectionUpgrade() {
		upgrade = header("Upgrade")
	}
	raw := append([]byte(nil), req.RequestURI()...)
	if to, changed := r.rewrite(path); changed {
		raw = append(raw[:0], (&urlPath{to}).escaped()...)
		if q := rc.URI().QueryString(); len(q) > 0 {
			raw = append(append(raw, '?'), q...)
		}
	} else if len(raw) > 0 && raw[0] != '/' { // an absolute URI
		raw = append([]byte(nil), rc.URI().RequestURI()...)
	}
	origHost := append([]byte(nil), req.Host()...)
	for _, h := range bytes.Split(req.Header.Peek("Connection"), []byte(",")) {
		if h = bytes.TrimSpace(h); len(h) > 0 && !bytes.EqualFold(h, []byte("upgrade")) && !bytes.EqualFold(h, []byte("close")) && !bytes.EqualFold(h, []byte("keep-alive")) {
			req.Header.DelBytes(h)
		}
	}
	wantsClose := req.Header.ConnectionClose()
	for _, h := range hopHeaders() {
		if h != "Transfer-Encoding" {
			req.Header.Del(h)
		}
	}
	req.Header.ResetConnectionClose()
	req.Header.SetRequestURIBytes(raw)
	req.Header.SetHostBytes(origHost)
	req.Header.SetProtocol("HTTP/1.1")
	ip := rc.RemoteIP().String()
	proto, port := "http", "80"
	if rc.IsTLS() {
		proto, port = "https", "443"
	}
	if a, ok := rc.LocalAddr().(*net.TCPAddr); ok {
		port = strconv.Itoa(a.Port)
	}
	req.Header.Set("X-Forwarded-For", ip)
	req.Header.Set("X-Real-Ip", ip)
	req.Header.SetBytesV("X-Forwarded-Host", origHost)
	req.Header.Set("X-Forwarded-Proto", proto)
	req.Header.Set("X-Forwarded-Port", port)
	if upgrade != "" {
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", upgrade)
	}

	body := fastBody{length: req.Header.ContentLength()}
	if req.IsBodyStream() {
		if body.length >= 0 && body.length <= prefetch {
			b, err := io.ReadAll(req.BodyStream())
			if err != nil {
				rc.Error("Bad Request\n", fasthttp.StatusBadRequest)
				rc.SetConnectionClose()
				return
			}
			body.buf = b
		} else {
			body.stream, body.limit = req.BodyStream(), limit
		}
	} else {
		body.buf = req.Body()
	}
	err := c.forwardFast(rc, r, &body, upgrade != "")
	if wantsClose || c.closed.Load() {
		rc.SetConnectionClose()
	}
	if err == nil {
		return
	}
	code := fasthttp.StatusBadGateway
	var ne net.Error
	switch {
	case errors.Is(err, errNoEndpoint):
		code = fasthttp.StatusServiceUnavailable
	case errors.As(err, new(errTooLarge)):
		code = fasthttp.StatusRequestEntityTooLarge
	case errors.As(err, &ne) && ne.Timeout():
		code = fasthttp.StatusGatewayTimeout
	}
	c.log.Debug("ingress request failed", "ingress", r.ingress.String(), "err", err)
	rc.Response.Reset()
	rc.Error(fasthttp.StatusMessage(code)+"\n", code)
	if body.stream != nil {
		rc.SetConnectionClose()
	}
}

type urlPath struct{ p string }

// escaped returns the path with what can't stand in a request line escaped.
func (u *urlPath) escaped() string {
	var b strings.Builder
	for i := 0; i < len(u.p); i++ {
		if ch := u.p[i]; ch <= ' ' || ch >= 0x7f || ch == '?' || ch == '#' || ch == '%' {
			fmt.Fprintf(&b, "%%%02X", ch)
		} else {
			b.WriteByte(ch)
		}
	}
	return b.String()
}

// redirect returns where a request is sent instead, if it is.
func (c *Controller) redirect(r *route, isTLS bool, host, uri string) (string, int) {
	if !isTLS && len(c.cfg.HTTPS) > 0 && (r.opts.ForceSSL || r.tls && r.opts.SSLRedirect) {
		if c.cfg.HTTPSPort != 443 {
			host = net.JoinHostPort(host, strconv.Itoa(c.cfg.HTTPSPort))
		}
		if !strings.HasPrefix(uri, "/") {
			uri = "/"
		}
		return "https://" + host + uri, fasthttp.StatusPermanentRedirect
	}
	return r.opts.Redirect, r.opts.RedirectCode
}

// fastBody is a request's body: buffered, or a stream that is read once.
type fastBody struct {
	buf    []byte
	stream io.Reader
	length int
	limit  int64
	began  bool
}

func (b *fastBody) write(c *upConn, o *Options) error {
	if b.stream == nil {
		c.SetWriteDeadline(time.Now().Add(o.SendIdle))
		if _, err := c.bw.Write(b.buf); err != nil {
			return err
		}
		return c.bw.Flush()
	}
	b.began = true
	buf := make([]byte, 32<<10)
	var total int64
	for {
		n, err := b.stream.Read(buf)
		total += int64(n)
		if b.limit > 0 && total > b.limit {
			return errTooLarge{}
		}
		c.SetWriteDeadline(time.Now().Add(o.SendIdle))
		if n > 0 && b.length < 0 {
			fmt.Fprintf(c.bw, "%x\r\n", n)
		}
		c.bw.Write(buf[:n])
		if n > 0 && b.length < 0 {
			c.bw.WriteString("\r\n")
		}
		if err == io.EOF {
			if b.length < 0 {
				c.bw.WriteString("0\r\n\r\n")
			}
			return c.bw.Flush()
		}
		if err != nil {
			return fmt.Errorf("read request body: %w", err)
		}
		if err := c.bw.Flush(); err != nil {
			return err
		}
	}
}

// forwardFast sends the request to an endpoint and takes its answer. Another endpoint is tried
// when nothing was sent, and when no byte of an answer came to a request that may be sent twice.
func (c *Controller) forwardFast(rc *fasthttp.RequestCtx, r *route, body *fastBody, upgrade bool) error {
	if strings.HasPrefix(r.opts.BackendProtocol, "GRPC") {
		return errors.New("a gRPC backend needs HTTP/2")
	}
	req := &rc.Request
	idempotent := false
	switch string(req.Header.Method()) {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		idempotent = true
	}
	ctx := *c.ctx.Load()
	var failed []*endpoint
	var last error = errNoEndpoint
	stale := 0
	for {
		e := r.backend.pick(failed)
		if e == nil {
			// The state may have been swapped since: look once more, with the endpoints of now.
			if now := c.state.Load().table.match(hostOnly(string(req.Host())), string(rc.Path())); now != nil && now.backend != r.backend && now.ingress == r.ingress {
				r = now
				continue
			}
			return last
		}
		// A request that must not be sent twice doesn't gamble on a kept connection that its
		// endpoint may be closing.
		conn, err := e.conn(ctx, r.opts.Connect, upgrade || stale > 1 || !idempotent)
		if err != nil {
			e.done()
			failed, last = append(failed, e), err
			continue
		}
		answered, err := c.roundTrip(rc, r, e, conn, body, upgrade)
		e.done()
		if err == nil {
			return nil
		}
		conn.Close()
		last = err
		if answered || body.began || errors.As(err, new(errTooLarge)) || !idempotent {
			return err
		}
		if conn.reused { // the endpoint closed it meanwhile; that says nothing against the endpoint
			if stale++; stale > 3 {
				failed = append(failed, e)
			}
			continue
		}
		var ne net.Error
		if errors.As(err, &ne) && ne.Timeout() {
			return err
		}
		failed = append(failed, e)
	}
}

// roundTrip is one attempt. answered says that a byte of an answer came.
func (c *Controller) roundTrip(rc *fasthttp.RequestCtx, r *route, e *endpoint, conn *upConn, body *fastBody, upgrade bool) (answered bool, err error) {
	o := &r.opts
	conn.SetWriteDeadline(time.Now().Add(o.SendIdle))
	if err := rc.Request.Header.Write(conn.bw); err != nil {
		return false, err
	}
	werr := body.write(conn, o)
	if werr != nil && errors.As(werr, new(errTooLarge)) {
		return false, werr
	}
	conn.SetReadDeadline(time.Now().Add(o.ReadIdle))
	if _, err := conn.br.Peek(1); err != nil { // an endpoint may answer before it has read everything
		if werr != nil {
			err = werr
		}
		return false, fmt.Errorf("await answer: %w", err)
	}
	resp := &rc.Response
	for {
		if err := resp.Header.Read(conn.br); err != nil {
			return true, fmt.Errorf("read answer: %w", err)
		}
		if s := resp.Header.StatusCode(); s >= 200 || s == 101 {
			break
		}
	}
	if resp.Header.StatusCode() == fasthttp.StatusSwitchingProtocols {
		if !upgrade {
			return true, errors.New("endpoint switched protocols unasked")
		}
		head := append([]byte(nil), resp.Header.Header()...)
		rc.HijackSetNoResponse(true)
		conns := c.fast.Load()
		conns.wg.Add(1) // while the request's own goroutine still counts
		rc.Hijack(func(client net.Conn) {
			defer conns.wg.Done()
			splice(*c.ctx.Load(), client, conn, head)
		})
		conn.SetDeadline(time.Time{})
		return true, nil
	}
	keep := !resp.Header.ConnectionClose() && werr == nil
	for _, h := range bytes.Split(resp.Header.Peek("Connection"), []byte(",")) {
		if h = bytes.TrimSpace(h); len(h) > 0 && !bytes.EqualFold(h, []byte("close")) && !bytes.EqualFold(h, []byte("keep-alive")) {
			resp.Header.DelBytes(h)
		}
	}
	for _, h := range hopHeaders() {
		if h != "Transfer-Encoding" {
			resp.Header.Del(h)
		}
	}
	resp.Header.ResetConnectionClose()
	n := resp.Header.ContentLength()
	status := resp.Header.StatusCode()
	switch {
	case rc.IsHead() || status == 204 || status == 304:
		resp.SkipBody = true
	case n >= 0 && n <= smallBody:
		if err := resp.ReadBody(conn.br, 0); err != nil {
			return true, fmt.Errorf("read answer's body: %w", err)
		}
	default:
		var src io.Reader
		switch {
		case n >= 0:
			src = io.LimitReader(conn.br, int64(n))
		case n == -1:
			src = &chunked{br: conn.br, r: httputil.NewChunkedReader(conn.br)}
		default:
			src, keep = conn.br, false
		}
		resp.ImmediateHeaderFlush = true
		resp.SetBodyStream(&streamBody{src: src, conn: conn, e: e, keep: keep, idle: o.ReadIdle, left: n}, max(n, -1))
		return true, nil
	}
	if keep {
		e.keep(conn)
	} else {
		conn.Close()
	}
	return true, nil
}

// chunked reads to the end of the trailer too, so that the connection can be kept.
type chunked struct {
	br   *bufio.Reader
	r    io.Reader
	done bool
}

func (c *chunked) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if err == io.EOF && !c.done {
		c.done = true
		for {
			line, lerr := c.br.ReadSlice('\n')
			if lerr != nil {
				return n, lerr
			}
			if len(bytes.TrimSpace(line)) == 0 {
				break
			}
		}
	}
	return n, err
}

// streamBody gives an answer's body through as it comes, and the connection back at its end.
type streamBody struct {
	src   io.Reader
	conn  *upConn
	e     *endpoint
	keep  bool
	ended bool
	idle  time.Duration
	left  int
}

func (s *streamBody) Read(p []byte) (int, error) {
	s.conn.SetReadDeadline(time.Now().Add(s.idle))
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
	if s.ended && s.keep {
		s.e.keep(s.conn)
		return nil
	}
	return s.conn.Close()
}

// splice joins a client that switched protocols with its endpoint until both ends have ended.
func splice(ctx context.Context, client net.Conn, up *upConn, head []byte) {
	stop := context.AfterFunc(ctx, func() { client.Close(); up.Close() })
	defer stop()
	defer up.Close()
	if _, err := client.Write(head); err != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(up.Conn, client)
		if cw, ok := up.Conn.(interface{ CloseWrite() error }); ok {
			cw.CloseWrite()
		} else {
			up.Close()
		}
	}()
	io.Copy(client, up.br)
	client.Close()
	up.Close()
	<-done
}
