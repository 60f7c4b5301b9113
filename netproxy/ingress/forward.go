package ingress

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"strings"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

// forwardFast sends the request to an endpoint and takes its answer. Another endpoint is tried
// when nothing was sent, and when no byte of an answer came to a request that may be sent twice.
func (c *Controller) forwardFast(rc *fasthttp.RequestCtx, r *route, to *target, body *fastBody, upgrade string) error {
	if strings.HasPrefix(r.opts.BackendProtocol, "GRPC") {
		return errors.New("a gRPC backend needs HTTP/2")
	}
	req := &rc.Request
	idempotent := isIdempotent(string(req.Header.Method()))
	ctx := *c.ctx.Load()
	var failed []*endpoint
	var last error = errNoEndpoint
	stale := 0
	to.end = r.backend.zero.Begin()
	defer func() {
		if !to.streams { // else with its stream
			to.end()
		}
	}()
	for {
		e := r.backend.pick(failed)
		if e == nil {
			// The state may have been swapped since: look once more, with the endpoints of now.
			if now := c.state.Load().table.match(hostOnly(string(req.Host())), string(rc.Path())); now != nil && now.backend != r.backend && now.ingress == r.ingress {
				r = now
				continue
			}
			now, err := c.await(ctx, r, hostOnly(string(req.Host())), string(rc.Path()))
			if err != nil {
				return err
			}
			if now != nil {
				r, failed = now, nil
				continue
			}
			return last
		}
		// A request that must not be sent twice doesn't gamble on a kept connection that its
		// endpoint may be closing.
		conn, err := e.conn(ctx, r.opts.Connect, upgrade != "" || stale > 1 || !idempotent)
		if err != nil {
			e.done()
			e.silence.note(err)
			failed, last = append(failed, e), err
			continue
		}
		answered, err := c.roundTrip(rc, r, e, conn, to, body, upgrade)
		e.done()
		if err == nil {
			e.silence.broken()
			return nil
		}
		conn.Close()
		e.silence.note(err)
		last = err
		if answered || body.began || errors.As(err, new(errTooLarge)) || !idempotent {
			return err
		}
		if isSilent(err) { // so are its other connections
			failed = append(failed, e)
			continue
		}
		if conn.reused { // the endpoint closed it meanwhile; that says nothing against the endpoint
			if stale++; stale > 3 {
				failed = append(failed, e)
			}
			continue
		}
		if isTimeout(err) {
			return err
		}
		failed = append(failed, e)
	}
}

// isIdempotent says whether a request with this method may be sent twice.
func isIdempotent(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}

// isTimeout says whether somebody took longer than was allowed. A kernel's ETIMEDOUT isn't that: see isSilent.
func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout() && !errors.Is(err, syscall.ETIMEDOUT)
}

// roundTrip is one attempt. answered says that a byte of an answer came.
func (c *Controller) roundTrip(rc *fasthttp.RequestCtx, r *route, e *endpoint, conn *upConn, to *target, body *fastBody, upgrade string) (answered bool, err error) {
	o := &r.opts
	conn.armRead(time.Now(), o.ReadIdle)
	writeHead(conn.bw, &rc.Request, to, body, upgrade)
	to.client.await(conn)
	streaming := false
	defer func() {
		if !streaming {
			to.client.await(nil)
		}
	}()
	werr := body.write(conn, o)
	if werr != nil && (errors.As(werr, new(errTooLarge)) || errors.As(werr, new(*clientError))) {
		return false, werr
	}
	if body.began {
		conn.armRead(time.Now(), o.ReadIdle)
	}
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
		if upgrade == "" {
			return true, errors.New("endpoint switched protocols unasked")
		}
		head := append([]byte(nil), resp.Header.Header()...)
		rc.HijackSetNoResponse(true)
		conns := c.fast.Load()
		conns.wg.Add(1) // while the request's own goroutine still counts
		to.streams = true
		end := to.end
		rc.Hijack(func(client net.Conn) {
			defer end()
			defer conns.wg.Done()
			splice(*c.ctx.Load(), client, conn, head)
		})
		conn.SetDeadline(time.Time{}) //nolint:errcheck // a broken connection shows when it is read
		return true, nil
	}
	keep := !resp.Header.ConnectionClose() && werr == nil
	dropHop(&resp.Header)
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
			src = &chunked{br: conn.br, r: httputil.NewChunkedReader(conn.br), h: &resp.Header}
		default:
			src, keep = conn.br, false
		}
		resp.ImmediateHeaderFlush = true
		streaming, to.streams = true, true
		resp.SetBodyStream(&streamBody{src: src, conn: conn, e: e, client: to.client, keep: keep, o: o, left: n, end: to.end}, max(n, -1))
		return true, nil
	}
	to.client.await(nil)
	if keep {
		e.keep(conn)
	} else {
		conn.Close()
	}
	return true, nil
}
