package ingress

import (
	"cmp"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"

	"github.com/valyala/fasthttp"
)

// serveSlow answers HTTP/2 requests, gRPC among them.
func (c *Controller) serveSlow(w http.ResponseWriter, req *http.Request) {
	host, path := hostOnly(req.Host), cleanPath(req.URL)
	r := c.state.Load().table.match(host, path)
	if r == nil {
		http.Error(w, "no Ingress serves this host and path", http.StatusNotFound)
		return
	}
	if to, code := c.redirect(r, req.TLS != nil, host, []byte(req.URL.RequestURI())); to != "" {
		w.Header().Set("Location", to)
		w.WriteHeader(code)
		return
	}
	r = r.choose(req.Header.Get, func(k string) string {
		if ck, err := req.Cookie(k); err == nil {
			return ck.Value
		}
		return ""
	})
	limit := r.opts.BodySize
	if limit < 0 {
		limit = c.cfg.MaxBody
	}
	if limit > 0 {
		if req.ContentLength > limit {
			http.Error(w, http.StatusText(http.StatusRequestEntityTooLarge), http.StatusRequestEntityTooLarge)
			return
		}
		req.Body = http.MaxBytesReader(w, req.Body, limit)
	}
	proxy := httputil.ReverseProxy{
		FlushInterval: -1,
		ErrorLog:      slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
		Transport:     &slowTransport{c: c, r: r, host: host, path: path},
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host = "http", "endpoint"
			if r.opts.BackendProtocol == "HTTPS" || r.opts.BackendProtocol == "GRPCS" {
				p.Out.URL.Scheme = "https"
			}
			if to, changed := r.rewrite(path); changed {
				p.Out.URL.Path, p.Out.URL.RawPath = to, ""
			}
			p.Out.Host = p.In.Host
			te := p.Out.Header.Get("Te") // ReverseProxy leaves "trailers", which gRPC wants
			for k := range p.Out.Header {
				if ours(k) || disguised([]byte(k)) {
					delete(p.Out.Header, k)
				}
			}
			if te != "" {
				p.Out.Header.Set("Te", te)
			}
			p.SetXForwarded()
			ip, _, _ := net.SplitHostPort(p.In.RemoteAddr)
			p.Out.Header.Set("X-Real-Ip", ip)
			port := "443"
			if a, ok := p.In.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok {
				port = strconv.Itoa(a.Port)
			}
			p.Out.Header.Set("X-Forwarded-Port", port)
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			code := http.StatusBadGateway
			var big *http.MaxBytesError
			switch {
			case errors.Is(err, errNoEndpoint):
				code = http.StatusServiceUnavailable
			case errors.As(err, &big):
				code = http.StatusRequestEntityTooLarge
			case isTimeout(err):
				code = http.StatusGatewayTimeout
			}
			c.log.Debug("ingress request failed", "ingress", r.ingress.String(), "err", err)
			http.Error(w, cmp.Or(held(err), http.StatusText(code)), code)
		},
	}
	defer r.backend.zero.Begin()()
	proxy.ServeHTTP(w, req)
}

// slowTransport picks the endpoint, and another when nothing was sent.
type slowTransport struct {
	c          *Controller
	r          *route
	host, path string // that were matched
}

// RoundTrip implements http.RoundTripper.
func (t *slowTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	var failed []*endpoint
	var last error = errNoEndpoint
	body := &countBody{ReadCloser: req.Body}
	if req.Body != nil && req.Body != http.NoBody {
		req = req.Clone(req.Context())
		req.Body = keepOpen{body} // ReverseProxy closes it at the request's end: streams go both ways until then
	}
	idempotent := isIdempotent(req.Method)
	for {
		e := t.r.backend.pick(failed)
		if e == nil {
			now, err := t.c.await(req.Context(), t.r, t.host, t.path)
			if err != nil {
				return nil, err
			}
			if now != nil {
				t.r, failed = now, nil
				continue
			}
			return nil, last
		}
		resp, err := e.transport(&t.r.opts, !idempotent).RoundTrip(req)
		e.done()
		if err == nil {
			e.silence.broken()
			return resp, nil
		}
		e.silence.note(err)
		last = err
		var d *dialError
		if body.read || req.Context().Err() != nil || !errors.As(err, &d) && !idempotent || isTimeout(err) && !errors.As(err, &d) {
			return nil, err
		}
		failed = append(failed, e)
	}
}

// cleanPath is the path that rules are matched against, as fasthttp makes it: decoded, without dot
// segments and double slashes.
func cleanPath(u *url.URL) string {
	c := fasthttp.AcquireURI()
	defer fasthttp.ReleaseURI(c)
	c.SetPath(u.EscapedPath())
	return string(c.Path())
}

// countBody remembers whether anything was read of it.
type countBody struct {
	io.ReadCloser
	read bool
}

func (b *countBody) Read(p []byte) (int, error) {
	b.read = true
	return b.ReadCloser.Read(p)
}

// keepOpen lets a transport that failed to dial close the body without closing it for the next.
type keepOpen struct{ *countBody }

func (keepOpen) Close() error { return nil }
