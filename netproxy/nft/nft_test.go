//go:build linux

package nft

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/netproxy/services"
)

// ns is a network namespace that lives until the test ends.
type ns struct {
	t  testing.TB
	fd int
}

func needRoot(t testing.TB) {
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("CI=true but not root: the nft data plane can't be tested")
	}
	t.Skip("needs root for network namespaces")
}

func newNS(t testing.TB) *ns {
	n := &ns{t: t}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			n.fd, err = unix.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("new network namespace: %v", err)
	}
	t.Cleanup(func() { unix.Close(n.fd) })
	n.do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
	return n
}

// try runs f on a thread inside the namespace.
func (n *ns) try(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Setns(n.fd, unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

func (n *ns) do(f func() error) {
	n.t.Helper()
	if err := n.try(f); err != nil {
		n.t.Fatal(err)
	}
}

// world is a node with a bridge (or routed links) and pods behind it.
type world struct {
	t    testing.TB
	node *ns
	pods []*ns
}

func podIP(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 244, 0, byte(10 + i)}) }

func newWorld(t testing.TB, pods int, bridged bool) *world {
	needRoot(t)
	w := &world{t: t, node: newNS(t)}
	gw := &net.IPNet{IP: net.IPv4(10, 244, 0, 1).To4(), Mask: net.CIDRMask(24, 32)}
	var br netlink.Link
	w.node.do(func() error {
		if err := os.WriteFile(fmt.Sprintf("/proc/self/task/%d/net/../../../../sys/net/ipv4/ip_forward", unix.Gettid()), []byte("1"), 0o644); err != nil {
			if err := exec.Command("sysctl", "-qw", "net.ipv4.ip_forward=1").Run(); err != nil {
				return err
			}
		}
		if bridged {
			if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}); err != nil {
				return err
			}
			br, _ = netlink.LinkByName("br0")
			if err := errors.Join(netlink.AddrAdd(br, &netlink.Addr{IPNet: gw}), netlink.LinkSetUp(br)); err != nil {
				return err
			}
		}
		lo, _ := netlink.LinkByName("lo")
		// A route for Service addresses, as a default route would be.
		return netlink.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: mustCIDR("10.96.0.0/16"), Src: nil})
	})
	for i := range pods {
		pod := newNS(t)
		w.pods = append(w.pods, pod)
		w.node.do(func() error {
			name := fmt.Sprintf("v%d", i)
			if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "eth0", PeerNamespace: netlink.NsFd(pod.fd)}); err != nil {
				return err
			}
			l, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			if bridged {
				err = errors.Join(netlink.LinkSetMaster(l, br), netlink.LinkSetHairpin(l, true))
			} else {
				err = errors.Join(netlink.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: gw.IP, Mask: net.CIDRMask(32, 32)}}))
			}
			if err = errors.Join(err, netlink.LinkSetUp(l)); err != nil || bridged {
				return err
			}
			return netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: mustCIDR(podIP(i).String() + "/32"), Scope: netlink.SCOPE_LINK})
		})
		pod.do(func() error {
			l, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			mask := 24
			if !bridged {
				mask = 32
			}
			if err := errors.Join(netlink.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: podIP(i).AsSlice(), Mask: net.CIDRMask(mask, 32)}}), netlink.LinkSetUp(l)); err != nil {
				return err
			}
			if !bridged {
				if err := netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: mustCIDR("10.244.0.1/32"), Scope: netlink.SCOPE_LINK}); err != nil {
					return err
				}
			}
			return netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: gw.IP})
		})
	}
	return w
}

func mustCIDR(s string) *net.IPNet {
	_, n, err := net.ParseCIDR(s)
	if err != nil {
		panic(err)
	}
	return n
}

