package ingress

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
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
	client := trackedOf(rc.Conn())
	client.enter(phaseHandling)
	if why := strict(&req.Header); why != "" {
		rc.Error(why+"\n", fasthttp.StatusBadRequest)
		rc.SetConnectionClose()
		return
	}
	host, path := hostOnly(string(req.Host())), string(rc.Path())
	r := c.state.Load().table.match(host, path)
	if r == nil {
		rc.Error("no Ingress serves this host and path\n", fasthttp.StatusNotFound)
		return
	}
	header := func(k string) string { return string(req.Header.Peek(k)) }
	if to, code := c.redirect(r, rc.IsTLS(), host, req.Header.RequestURI()); to != "" {
		rc.Response.Header.Set("Location", to)
		rc.SetStatusCode(code)
		return
	}
	r = r.choose(header, func(k string) string { return string(req.Header.Cookie(k)) })
	limit := r.opts.BodySize
	if limit < 0 {
		limit = c.cfg.MaxBody
	}
	if limit > 0 && int64(req.Header.ContentLength()) > limit {
		linger(rc.Conn(), req.BodyStream())
		rc.Error("Request Entity Too Large\n", fasthttp.StatusRequestEntityTooLarge)
		rc.SetConnectionClose()
		return
	}
	upgrade := ""
	if req.Header.ConnectionUpgrade() {
		// Over HTTP/2 in the clear a client would reach paths that were never matched.
		if upgrade = header("Upgrade"); strings.Contains(strings.ToLower(upgrade), "h2c") {
			upgrade = ""
		}
	}
	to := target{client: client, uri: req.Header.RequestURI(), host: req.Header.Host()}
	if path, changed := r.rewrite(path); changed {
		to.uri = []byte((&urlPath{path}).escaped())
		if q := rc.URI().QueryString(); len(q) > 0 {
			to.uri = append(append(to.uri, '?'), q...)
		}
	} else if len(to.uri) > 0 && to.uri[0] != '/' { // an absolute URI
		to.uri, to.host = rc.URI().RequestURI(), req.Host()
	}
	body := fastBody{length: req.Header.ContentLength(), req: req, client: rc.Conn()}
	if req.IsBodyStream() {
		if body.length >= 0 && body.length <= prefetch {
			body.client.SetReadDeadline(time.Now().Add(clientIdle)) //nolint:errcheck // a client that is gone shows in the read
			b, err := io.ReadAll(req.BodyStream())
			body.client.SetReadDeadline(time.Time{}) //nolint:errcheck // see above
			if err != nil || len(b) < body.length {
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
	err := c.forwardFast(rc, r, &to, &body, upgrade)
	if c.closed.Load() {
		rc.SetConnectionClose()
	}
	if err == nil {
		return
	}
	code := fasthttp.StatusBadGateway
	switch {
	case errors.Is(err, errNoEndpoint):
		code = fasthttp.StatusServiceUnavailable
	case errors.As(err, new(*clientError)):
		if code = fasthttp.StatusBadRequest; isTimeout(err) {
			code = fasthttp.StatusRequestTimeout
		}
	case errors.As(err, new(errTooLarge)):
		code = fasthttp.StatusRequestEntityTooLarge
	case isTimeout(err):
		code = fasthttp.StatusGatewayTimeout
	}
	c.log.Debug("ingress request failed", "ingress", r.ingress.String(), "err", err)
	rc.Response.Reset()
	rc.Error(cmp.Or(held(err), fasthttp.StatusMessage(code))+"\n", code)
	if c.closed.Load() {
		rc.SetConnectionClose()
	}
	if body.stream != nil {
		linger(body.client, body.stream)
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
func (c *Controller) redirect(r *route, isTLS bool, host string, requestURI []byte) (string, int) {
	if r.opts.Redirect == "" && (isTLS || !r.tls && !r.opts.ForceSSL) { // most
		return "", 0
	}
	uri := string(requestURI)
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
