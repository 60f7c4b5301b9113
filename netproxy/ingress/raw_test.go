package ingress

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/pintle/pintle/netproxy/services"
)

func serveAll(t testing.TB, handler http.Handler, ann map[string]string) *harness {
	h := start(t)
	a, _ := backend(t, handler)
	h.c.SetServices([]services.Change{{New: svcAt("web", a)}})
	h.c.SetIngresses([]*networkingv1.Ingress{ing("a", ann, nil, path{"", "/", "web", ""})}, nil, nil)
	return h
}

func (h *harness) raw(t testing.TB) (net.Conn, *bufio.Reader) {
	conn, err := net.Dial("tcp4", strings.TrimPrefix(h.http, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	return conn, bufio.NewReader(conn)
}

// Each of these is read differently by some server. None may reach an endpoint, and nothing that
// follows on the connection is taken for a request.
func TestSmugglingIsRefused(t *testing.T) {
	var reached atomic.Int32
	h := serveAll(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }), nil)
	follow := "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
	for name, head := range map[string]string{
		"CL and TE":               "Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"TE and CL":               "Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
		"two lengths":             "Host: a\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n",
		"two equal lengths":       "Host: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
		"list of lengths":         "Host: a\r\nContent-Length: 5, 5\r\n\r\nhello",
		"signed length":           "Host: a\r\nContent-Length: +5\r\n\r\nhello",
		"hex length":              "Host: a\r\nContent-Length: 0x5\r\n\r\nhello",
		"negative length":         "Host: a\r\nContent-Length: -5\r\n\r\n",
		"huge length":             "Host: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
		"folded header":           "Host: a\r\nX: a\r\n b\r\n\r\n",
		"folded by tab":           "Host: a\r\nTransfer-Encoding:\r\n\tchunked\r\n\r\n0\r\n\r\n",
		"bare LF":                 "Host: a\nX: b\r\n\r\n",
		"bare LF throughout":      "Host: a\nX: b\n\n",
		"bare CR":                 "Host: a\r\nX: b\rTransfer-Encoding: chunked\r\n\r\n",
		"space before colon":      "Host: a\r\nContent-Length : 5\r\n\r\nhello",
		"TE space before colon":   "Host: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
		"two codings":             "Host: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"identity":                "Host: a\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello",
		"unknown coding":          "Host: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"two TE":                  "Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
		"two hosts":               "Host: a\r\nHost: b\r\n\r\n",
		"no host":                 "X: y\r\n\r\n",
		"NUL in a value":          "Host: a\r\nX: b\x00c\r\n\r\n",
		"header without name":     "Host: a\r\n: b\r\n\r\n",
		"header without colon":    "Host: a\r\nnonsense\r\n\r\n",
		"vertical tab in TE":      "Host: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
		"length behind CR":        "Host: a\r\nX: y\r\r\nContent-Length: 5\r\n\r\nhello",
		"space in a header name":  "Host: a\r\nContent Length: 5\r\n\r\n",
		"line feed before a name": "Host: a\r\nX: y\r\n\nContent-Length: 5\r\n\r\n",
	} {
		conn, br := h.raw(t)
		fmt.Fprint(conn, "POST / HTTP/1.1\r\n"+head+follow)
		resp, err := http.ReadResponse(br, nil)
		if err == nil {
			if resp.StatusCode < 400 || resp.StatusCode >= 500 {
				t.Errorf("%s: %d", name, resp.StatusCode)
			}
			io.Copy(io.Discard, resp.Body)
			if rest, _ := io.ReadAll(br); len(rest) > 0 {
				t.Errorf("%s: the connection went on: %q", name, rest)
			}
		}
		if n := reached.Swap(0); n > 0 {
			t.Errorf("%s: %d requests reached the endpoint", name, n)
		}
	}
	for name, body := range map[string]string{
		"chunk size with sign": "+1\r\na\r\n0\r\n\r\n", "chunk size 0x": "0x1\r\na\r\n0\r\n\r\n", "huge chunk": "fffffffffffffffff\r\na\r\n0\r\n\r\n",
		"chunk without CRLF": "1\r\nab0\r\n\r\n", "no chunk size": "\r\na\r\n0\r\n\r\n",
	} {
		conn, br := h.raw(t)
		fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"+body+follow)
		if resp, err := http.ReadResponse(br, nil); err == nil {
			if resp.StatusCode < 400 {
				t.Errorf("%s: %d", name, resp.StatusCode)
			}
			io.Copy(io.Discard, resp.Body)
			if rest, _ := io.ReadAll(br); len(rest) > 0 {
				t.Errorf("%s: the connection went on: %q", name, rest)
			}
		}
	}
}

func TestContinueComesBeforeTheBodyAndTrailersGoThrough(t *testing.T) {
	h := serveAll(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s", b, r.Trailer.Get("X-Sum"))
	}), nil)
	conn, br := h.raw(t)
	fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")
	if line, err := br.ReadString('\n'); !strings.HasPrefix(line, "HTTP/1.1 100") {
		t.Fatalf("%q %v", line, err)
	}
	br.ReadString('\n')
	fmt.Fprint(conn, "5;ext=1\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
	for _, want := range []string{"hello 7", " "} {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(resp.Body); string(b) != want || err != nil {
			t.Fatalf("%q %v, want %q", b, err, want)
		}
	}
}