// serve answers each TCP line and UDP datagram on port 8080 with the pod's number and who asked.
func (w *world) serve(i int) {
	w.pods[i].do(func() error {
		ln, err := net.Listen("tcp4", fmt.Sprintf("%s:8080", podIP(i)))
		if err != nil {
			return err
		}
		pc, err := net.ListenPacket("udp4", fmt.Sprintf("%s:8080", podIP(i)))
		if err != nil {
			return err
		}
		w.t.Cleanup(func() { ln.Close(); pc.Close() })
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					buf := make([]byte, 64)
					for {
						if _, err := c.Read(buf); err != nil {
							return
						}
						host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
						fmt.Fprintf(c, "%d %s", i, host)
					}
				}()
			}
		}()
		go func() {
			buf := make([]byte, 64)
			for {
				_, from, err := pc.ReadFrom(buf)
				if err != nil {
					return
				}
				pc.WriteTo(fmt.Appendf(nil, "%d", i), from)
			}
		}()
		return nil
	})
}

func (n *ns) dial(network, addr string) (c net.Conn, err error) {
	err = n.try(func() error {
		c, err = net.DialTimeout(network, addr, 3*time.Second)
		return err
	})
	return c, err
}

func ask(c net.Conn) (string, error) {
	c.SetDeadline(time.Now().Add(3 * time.Second))
	if _, err := c.Write([]byte("x")); err != nil {
		return "", err
	}
	buf := make([]byte, 64)
	n, err := c.Read(buf)
	return string(buf[:n]), err
}

func (n *ns) ask(network, addr string) (string, error) {
	c, err := n.dial(network, addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	return ask(c)
}

func testConfig(name string) Config {
	return Config{Name: name, ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")},
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}, DNSServiceIP: netip.MustParseAddr("10.96.0.10")}
}

func (w *world) proxy(name string) *Proxy {
	var p *Proxy
	w.node.do(func() (err error) { p, err = New(testConfig(name)); return err })
	w.t.Cleanup(func() { p.Close() })
	return p
}

func svc(mod func(*services.Service), pods ...int) *services.Service {
	var eps []netip.AddrPort
	for _, i := range pods {
		eps = append(eps, netip.AddrPortFrom(podIP(i), 8080))
	}
	s := &services.Service{Key: services.Key{Namespace: "d", Name: "web"}, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.5")},
		Ports: []services.Port{
			{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, NodePort: 30080, Cluster: eps, Internal: eps, External: eps},
			{Name: "udp", Protocol: corev1.ProtocolUDP, Port: 80, Cluster: eps, Internal: eps, External: eps}}}
	if mod != nil {
		mod(s)
	}
	return s
}

func apply(t testing.TB, p *Proxy, old, now *services.Service) {
	t.Helper()
	if err := p.Apply(context.Background(), []services.Change{{Old: old, New: now}}); err != nil {
		t.Fatal(err)
	}
}

func TestServicesReachEveryEndpointFromPodsAndHost(t *testing.T) {
	for _, bridged := range []bool{true, false} {
		t.Run(map[bool]string{true: "bridge", false: "routed"}[bridged], func(t *testing.T) {
			w := newWorld(t, 3, bridged)
			for i := range 3 {
				w.serve(i)
			}
			p := w.proxy("t")
			apply(t, p, nil, svc(nil, 0, 1, 2))
			for _, from := range []struct {
				name string
				ns   *ns
				addr string
			}{{"pod (hairpin included)", w.pods[0], "10.96.0.5:80"}, {"host", w.node, "10.96.0.5:80"}, {"pod to node port", w.pods[1], "10.244.0.1:30080"}, {"host to node port", w.node, "10.244.0.1:30080"}} {
				seen := map[string]bool{}
				for range 40 {
					got, err := from.ns.ask("tcp4", from.addr)
					if err != nil {
						t.Fatalf("%s: %v\n%s", from.name, err, w.ruleset())
					}
					seen[got[:1]] = true
				}
				if len(seen) != 3 {
					t.Errorf("%s reached %v of three endpoints", from.name, seen)
				}
			}
			if got, err := w.pods[2].ask("udp4", "10.96.0.5:80"); err != nil || got == "" {
				t.Errorf("UDP: %q %v", got, err)
			}
			if !bridged {
				apply(t, p, svc(nil, 0, 1, 2), svc(nil, 1))
				if got, err := w.pods[0].ask("tcp4", "10.96.0.5:80"); err != nil || got != "1 "+podIP(0).String() {
					t.Errorf("a routed pod's address is kept: %q %v", got, err)
				}
			}
		})
	}
}

