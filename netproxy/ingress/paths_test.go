package ingress

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/pintle/pintle/netproxy/services"
)

// mirror answers with all that it got, in an order of its own.
func mirror() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var lines []string
		for k, v := range r.Header {
			switch k {
			case "X-Forwarded-Proto", "X-Forwarded-Port": // these differ by the way in
				v = []string{"…"}
			case "Content-Length":
				continue
			}
			lines = append(lines, fmt.Sprint(k, v))
		}
		for k, v := range r.Trailer {
			lines = append(lines, fmt.Sprint("trailer ", k, v))
		}
		slices.Sort(lines)
		w.Header().Set("Connection", "X-Private")
		w.Header().Set("X-Private", "of one connection")
		w.Header().Add("Set-Cookie", "a=1")
		w.Header().Add("Set-Cookie", "a=2")
		w.Header().Set("Trailer", "X-Sum")
		if r.URL.Path == "/teapot" {
			w.WriteHeader(http.StatusTeapot)
		}
		if r.URL.Path == "/empty" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		fmt.Fprintf(w, "%s %s %s length %d, %d bytes, %v\n%s\n", r.Method, r.Host, r.RequestURI, r.ContentLength, len(body), err, strings.Join(lines, "\n"))
		w.Header().Set("X-Sum", "42")
	})
}