func TestAClientThatLeavesEndsTheRequestAtTheEndpoint(t *testing.T) {
	entered, left := make(chan string, 2), make(chan string, 2)
	h := serveAll(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stream" {
			fmt.Fprint(w, "data: 1\n\n")
			w.(http.Flusher).Flush()
		}
		entered <- r.URL.Path
		<-r.Context().Done()
		left <- r.URL.Path
	}), nil)
	for _, way := range []string{"http1", "http2"} {
		for _, p := range []string{"/wait", "/stream"} {
			ctx, cancel := context.WithCancel(context.Background())
			url := h.http
			if way == "http2" {
				url = h.https
			}
			req, _ := http.NewRequestWithContext(ctx, "GET", url+p, nil)
			done := make(chan struct{})
			go func() {
				defer close(done)
				if resp, err := h.client(t, way == "http2").Do(req); err == nil {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			}()
			<-entered
			cancel()
			<-done
			if way == "http1" && runtime.GOOS != "linux" {
				continue
			}
			select {
			case got := <-left:
				if got != p {
					t.Errorf("%s %s: %s ended", way, p, got)
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("%s %s: the endpoint never heard that the client left", way, p)
			}
		}
	}
}

// An upload far larger than what may be held in memory goes through as it comes.
func TestLargeUploadsAreNotBuffered(t *testing.T) {
	const size = 192 << 20
	h := serveAll(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sum := crc32.NewIEEE()
		n, err := io.Copy(sum, r.Body)
		fmt.Fprint(w, n, " ", sum.Sum32(), " ", err)
	}), map[string]string{NginxPrefix + "proxy-body-size": "0"})
	block := make([]byte, 1<<20)
	rand.Read(block)
	for _, way := range []struct {
		url     string
		h2      bool
		chunked bool
	}{{h.http, false, false}, {h.http, false, true}, {h.https, true, true}} {
		sum := crc32.NewIEEE()
		src := io.LimitReader(readerFunc(func(p []byte) (int, error) { return copy(p, block), nil }), size)
		req, _ := http.NewRequest("PUT", way.url, struct{ io.Reader }{io.TeeReader(src, sum)})
		if !way.chunked {
			req.ContentLength = size
		}
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		resp, err := h.client(t, way.h2).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		runtime.ReadMemStats(&after)
		if want := fmt.Sprint(size, " ", sum.Sum32(), " ", nil); string(b) != want {
			t.Errorf("%+v: %d %q, want %q", way, resp.StatusCode, b, want)
		}
		if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > size/4 {
			t.Errorf("%+v: the heap grew by %d MiB", way, grown>>20)
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestAnEndingIngressFinishesRequestsAndSaysClose(t *testing.T) {
	entered, release := make(chan struct{}, 2), make(chan struct{})
	a, _ := backend(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		entered <- struct{}{}
		<-release
		io.WriteString(w, "done")
	}))
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tl, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{HTTP: []net.Listener{ln}, HTTPS: []net.Listener{tl}})
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{c, "http://" + ln.Addr().String(), "https://" + tl.Addr().String()}
	c.SetServices([]services.Change{{New: svcAt("web", a)}})
	c.SetIngresses([]*networkingv1.Ingress{ing("a", nil, nil, path{"", "/", "web", ""})}, nil, nil)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	<-c.Ready()
	idle, idleReader := h.raw(t)
	_ = idle
	conn, br := h.raw(t)
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	answers := make(chan string, 1)
	go func() {
		resp, err := h.client(t, true).Get(h.https)
		if err != nil {
			answers <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		answers <- string(b)
	}()
	<-entered
	<-entered
	cancel()
	if _, err := idleReader.ReadByte(); err != io.EOF { // closed only once the ending has begun
		t.Errorf("the idle connection: %v", err)
	}
	close(release)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(resp.Body); string(b) != "done" || !resp.Close {
		t.Errorf("%q, close %v", b, resp.Close)
	}
	if got := <-answers; got != "done" {
		t.Errorf("HTTP/2: %s", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// What arrives may be anything; it is answered or closed, and never brings the ingress down.
func FuzzFastPath(f *testing.F) {
	h := serveAll(f, echo(), nil)
	for _, s := range []string{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: v\r\n\r\n",
		"GET http://b/x HTTP/1.1\r\nHost: a\r\nConnection: X, close\r\nX: y\r\n\r\n", "PUT / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		conn, err := net.Dial("tcp4", strings.TrimPrefix(h.http, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		conn.Write(b)
		conn.(*net.TCPConn).CloseWrite()
		got, err := io.ReadAll(conn)
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			t.Fatalf("no answer and no end to %q: %q", b, got)
		}
		if strings.HasPrefix(string(got), "HTTP/1.1 500") {
			t.Fatalf("%q: %q", b, got)
		}
	})
}