func (w *world) ruleset() string {
	var out []byte
	w.node.try(func() error {
		out, _ = exec.Command("nft", "list", "ruleset").CombinedOutput()
		return nil
	})
	return string(out)
}

func TestNoEndpointsRejectsAtOnce(t *testing.T) {
	w := newWorld(t, 1, false)
	p := w.proxy("t")
	apply(t, p, nil, svc(nil))
	for _, from := range []*ns{w.pods[0], w.node} {
		for _, addr := range []string{"10.96.0.5:80", "10.96.0.5:81", "10.244.0.1:30080"} {
			start := time.Now()
			_, err := from.ask("tcp4", addr)
			if !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%s: %v after %v, want a refused connection", addr, err, time.Since(start))
			}
		}
		// The kernel tells a local sender of a datagram at once, with EPERM.
		if _, err := from.ask("udp4", "10.96.0.5:80"); !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.EPERM) {
			t.Errorf("UDP: %v, want refused", err)
		}
	}
}

func TestChangesKeepConnections(t *testing.T) {
	w := newWorld(t, 3, true)
	for i := range 3 {
		w.serve(i)
	}
	p := w.proxy("t")
	apply(t, p, nil, svc(nil, 0, 1))
	c, err := w.pods[2].dial("tcp4", "10.96.0.5:80")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	first, err := ask(c)
	if err != nil {
		t.Fatal(err)
	}
	step := func(what string) {
		t.Helper()
		if got, err := ask(c); err != nil || got != first {
			t.Fatalf("after %s: %q, %v; was %q", what, got, err, first)
		}
	}
	apply(t, p, svc(nil, 0, 1), svc(nil, 2))
	step("its endpoint left the service")
	for range 20 {
		if got, err := w.pods[2].ask("tcp4", "10.96.0.5:80"); err != nil || got[0] != '2' {
			t.Fatalf("a new connection went to %q, %v", got, err)
		}
	}
	p2 := w.proxy("t") // a restart: the table is replaced
	apply(t, p2, nil, svc(nil, 2))
	step("a restart")
	apply(t, p2, svc(nil, 2), nil)
	step("the service's deletion")
	if err := p2.Teardown(); err != nil {
		t.Fatal(err)
	}
	if rs := w.ruleset(); strings.Contains(rs, "pintle") {
		t.Errorf("left behind:\n%s", rs)
	}
}

func TestClientAffinityHoldsAndMovesWhenItsEndpointLeaves(t *testing.T) {
	w := newWorld(t, 4, false)
	for i := range 4 {
		w.serve(i)
	}
	p := w.proxy("t")
	sticky := func(s *services.Service) { s.Affinity = time.Hour }
	apply(t, p, nil, svc(sticky, 0, 1, 2))
	same := func(addr string) string {
		t.Helper()
		first, err := w.pods[3].ask("tcp4", addr)
		if err != nil {
			t.Fatalf("%v\n%s", err, w.ruleset())
		}
		for range 15 {
			if got, err := w.pods[3].ask("tcp4", addr); err != nil || got != first {
				t.Fatalf("%s: %q, %v; was %q", addr, got, err, first)
			}
		}
		return first
	}
	same("10.244.0.1:30080")
	first := same("10.96.0.5:80")
	left := []int{}
	for i := range 3 {
		if byte('0'+i) != first[0] {
			left = append(left, i)
		}
	}
	apply(t, p, svc(sticky, 0, 1, 2), svc(sticky, left...))
	if next := same("10.96.0.5:80"); next == first {
		t.Errorf("still sent to the endpoint that left")
	}
}

func TestUDPClientMovesWhenItsEndpointLeaves(t *testing.T) {
	w := newWorld(t, 3, false)
	for i := range 3 {
		w.serve(i)
	}
	p := w.proxy("t")
	apply(t, p, nil, svc(nil, 0))
	c, err := w.pods[2].dial("udp4", "10.96.0.5:80")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := ask(c); err != nil || got != "0" {
		t.Fatalf("%q %v", got, err)
	}
	w.node.do(func() error { apply(t, p, svc(nil, 0), svc(nil, 1)); return nil })
	if got, err := ask(c); err != nil || got != "1" {
		t.Errorf("the same socket after the change: %q %v", got, err)
	}
}

