package ingress

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/pintle/pintle/netproxy/services"
)

// gRPC is HTTP/2 with streams both ways, TE: trailers, and its status in trailers.
func TestGRPCStreamsBothWaysWithTrailers(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		w.(http.Flusher).Flush()
		br := bufio.NewReader(r.Body)
		for {
			line, err := br.ReadString('\n')
			if err != nil {
				break
			}
			fmt.Fprintf(w, "%s %d %s", r.Header.Get("Te"), r.ProtoMajor, line)
			w.(http.Flusher).Flush()
		}
		w.Header().Set("Grpc-Status", "0")
	})}
	srv.Protocols.SetUnencryptedHTTP2(true)
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close() })
	h := start(t)
	h.c.SetServices([]services.Change{{New: svcAt("web", netip.MustParseAddrPort(ln.Addr().String()))}})
	h.c.SetIngresses([]*networkingv1.Ingress{ing("a", map[string]string{NginxPrefix + "backend-protocol": "GRPC"}, nil, path{"", "/", "web", ""})}, nil, nil)
	pr, pw := io.Pipe()
	req, _ := http.NewRequest("POST", h.https+"/pkg.Service/Call", pr)
	req.Header.Set("Te", "trailers")
	resp, err := h.client(t, true).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	br := bufio.NewReader(resp.Body)
	for _, word := range []string{"one", "two"} { // each answer comes before the next question is asked
		fmt.Fprintln(pw, word)
		if got, err := br.ReadString('\n'); got != "trailers 2 "+word+"\n" {
			t.Fatalf("%q %v", got, err)
		}
	}
	pw.Close()
	io.Copy(io.Discard, br)
	if resp.Trailer.Get("Grpc-Status") != "0" {
		t.Errorf("trailer %v", resp.Trailer)
	}
}

func TestUpgradesOverTLSAndNoneToHTTP2InTheClear(t *testing.T) {
	h := serveAll(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u := r.Header.Get("Upgrade"); u != "websocket" {
			fmt.Fprintf(w, "upgrade %q", u)
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n", r.Header.Get("Sec-WebSocket-Key"))
		io.Copy(conn, rw)
	}), nil)
	conn, err := tls.Dial("tcp4", strings.TrimPrefix(h.https, "https://"), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	br := bufio.NewReader(conn)
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n")
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(resp.Body); string(b) != `upgrade ""` {
		t.Errorf("h2c: %d %q", resp.StatusCode, b)
	}
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n")
	if resp, err = http.ReadResponse(br, nil); err != nil || resp.StatusCode != 101 || resp.Header.Get("Sec-Websocket-Accept") != "k" {
		t.Fatalf("%v %v", resp, err)
	}
	for _, word := range []string{"frame1", "frame2"} {
		io.WriteString(conn, word)
		buf := make([]byte, len(word))
		if _, err := io.ReadFull(br, buf); err != nil || string(buf) != word {
			t.Fatalf("%q %v", buf, err)
		}
	}
}
