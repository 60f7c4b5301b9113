package ingress

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/netproxy/services"
)

func TestMain(m *testing.M) {
	// fasthttp keeps one goroutine for its clock and small pools for the life of the process.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"))
}

type path struct {
	host, path, svc string
	kind            networkingv1.PathType
}

func ing(name string, ann map[string]string, tlsHosts []string, paths ...path) *networkingv1.Ingress {
	i := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: name, Annotations: ann}}
	for _, p := range paths {
		kind := p.kind
		if kind == "" {
			kind = networkingv1.PathTypePrefix
		}
		i.Spec.Rules = append(i.Spec.Rules, networkingv1.IngressRule{Host: p.host, IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{
			Path: p.path, PathType: &kind, Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: p.svc, Port: networkingv1.ServiceBackendPort{Number: 80}}}}}}}})
	}
	if tlsHosts != nil {
		i.Spec.TLS = []networkingv1.IngressTLS{{Hosts: tlsHosts}}
	}
	return i
}

func svcAt(name string, eps ...netip.AddrPort) *services.Service {
	return &services.Service{Key: services.Key{Namespace: "d", Name: name}, Ports: []services.Port{{Port: 80, Protocol: corev1.ProtocolTCP, Cluster: eps}}}
}

func TestMatching(t *testing.T) {
	exact := networkingv1.PathTypeExact
	tb, problems := compile([]*networkingv1.Ingress{ing("a", nil, nil,
		path{"a.org", "/", "root", ""}, path{"a.org", "/foo", "foo", ""}, path{"a.org", "/foo", "fooexact", exact},
		path{"a.org", "/foo/bar/", "bar", ""}, path{"*.a.org", "/", "wild", ""}, path{"", "/any", "any", ""})},
		func(b backendKey, _ Options) *upstream { return &upstream{eps: []*endpoint{{proto: b.Name}}} })
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for _, c := range []struct{ host, path, want string }{
		{"a.org", "/", "root"}, {"a.org", "/foo", "fooexact"}, {"a.org", "/foo/", "foo"}, {"a.org", "/foo/x", "foo"}, {"a.org", "/foobar", "root"},
		{"a.org", "/foo/bar", "bar"}, {"a.org", "/foo/bar/x", "bar"}, {"x.a.org", "/foo", "wild"}, {"y.x.a.org", "/", ""}, {"b.org", "/any/x", "any"}, {"b.org", "/other", ""},
	} {
		got := ""
		if r := tb.match(c.host, c.path); r != nil {
			got = r.backend.eps[0].proto
		}
		if got != c.want {
			t.Errorf("%s%s: got %q, want %q", c.host, c.path, got, c.want)
		}
	}
}

func TestUnknownAndMalformedAnnotationsAreReported(t *testing.T) {
	o, problems := parseOptions(map[string]string{NginxPrefix + "enable-modsecurity": "true", NginxPrefix + "canary-weight": "many", OwnPrefix + "ssl-redirect": "false", NginxPrefix + "ssl-redirect": "true", "other/x": "y"})
	if len(problems) != 2 || o.SSLRedirect {
		t.Errorf("%v %+v", problems, o)
	}
}

type harness struct {
	c           *Controller
	http, https string
}

func start(t testing.TB) *harness {
	h, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{HTTP: []net.Listener{h}, HTTPS: []net.Listener{s}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-c.Ready()
	return &harness{c, "http://" + h.Addr().String(), "https://" + s.Addr().String()}
}

func backend(t testing.TB, h http.Handler) (netip.AddrPort, *httptest.Server) {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return netip.MustParseAddrPort(s.Listener.Addr().String()), s
}

func (h *harness) client(t testing.TB, h2 bool) *http.Client {
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: h2, MaxIdleConnsPerHost: 100}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func do(t testing.TB, c *http.Client, method, url, host, body string) (*http.Response, string) {
	t.Helper()
	req, _ := http.NewRequest(method, url, strings.NewReader(body))
	req.Host = host
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

func echo() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Proto", r.Header.Get("X-Forwarded-Proto"))
		if r.URL.Path == "/big" {
			for range 100 {
				w.Write(make([]byte, 4096))
			}
			return
		}
		fmt.Fprintf(w, "%s %s %s %d", r.Method, r.Host, r.URL, n)
	})
}

