package userspace

import (
	"net"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/netproxy/services"
	"github.com/pintle/pintle/netproxy/standby"
)

// A port without endpoints of a Service that has some at another port waits for nothing.
func TestAPortThatNothingComesForIsRefusedThoughItsServiceIsUp(t *testing.T) {
	a := backend(t, "a")
	s := web(0)
	s.ScaleToZero = time.Minute
	s.Ports = append(s.Ports, services.Port{Name: "other", Protocol: corev1.ProtocolTCP, Port: 90, Internal: []netip.AddrPort{a}, Cluster: []netip.AddrPort{a}})
	desk := standby.New(standby.Config{})
	p := New(Config{Standby: desk})
	defer p.Close()
	change := []services.Change{{New: s}}
	desk.Mark(change)
	if err := p.Apply(t.Context(), change); err != nil {
		t.Fatal(err)
	}
	desk.Wake(change)
	for _, m := range p.Mapping() {
		if m.Address.Port() != 80 {
			continue
		}
		c, err := net.Dial("tcp4", m.StandIn.String())
		if err != nil {
			return // refused at once
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(5 * time.Second))
		_, err = c.Read(make([]byte, 1))
		if e, ok := err.(net.Error); err == nil || ok && e.Timeout() {
			t.Fatalf("it is held: %v", err)
		}
		return
	}
	t.Fatal("no stand-in")
}
