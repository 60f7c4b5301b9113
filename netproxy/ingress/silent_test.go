package ingress

import (
	"context"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/pintle/pintle/netproxy/services"
)

// deaf takes what is written and then says what the kernel says of a peer that acknowledged nothing.
type deaf struct{ net.Conn }

func (deaf) Write(b []byte) (int, error) { return len(b), nil }
func (d deaf) Read([]byte) (int, error) {
	return 0, &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ETIMEDOUT)}
}

func TestARequestThatMetASilentEndpointIsAnsweredByAnother(t *testing.T) {
	for _, h2 := range []bool{false, true} { // both ways through the ingress
		h := start(t)
		good, _ := backend(t, echo())
		gone := netip.MustParseAddrPort("192.0.2.1:80")
		var met atomic.Int64
		dial := h.c.cfg.Dial
		h.c.cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if address != gone.String() {
				return dial(ctx, network, address)
			}
			met.Add(1)
			end, _ := net.Pipe()
			return deaf{end}, nil
		}
		h.c.SetIngresses([]*networkingv1.Ingress{ing("a", nil, nil, path{"", "/", "web", ""})}, nil, nil)
		h.c.SetServices([]services.Change{{New: svcAt("web", gone, good)}})
		client := h.client(t, h2)
		url := h.http
		if h2 {
			url = h.https
		}
		for range 20 {
			if resp, body := do(t, client, "GET", url+"/", "", ""); resp.StatusCode != 200 {
				t.Fatalf("HTTP/2 %v: %s %s", h2, resp.Status, body)
			}
		}
		if n := met.Load(); n == 0 || n > 3 { // it is asked last once it is known
			t.Errorf("HTTP/2 %v: the silent endpoint was tried %d times in 20 requests", h2, n)
		}
	}
}

func TestOneRequestTriesASilentEndpointWhenItsTimeIsOver(t *testing.T) {
	var s silence
	if s.avoid() {
		t.Error("an endpoint is avoided before it was silent")
	}
	s.note(syscall.ECONNREFUSED)
	if s.avoid() {
		t.Error("one that refuses is avoided, which costs nothing to ask")
	}
	s.note(syscall.ETIMEDOUT)
	if !s.avoid() {
		t.Error("a silent one isn't avoided")
	}
	s.until.Store(time.Now().Add(-time.Second).UnixNano())
	if s.avoid() || !s.avoid() {
		t.Error("when its time is over, one request tries it, and no more")
	}
	s.broken()
	if s.avoid() {
		t.Error("one that answers again is avoided")
	}
}