func TestTwoTablesAndStrangersLiveSideBySide(t *testing.T) {
	w := newWorld(t, 2, false)
	w.serve(0)
	w.node.do(func() error {
		return exec.Command("nft", "add table ip stranger; add chain ip stranger c { type filter hook input priority 0; }").Run()
	})
	a, b := w.proxy("a"), w.proxy("b")
	other := func(s *services.Service) {
		s.ClusterIPs = []netip.Addr{netip.MustParseAddr("10.97.0.5")}
		s.Ports[0].NodePort = 30081
	}
	b.cfg.ServiceCIDRs = []netip.Prefix{netip.MustParsePrefix("10.97.0.0/16")}
	apply(t, a, nil, svc(nil, 0))
	apply(t, b, nil, svc(other, 0))
	for _, addr := range []string{"10.96.0.5:80", "10.97.0.5:80", "10.244.0.1:30080", "10.244.0.1:30081"} {
		if got, err := w.pods[1].ask("tcp4", addr); err != nil || got[0] != '0' {
			t.Errorf("%s: %q %v", addr, got, err)
		}
	}
	if err := a.Teardown(); err != nil {
		t.Fatal(err)
	}
	rs := w.ruleset()
	if strings.Contains(rs, "pintle-a") || !strings.Contains(rs, "pintle-b") || !strings.Contains(rs, "stranger") {
		t.Errorf("ruleset:\n%s", rs)
	}
}

func TestManyServicesFitOneTransaction(t *testing.T) {
	needRoot(t)
	n := newNS(t)
	n.do(func() error {
		p, err := New(testConfig("many"))
		if err != nil {
			return err
		}
		defer p.Close()
		if err := p.Apply(context.Background(), manyServices(10_000)); err != nil {
			return err
		}
		out, err := exec.Command("nft", "list", "map", "ip", "pintle-many", "endpoints").CombinedOutput()
		if got := bytes.Count(out, []byte(" : ")); err != nil || got < 30_000 {
			t.Errorf("nft lists %d endpoints, %v: %s", got, err, out[:min(500, len(out))])
		}
		return p.Teardown()
	})
}

func manyServices(n int) []services.Change {
	out := make([]services.Change, n)
	for i := range out {
		out[i] = services.Change{New: oneOf(i)}
	}
	return out
}

func oneOf(i int) *services.Service {
	var eps []netip.AddrPort
	for e := range 3 {
		j := i*3 + e
		eps = append(eps, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, byte(j >> 8), byte(j)}), 8080))
	}
	return &services.Service{Key: services.Key{Namespace: "d", Name: fmt.Sprint("s", i)},
		ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(1 + i>>8), byte(i)})},
		Ports:      []services.Port{{Protocol: corev1.ProtocolTCP, Port: 80, Cluster: eps, Internal: eps, External: eps}}}
}

func BenchmarkProgram10000Services(b *testing.B) {
	needRoot(b)
	n := newNS(b)
	all := manyServices(10_000)
	n.do(func() error {
		for b.Loop() {
			p, err := New(testConfig("bench"))
			if err != nil {
				return err
			}
			if err := p.Apply(context.Background(), all); err != nil {
				return err
			}
			b.StopTimer()
			if err := errors.Join(p.Teardown(), p.Close()); err != nil {
				return err
			}
			b.StartTimer()
		}
		return nil
	})
}

func BenchmarkOneMoreServiceOn10000(b *testing.B) {
	needRoot(b)
	n := newNS(b)
	n.do(func() error {
		p, err := New(testConfig("bench"))
		if err != nil {
			return err
		}
		defer p.Close()
		if err := p.Apply(context.Background(), manyServices(10_000)); err != nil {
			return err
		}
		i := 10_000
		for b.Loop() {
			if err := p.Apply(context.Background(), []services.Change{{New: oneOf(i)}}); err != nil {
				return err
			}
			i++
		}
		return nil
	})
}
