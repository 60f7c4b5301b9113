package userspace

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/netproxy/services"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// backend reads to the end of what a client sends and answers with its name and the length.
func backend(t *testing.T, name string) netip.AddrPort {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b, _ := io.ReadAll(c)
				fmt.Fprintf(c, "%s %d", name, len(b))
			}()
		}
	}()
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

func web(affinity time.Duration, eps ...netip.AddrPort) *services.Service {
	return &services.Service{Key: services.Key{Namespace: "d", Name: "web"}, Affinity: affinity, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.7.5")},
		Ports: []services.Port{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, Cluster: eps, Internal: eps, External: eps}}}
}

func open(t *testing.T, p *Proxy) *net.TCPConn {
	c, err := net.Dial("tcp4", p.Mapping()[0].StandIn.String())
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(5 * time.Second))
	return c.(*net.TCPConn)
}

func finish(c *net.TCPConn) (string, error) {
	defer c.Close()
	c.Write([]byte("hello"))
	c.CloseWrite()
	b, err := io.ReadAll(c)
	return string(b), err
}

func TestSpliceKeepsHalfCloseAndOldConnections(t *testing.T) {
	a, b := backend(t, "a"), backend(t, "b")
	p := New(Config{})
	defer p.Close()
	ctx := context.Background()
	if err := p.Apply(ctx, []services.Change{{New: web(0, a)}}); err != nil {
		t.Fatal(err)
	}
	old := open(t, p)
	old.Write([]byte("x"))
	if got, err := finish(open(t, p)); got != "a 5" || err != nil { // accepted after old, so old has its endpoint
		t.Fatalf("%q %v", got, err)
	}
	if err := p.Apply(ctx, []services.Change{{Old: web(0, a), New: web(0, b)}}); err != nil {
		t.Fatal(err)
	}
	if got, err := finish(open(t, p)); got != "b 5" || err != nil {
		t.Fatalf("after the change: %q %v", got, err)
	}
	if got, err := finish(old); got != "a 6" || err != nil {
		t.Fatalf("the old connection: %q %v", got, err)
	}
}

func TestNoEndpointsResets(t *testing.T) {
	p := New(Config{})
	defer p.Close()
	if err := p.Apply(context.Background(), []services.Change{{New: web(0)}}); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp4", p.Mapping()[0].StandIn.String())
	if err != nil {
		return // reset before the dial returned
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.ReadAll(c); err == nil {
		t.Error("no reset")
	}
}

func TestAffinityAndFailover(t *testing.T) {
	a, b := backend(t, "a"), backend(t, "b")
	dead := netip.MustParseAddrPort("127.0.0.1:1")
	p := New(Config{})
	defer p.Close()
	if err := p.Apply(context.Background(), []services.Change{{New: web(time.Hour, dead, a, b)}}); err != nil {
		t.Fatal(err)
	}
	first, err := finish(open(t, p))
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if got, err := finish(open(t, p)); got != first || err != nil {
			t.Fatalf("%q %v, was %q", got, err, first)
		}
	}
}
