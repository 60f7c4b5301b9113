package userspace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/netproxy/services"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// backend reads to the end of what a client sends and answers with its name and the length.
func backend(t *testing.T, name string) netip.AddrPort {
	return backendThatTells(t, name, func() {})
}

// backendThatTells calls accepted for each connection that it has.
func backendThatTells(t *testing.T, name string, accepted func()) netip.AddrPort {
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
			accepted()
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
	reached := make(chan struct{}, 1)
	a, b := backendThatTells(t, "a", func() { reached <- struct{}{} }), backend(t, "b")
	p := New(Config{})
	defer p.Close()
	ctx := context.Background()
	if err := p.Apply(ctx, []services.Change{{New: web(0, a)}}); err != nil {
		t.Fatal(err)
	}
	old := open(t, p)
	old.Write([]byte("x"))
	<-reached
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

// Without endpoints the kernel refuses, TCP and UDP; with some the same stand-in serves again.
func TestNoEndpointsRefusesAtOnceAndComesBack(t *testing.T) {
	a := backend(t, "a")
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	go func() {
		buf := make([]byte, 100)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			pc.WriteTo(buf[:n], from)
		}
	}()
	u := pc.LocalAddr().(*net.UDPAddr).AddrPort()
	at := func(full bool) *services.Service {
		s := web(0)
		s.Ports = append(s.Ports, services.Port{Name: "u", Protocol: corev1.ProtocolUDP, Port: 90})
		if full {
			s.Ports[0].Internal, s.Ports[1].Internal = []netip.AddrPort{a}, []netip.AddrPort{u}
		}
		return s
	}
	p := New(Config{})
	defer p.Close()
	ctx := context.Background()
	if err := p.Apply(ctx, []services.Change{{New: at(false)}}); err != nil {
		t.Fatal(err)
	}
	first := p.Mapping()
	for range 3 {
		for _, m := range p.Mapping() {
			network := map[corev1.Protocol]string{corev1.ProtocolTCP: "tcp4", corev1.ProtocolUDP: "udp4"}[m.Protocol]
			c, err := net.Dial(network, m.StandIn.String())
			if err == nil {
				c.SetDeadline(time.Now().Add(5 * time.Second))
				c.Write([]byte("x"))
				_, err = c.Read(make([]byte, 10))
				c.Close()
			}
			if !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%s without endpoints: %v", network, err)
			}
		}
		if err := p.Apply(ctx, []services.Change{{Old: at(false), New: at(true)}}); err != nil {
			t.Fatal(err)
		}
		if now := p.Mapping(); !slices.Equal(now, first) {
			t.Errorf("the stand-ins changed: %v, %v", first, now)
		}
		for _, m := range p.Mapping() {
			if m.Protocol == corev1.ProtocolTCP {
				if got, err := finish(open(t, p)); got != "a 5" || err != nil {
					t.Errorf("TCP: %q %v", got, err)
				}
				continue
			}
			c, err := net.Dial("udp4", m.StandIn.String())
			if err != nil {
				t.Fatal(err)
			}
			c.SetDeadline(time.Now().Add(5 * time.Second))
			c.Write([]byte("ping"))
			buf := make([]byte, 10)
			if n, err := c.Read(buf); string(buf[:n]) != "ping" {
				t.Errorf("UDP: %q %v", buf[:n], err)
			}
			c.Close()
		}
		if err := p.Apply(ctx, []services.Change{{Old: at(true), New: at(false)}}); err != nil {
			t.Fatal(err)
		}
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

// A connection that was being made to an endpoint when that was removed goes to another one.
func TestAnEndpointRemovedWhileItIsDialledGetsNothing(t *testing.T) {
	a, b := backend(t, "a"), backend(t, "b")
	dialling, goOn := make(chan struct{}), make(chan struct{})
	p := New(Config{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		if address == a.String() {
			close(dialling)
			<-goOn
		}
		return c, err
	}})
	defer p.Close()
	if err := p.Apply(t.Context(), []services.Change{{New: web(0, a)}}); err != nil {
		t.Fatal(err)
	}
	c := open(t, p)
	<-dialling
	if err := p.Apply(t.Context(), []services.Change{{Old: web(0, a), New: web(0, b)}}); err != nil {
		t.Fatal(err)
	}
	close(goOn)
	if got, err := finish(c); err != nil || got != "b 5" {
		t.Errorf("got %q, %v", got, err)
	}
}
