//go:build linux

package nft

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/netproxy/services"
)

func TestLocalNodePortKeepsTheClientsAddressAndClusterDoesNot(t *testing.T) {
	w := newWorld(t, 3, false)
	w.serve(0)
	p := w.proxy("t")
	local := func(s *services.Service) { s.ExternalLocal = true }
	apply(t, p, nil, svc(local, 0))
	if got, err := w.pods[2].ask("tcp4", "10.244.0.1:30080"); err != nil || got != "0 "+podIP(2).String() {
		t.Errorf("Local: %q %v, want the client's address", got, err)
	}
	apply(t, p, svc(local, 0), svc(nil, 0))
	if got, err := w.pods[2].ask("tcp4", "10.244.0.1:30080"); err != nil || got != "0 10.244.0.1" {
		t.Errorf("Cluster: %q %v, want the node's address", got, err)
	}
	// Local without a local endpoint while others have some: silence, so that a balancer goes elsewhere.
	none := func(s *services.Service) {
		s.ExternalLocal = true
		s.Ports[0].External = nil
	}
	apply(t, p, svc(nil, 0), svc(none, 0))
	w.pods[2].try(func() error {
		c, err := net.DialTimeout("tcp4", "10.244.0.1:30080", 300*time.Millisecond)
		if ne, ok := err.(net.Error); !ok || !ne.Timeout() {
			t.Errorf("Local without a local endpoint: %v %v, want silence", c, err)
		}
		return nil
	})
}

func TestNodePortsWithoutEndpointsRejectUDPToo(t *testing.T) {
	w := newWorld(t, 1, false)
	p := w.proxy("t")
	apply(t, p, nil, svc(func(s *services.Service) { s.Ports[1].NodePort = 30053 }))
	if _, err := w.pods[0].ask("udp4", "10.244.0.1:30053"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v, want refused", err)
	}
}

// Two Services whose external address and port, or node port for masquerading, coincide.
func TestASharedFrontendPassesToTheServiceThatStays(t *testing.T) {
	w := newWorld(t, 3, false)
	w.serve(0)
	w.serve(1)
	p := w.proxy("t")
	first := svc(nil, 0)
	second := svc(func(s *services.Service) { s.Name = "second" }, 1)
	apply(t, p, nil, first)
	apply(t, p, nil, second)
	for _, addr := range []string{"10.96.0.5:80", "10.244.0.1:30080"} {
		if got, err := w.pods[2].ask("tcp4", addr); err != nil || got[0] != '0' {
			t.Errorf("%s: %q %v, want the first", addr, got, err)
		}
	}
	apply(t, p, first, nil)
	for _, addr := range []string{"10.96.0.5:80", "10.244.0.1:30080"} {
		if got, err := w.pods[2].ask("tcp4", addr); err != nil || got[0] != '1' {
			t.Errorf("%s after the first went: %q %v, want the second", addr, got, err)
		}
	}
	if got, err := w.pods[2].ask("tcp4", "10.244.0.1:30080"); err != nil || got != "1 10.244.0.1" {
		t.Errorf("node port: %q %v, want it still masqueraded", got, err)
	}
}

func TestPortsChangeAndServicesComeBack(t *testing.T) {
	w := newWorld(t, 2, false)
	w.serve(0)
	p := w.proxy("t")
	was := svc(nil, 0)
	apply(t, p, nil, was)
	moved := svc(func(s *services.Service) {
		s.Ports[0].Port, s.Ports[0].NodePort = 81, 30090
		s.Ports = append(s.Ports, services.Port{Name: "more", Protocol: corev1.ProtocolTCP, Port: 90, Internal: s.Ports[0].Internal, Cluster: s.Ports[0].Cluster})
	}, 0)
	check := func(what string, open, closed []string) {
		t.Helper()
		for _, a := range open {
			if got, err := w.pods[1].ask("tcp4", a); err != nil || got[0] != '0' {
				t.Errorf("%s: %s: %q %v", what, a, got, err)
			}
		}
		for _, a := range closed {
			if _, err := w.pods[1].ask("tcp4", a); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%s: %s: %v, want refused", what, a, err)
			}
		}
	}
	apply(t, p, was, moved)
	check("moved", []string{"10.96.0.5:81", "10.96.0.5:90", "10.244.0.1:30090"}, []string{"10.96.0.5:80", "10.244.0.1:30080"})
	apply(t, p, moved, nil)
	check("deleted", nil, []string{"10.96.0.5:81", "10.96.0.5:90", "10.244.0.1:30090"})
	apply(t, p, nil, was)
	check("back", []string{"10.96.0.5:80", "10.244.0.1:30080"}, []string{"10.96.0.5:81"})
}

// One rule serves all Services of one endpoint count: none may reach another's endpoints, and each
// reaches all of its own.
func TestServicesOfDifferentSizesReachTheirOwnEndpoints(t *testing.T) {
	w := newWorld(t, 4, false)
	for i := range 3 {
		w.serve(i)
	}
	p := w.proxy("t")
	at := func(n byte, eps ...int) *services.Service {
		return svc(func(s *services.Service) {
			s.Name, s.Ports[0].NodePort = fmt.Sprint("size", n), 0
			s.ClusterIPs = []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 1, n})}
		}, eps...)
	}
	apply(t, p, nil, at(3, 0, 1, 2))
	apply(t, p, nil, at(1, 2))
	apply(t, p, nil, at(2, 0, 1))
	check := func(addr string, want string) {
		t.Helper()
		seen := map[byte]bool{}
		for range 40 {
			got, err := w.pods[3].ask("tcp4", addr)
			if err != nil {
				t.Fatalf("%s: %v\n%s", addr, err, w.ruleset())
			}
			seen[got[0]] = true
		}
		got := ""
		for b := byte('0'); b < '9'; b++ {
			if seen[b] {
				got += string(b)
			}
		}
		if got != want {
			t.Errorf("%s reached %q, want %q", addr, got, want)
		}
	}
	check("10.96.1.1:80", "2")
	check("10.96.1.2:80", "01")
	check("10.96.1.3:80", "012")
	apply(t, p, at(3, 0, 1, 2), at(3, 1))
	check("10.96.1.3:80", "1")
	apply(t, p, at(1, 2), at(1, 0, 1, 2))
	check("10.96.1.1:80", "012")
}