func TestForwardingOverEveryProtocol(t *testing.T) {
	h := start(t)
	a, _ := backend(t, echo())
	h.c.SetServices([]services.Change{{New: svcAt("web", a)}})
	h.c.SetIngresses([]*networkingv1.Ingress{ing("a", nil, nil, path{"a.org", "/", "web", ""}),
		ing("r", map[string]string{NginxPrefix + "rewrite-target": "/$2", NginxPrefix + "use-regex": "true"}, nil, path{"r.org", "/api(/|$)(.*)", "web", networkingv1.PathTypeImplementationSpecific}),
		ing("t", nil, []string{"t.org"}, path{"t.org", "/", "web", ""}),
		ing("m", map[string]string{OwnPrefix + "permanent-redirect": "https://new.org/"}, nil, path{"m.org", "/", "web", ""}),
		ing("s", map[string]string{OwnPrefix + "proxy-body-size": "1k"}, nil, path{"s.org", "/", "web", ""}),
		ing("n", nil, nil, path{"n.org", "/", "nobody", ""})}, nil, nil)
	for _, v := range []struct {
		name, url string
		h2        bool
	}{{"http", h.http, false}, {"https", h.https, false}, {"h2", h.https, true}} {
		t.Run(v.name, func(t *testing.T) {
			c := h.client(t, v.h2)
			for _, x := range []struct {
				method, host, path, body, want string
				code                           int
			}{
				{"GET", "a.org", "/x?y=1", "", "GET a.org /x?y=1 0", 200},
				{"POST", "a.org", "/x", "hello", "POST a.org /x 5", 200},
				{"PUT", "a.org", "/x", strings.Repeat("z", 300_000), "PUT a.org /x 300000", 200},
				{"GET", "r.org", "/api/v1/x?q=2", "", "GET r.org /v1/x?q=2 0", 200},
				{"GET", "a.org", "/a%20b", "", "GET a.org /a%20b 0", 200},
				{"GET", "m.org", "/", "", "", 301},
				{"POST", "s.org", "/", strings.Repeat("z", 2000), "", 413},
				{"GET", "n.org", "/", "", "", 503},
				{"GET", "b.org", "/", "", "", 404},
			} {
				resp, body := do(t, c, x.method, v.url+x.path, x.host, x.body)
				if resp.StatusCode != x.code || x.want != "" && body != x.want {
					t.Errorf("%s %s%s: %d %q, want %d %q", x.method, x.host, x.path, resp.StatusCode, body, x.code, x.want)
				}
			}
			if _, body := do(t, c, "GET", v.url+"/big", "a.org", ""); len(body) != 409600 {
				t.Errorf("streamed %d bytes", len(body))
			}
			if resp, _ := do(t, c, "HEAD", v.url+"/x", "a.org", ""); resp.StatusCode != 200 || resp.ContentLength < 1 {
				t.Errorf("HEAD: %d, length %d", resp.StatusCode, resp.ContentLength)
			}
			resp, _ := do(t, c, "GET", v.url+"/", "t.org", "")
			if want := map[bool]int{true: 308, false: 200}[v.name == "http"]; resp.StatusCode != want {
				t.Errorf("TLS host: %d, want %d", resp.StatusCode, want)
			}
		})
	}
}

func TestCanaryByHeaderAndWeight(t *testing.T) {
	h := start(t)
	a, _ := backend(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "main") }))
	b, _ := backend(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "canary") }))
	h.c.SetServices([]services.Change{{New: svcAt("a", a)}, {New: svcAt("b", b)}})
	h.c.SetIngresses([]*networkingv1.Ingress{ing("m", nil, nil, path{"a.org", "/", "a", ""}),
		ing("c", map[string]string{NginxPrefix + "canary": "true", NginxPrefix + "canary-by-header": "X-C", NginxPrefix + "canary-weight": "50"}, nil, path{"a.org", "/", "b", ""})}, nil, nil)
	c := h.client(t, false)
	count := map[string]int{}
	for _, v := range []string{"always", "never", ""} {
		for range 100 {
			req, _ := http.NewRequest("GET", h.http, nil)
			req.Host = "a.org"
			req.Header.Set("X-C", v)
			resp, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			count[v+" "+string(body)]++
		}
	}
	if count["always canary"] != 100 || count["never main"] != 100 || count[" main"] < 20 || count[" canary"] < 20 {
		t.Error(count)
	}
}