// What an endpoint gets, and what a client gets back, is the same over fasthttp and over net/http.
func TestBothPathsBehaveAlike(t *testing.T) {
	h := start(t)
	a, _ := backend(t, mirror())
	dead, srv := backend(t, mirror())
	srv.Close()
	h.c.SetServices([]services.Change{{New: svcAt("web", a)}, {New: svcAt("flaky", dead, a)}, {New: svcAt("dead", dead)}})
	exact := networkingv1.PathTypeExact
	h.c.SetIngresses([]*networkingv1.Ingress{
		ing("a", nil, nil, path{"a.org", "/", "web", ""}, path{"a.org", "/only", "dead", exact}, path{"a.org", "/deep", "nobody", ""}),
		ing("w", nil, nil, path{"*.a.org", "/", "web", ""}), ing("f", nil, nil, path{"f.org", "/", "flaky", ""}),
		ing("d", nil, nil, path{"d.org", "/", "dead", ""}), ing("n", nil, nil, path{"n.org", "/", "nobody", ""}),
		ing("r", map[string]string{NginxPrefix + "rewrite-target": "/$1", NginxPrefix + "use-regex": "true"}, nil, path{"r.org", "/api/(.*)", "web", ""}),
		ing("p", map[string]string{NginxPrefix + "rewrite-target": "/fixed"}, nil, path{"p.org", "/x", "web", ""}),
		ing("m", map[string]string{NginxPrefix + "permanent-redirect": "https://new.org/", NginxPrefix + "permanent-redirect-code": "308"}, nil, path{"m.org", "/", "web", ""}),
		ing("t", map[string]string{NginxPrefix + "temporal-redirect": "https://tmp.org/"}, nil, path{"t.org", "/", "web", ""}),
		ing("s", map[string]string{OwnPrefix + "proxy-body-size": "1k"}, nil, path{"s.org", "/", "web", ""}),
		ing("u", map[string]string{OwnPrefix + "proxy-body-size": "0"}, nil, path{"u.org", "/", "web", ""}),
		ing("cc", map[string]string{NginxPrefix + "canary": "true", NginxPrefix + "canary-by-cookie": "beta", NginxPrefix + "canary-by-header": "X-C", NginxPrefix + "canary-by-header-pattern": "^v[0-9]+$"}, nil, path{"n.org", "/", "web", ""}),
		ing("default", nil, nil, path{"", "/any", "web", ""}),
	}, nil, nil)
	for i, c := range []struct {
		method, host, path string
		header             [2]string
		body               string
		chunked            bool
		code               int
	}{
		{"GET", "a.org", "/x?y=1&z=%20", [2]string{}, "", false, 200},
		{"GET", "A.ORG:8443", "/", [2]string{}, "", false, 200},
		{"GET", "a.org", "/a%2Fb%20c", [2]string{}, "", false, 200},
		{"GET", "a.org", "/%ff%00", [2]string{}, "", false, 200},
		{"HEAD", "a.org", "/x", [2]string{}, "", false, 200},
		{"OPTIONS", "a.org", "/x", [2]string{}, "", false, 200},
		{"PATCH", "a.org", "/x", [2]string{}, "", false, 200},
		{"DELETE", "a.org", "/x", [2]string{}, "", false, 200},
		{"POST", "a.org", "/x", [2]string{}, "", false, 200},
		{"POST", "a.org", "/x", [2]string{"Content-Type", "text/x"}, "hello", false, 200},
		{"POST", "a.org", "/x", [2]string{}, strings.Repeat("z", 200_000), false, 200},
		{"POST", "a.org", "/x", [2]string{}, strings.Repeat("z", 200_000), true, 200},
		{"PUT", "a.org", "/x", [2]string{}, "short", true, 200},
		{"GET", "a.org", "/teapot", [2]string{}, "", false, 418},
		{"GET", "a.org", "/empty", [2]string{}, "", false, 204},
		{"GET", "x.a.org", "/", [2]string{}, "", false, 200},
		{"GET", "y.x.a.org", "/", [2]string{}, "", false, 404},
		{"GET", "y.x.a.org", "/any/thing", [2]string{}, "", false, 200},
		{"GET", "a.org", "/only", [2]string{}, "", false, 502},
		{"GET", "a.org", "/x/../only", [2]string{}, "", false, 502},
		{"GET", "a.org", "/%6fnly", [2]string{}, "", false, 502},
		{"GET", "a.org", "//deep", [2]string{}, "", false, 503},
		{"GET", "a.org", "/deep/er", [2]string{}, "", false, 503},
		{"GET", "a.org", "/deeper", [2]string{}, "", false, 200},
		{"GET", "f.org", "/", [2]string{}, "", false, 200},
		{"POST", "f.org", "/", [2]string{}, "x", false, 200}, // a refused dial sent nothing
		{"GET", "d.org", "/", [2]string{}, "", false, 502},
		{"GET", "n.org", "/", [2]string{}, "", false, 503},
		{"GET", "n.org", "/", [2]string{"Cookie", "a=1; beta=always"}, "", false, 200},
		{"GET", "n.org", "/", [2]string{"Cookie", "beta=never"}, "", false, 503},
		{"GET", "n.org", "/", [2]string{"X-C", "v12"}, "", false, 200},
		{"GET", "n.org", "/", [2]string{"X-C", "w12"}, "", false, 503},
		{"GET", "r.org", "/api/v1/x?q=2", [2]string{}, "", false, 200},
		{"GET", "r.org", "/api/a%20b%3Fc", [2]string{}, "", false, 200},
		{"GET", "p.org", "/x/y?z", [2]string{}, "", false, 200},
		{"GET", "m.org", "/", [2]string{}, "", false, 308},
		{"GET", "t.org", "/", [2]string{}, "", false, 302},
		{"POST", "s.org", "/", [2]string{}, strings.Repeat("z", 2000), false, 413},
		{"POST", "s.org", "/", [2]string{}, strings.Repeat("z", 200_000), true, 413},
		{"POST", "u.org", "/", [2]string{}, strings.Repeat("z", 2000), true, 200},
		{"GET", "a.org", "/x", [2]string{"X-Forwarded-For", "6.6.6.6"}, "", false, 200},
		{"GET", "a.org", "/x", [2]string{"X-Forwarded-Host", "evil"}, "", false, 200},
		{"GET", "a.org", "/x", [2]string{"X_Forwarded_For", "6.6.6.6"}, "", false, 200},
		{"GET", "a.org", "/x", [2]string{"Forwarded", "for=6.6.6.6"}, "", false, 200},
		{"GET", "a.org", "/x", [2]string{"X-Real-Ip", "6.6.6.6"}, "", false, 200},
		{"GET", "a.org", "/x", [2]string{"Proxy-Authorization", "secret"}, "", false, 200},
		{"GET", "a.org", "/x", [2]string{"Keep-Alive", "5"}, "", false, 200},
		{"GET", "a.org", "/x", [2]string{"Accept-Encoding", "br"}, "", false, 200},
		{"GET", "a.org", "/x", [2]string{"X-Large", strings.Repeat("v", 20_000)}, "", false, 200},
		{"GET", "b.org", "/", [2]string{}, "", false, 404},
	} {
		var first string
		for _, way := range []struct {
			name, url string
			h2        bool
		}{{"http", h.http, false}, {"https", h.https, false}, {"h2", h.https, true}} {
			var body io.Reader = strings.NewReader(c.body)
			if c.chunked {
				body = struct{ io.Reader }{body}
			} else if c.body == "" {
				body = nil
			}
			req, err := http.NewRequest(c.method, way.url+c.path, body)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = c.host
			req.Header.Set("User-Agent", "test")
			if req.Header.Get("Accept-Encoding") == "" {
				req.Header.Set("Accept-Encoding", "identity")
			}
			if c.header[0] != "" {
				req.Header.Set(c.header[0], c.header[1])
			}
			resp, err := h.client(t, way.h2).Do(req)
			if err != nil {
				t.Errorf("%d %s: %s %s%s: %v", i, way.name, c.method, c.host, c.path, err)
				continue
			}
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil {
				t.Errorf("%d %s: %v", i, way.name, err)
			}
			if resp.StatusCode != c.code {
				t.Errorf("%d %s: %s %s%s: %d, want %d", i, way.name, c.method, c.host, c.path, resp.StatusCode, c.code)
			}
			if way.h2 != (resp.ProtoMajor == 2) {
				t.Errorf("%s: answered in %s", way.name, resp.Proto)
			}
			got := fmt.Sprint(resp.StatusCode, " ", resp.Header["Set-Cookie"], resp.Header["Content-Type"], resp.Header["X-Private"], resp.Header["Location"], resp.Trailer, "\n", string(b))
			if first == "" {
				first = got
			} else if got != first {
				t.Errorf("%d %s %s%s: %s differs:\n%s\nfrom:\n%s", i, c.method, c.host, c.path, way.name, got, first)
			}
			for _, leak := range []string{"6.6.6.6", "evil", "secret", "of one connection", "Keep-Alive"} {
				if strings.Contains(got, leak) {
					t.Errorf("%d %s: %q came through:\n%s", i, way.name, leak, got)
				}
			}
			if c.code == 200 && c.method == "GET" && !strings.Contains(got, "X-Forwarded-For[127.0.0.1]") {
				t.Errorf("%d %s: no X-Forwarded-For:\n%s", i, way.name, got)
			}
		}
	}
}