func TestStreamingAndUpgrades(t *testing.T) {
	h := start(t)
	release := make(chan struct{})
	a, _ := backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "echo" {
			w.WriteHeader(http.StatusSwitchingProtocols)
			conn, rw, err := w.(http.Hijacker).Hijack()
			if err == nil {
				io.Copy(conn, rw)
				conn.Close()
			}
			return
		}
		fmt.Fprint(w, "data: 1\n\n")
		w.(http.Flusher).Flush()
		<-release
		fmt.Fprint(w, "data: 2\n\n")
	}))
	h.c.SetServices([]services.Change{{New: svcAt("web", a)}})
	h.c.SetIngresses([]*networkingv1.Ingress{ing("a", nil, nil, path{"", "/", "web", ""})}, nil, nil)
	resp, err := h.client(t, false).Get(h.http)
	if err != nil {
		t.Fatal(err)
	}
	br := bufio.NewReader(resp.Body)
	if line, err := br.ReadString('\n'); line != "data: 1\n" { // arrives while the answer is unfinished
		t.Fatalf("%q %v", line, err)
	}
	close(release)
	io.Copy(io.Discard, br)
	resp.Body.Close()

	conn, err := net.Dial("tcp4", strings.TrimPrefix(h.http, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly")
	br = bufio.NewReader(conn)
	up, err := http.ReadResponse(br, nil)
	if err != nil || up.StatusCode != 101 {
		t.Fatalf("%v %v", up, err)
	}
	fmt.Fprint(conn, "late")
	buf := make([]byte, 9)
	if _, err := io.ReadFull(br, buf); err != nil || string(buf) != "earlylate" {
		t.Fatalf("%q %v", buf, err)
	}
}

// Endpoints come and go while clients load; each server is closed like most programs close at
// SIGTERM, once Quiesce has returned.
func TestNoRequestFailsWhileEndpointsComeAndGo(t *testing.T) {
	h := start(t)
	h.c.SetIngresses([]*networkingv1.Ingress{ing("a", nil, nil, path{"", "/", "web", ""})}, nil, nil)
	newServer := func() (netip.AddrPort, *http.Server) {
		ln, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: echo()}
		go s.Serve(ln)
		return netip.MustParseAddrPort(ln.Addr().String()), s
	}
	addr, srv := newServer()
	old := svcAt("web", addr)
	h.c.SetServices([]services.Change{{New: old}})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	c := h.client(t, false)
	for i := range 4 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				method, body := "GET", ""
				if (n+i)%3 == 0 {
					method, body = "POST", "payload"
				}
				req, _ := http.NewRequest(method, h.http+"/x", strings.NewReader(body))
				resp, err := c.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode != 200 {
					t.Errorf("%s: %d", method, resp.StatusCode)
					return
				}
			}
		})
	}
	for range 30 {
		nextAddr, nextSrv := newServer()
		now := svcAt("web", nextAddr)
		h.c.SetServices([]services.Change{{Old: old, New: now}})
		if err := h.c.Quiesce(context.Background(), addr.Addr()); err != nil {
			t.Fatal(err)
		}
		srv.Shutdown(context.Background())
		addr, srv, old = nextAddr, nextSrv, now
	}
	close(stop)
	wg.Wait()
	srv.Close()
}

func TestMalformedRequestsAreAnsweredOrClosed(t *testing.T) {
	h := start(t)
	a, _ := backend(t, echo())
	h.c.SetServices([]services.Change{{New: svcAt("web", a)}})
	h.c.SetIngresses([]*networkingv1.Ingress{ing("a", nil, nil, path{"", "/", "web", ""})}, nil, nil)
	for _, raw := range []string{"\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "GET //\x00 HTTP/1.1\r\nHost: [::\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("y", 100_000) + "\r\n\r\n"} {
		conn, err := net.Dial("tcp4", strings.TrimPrefix(h.http, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		io.WriteString(conn, raw)
		conn.(*net.TCPConn).CloseWrite()
		b, _ := io.ReadAll(conn)
		if strings.HasPrefix(string(b), "HTTP/1.1 500") {
			t.Errorf("%q: %q", raw[:min(40, len(raw))], b)
		}
		conn.Close()
	}
	if resp, _ := do(t, h.client(t, false), "GET", h.http+"/", "a", ""); resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
}

func BenchmarkHTTP1(b *testing.B) {
	h := start(b)
	a, _ := backend(b, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }))
	h.c.SetServices([]services.Change{{New: svcAt("web", a)}})
	h.c.SetIngresses([]*networkingv1.Ingress{ing("a", nil, nil, path{"", "/", "web", ""})}, nil, nil)
	c := h.client(b, false)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			do(b, c, "GET", h.http, "a", "")
		}
	})
}
