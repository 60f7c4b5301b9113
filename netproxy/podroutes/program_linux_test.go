package podroutes

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// Three machines in network namespaces: a and b on one link, c behind a router.
type machine struct {
	name, ns string
	cfg      Config
	pod      netip.Addr // an address in the pod network, on the machine itself
}

func sh(t *testing.T, format string, args ...any) string {
	t.Helper()
	command := fmt.Sprintf(format, args...)
	out, err := exec.Command("sh", "-c", command).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

// inside runs f on a thread in the machine's network namespace; the thread ends with it.
func (m *machine) inside(t *testing.T, f func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is not to be used for anything else
		ns, err := os.Open("/var/run/netns/" + m.ns)
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
			ns.Close()
		}
		if err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

func machines(t *testing.T) []*machine {
	t.Helper()
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("network namespaces need root")
		}
		t.Skip("network namespaces need root")
	}
	id := fmt.Sprintf("pr%d", os.Getpid()%100000)
	all := []*machine{}
	for i, name := range []string{"a", "b", "c"} {
		m := &machine{name: name, ns: id + name, pod: netip.MustParseAddr(fmt.Sprintf("10.131.%d.5", i)),
			cfg: Config{Name: id, Node: name, PodCIDR: netip.MustParsePrefix(fmt.Sprintf("10.131.%d.0/24", i))}}
		all = append(all, m)
	}
	router := id + "r"
	t.Cleanup(func() {
		for _, ns := range []string{id + "a", id + "b", id + "c", router} {
			_ = exec.Command("ip", "netns", "del", ns).Run()
		}
		_ = os.RemoveAll("/run/pintle/" + id)
	})
	sh(t, "for n in a b c r; do ip netns add %s$n && ip -n %s$n link set lo up; done", id, id)
	sh(t, "ip -n %s link add br0 type bridge && ip -n %s link set br0 up && ip -n %s addr add 192.0.2.254/24 dev br0", router, router, router)
	sh(t, "ip netns exec %s sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'", router)
	for i, m := range all[:2] {
		sh(t, "ip -n %s link add p%d type veth peer name eth0 netns %s && ip -n %s link set p%d master br0 up", router, i, m.ns, router, i)
		sh(t, "ip -n %s addr add 192.0.2.%d/24 dev eth0 && ip -n %s link set eth0 up && ip -n %s route add default via 192.0.2.254", m.ns, i+1, m.ns, m.ns)
	}
	c := all[2]
	sh(t, "ip -n %s link add p2 type veth peer name eth0 netns %s && ip -n %s addr add 198.51.100.254/24 dev p2 && ip -n %s link set p2 up", router, c.ns, router, router)
	sh(t, "ip -n %s addr add 198.51.100.3/24 dev eth0 && ip -n %s link set eth0 up && ip -n %s route add default via 198.51.100.254", c.ns, c.ns, c.ns)
	for _, m := range all {
		sh(t, "ip -n %s addr add %s/32 dev lo", m.ns, m.pod)
	}
	return all
}

func TestPodsReachEachOtherAcrossMachines(t *testing.T) {
	all := machines(t)
	nodes := []*corev1.Node{node("a", "192.0.2.1", "10.131.0.0/24", 3), node("b", "192.0.2.2", "10.131.1.0/24", 2), node("c", "198.51.100.3", "10.131.2.0/24", 1)}
	apply := func(m *machine, nodes []*corev1.Node) {
		t.Helper()
		if err := m.inside(t, func() error {
			links, err := machineNetworks()
			if err != nil {
				return err
			}
			return program(m.cfg, peersOf(m.name, nodes, links))
		}); err != nil {
			t.Fatalf("%s: %v", m.name, err)
		}
	}
	for _, m := range all {
		apply(m, nodes)
		apply(m, nodes) // again, with everything there
	}
	for _, from := range all {
		for _, to := range all {
			if from != to {
				if err := greet(t, from, to); err != nil {
					t.Errorf("from a pod on %s to one on %s: %v", from.name, to.name, err)
				}
			}
		}
	}
	// Node b is gone: its route goes, and the others stay.
	a := all[0]
	sh(t, "ip -n %s route add 10.132.0.0/16 via 192.0.2.254", a.ns) // somebody else's
	apply(a, []*corev1.Node{nodes[0], nodes[2]})
	routes := sh(t, "ip -n %s route", a.ns)
	if strings.Contains(routes, "10.131.1.0/24") || !strings.Contains(routes, "10.131.2.0/24") || !strings.Contains(routes, "10.132.0.0/16") {
		t.Errorf("routes of a:\n%s", routes)
	}
	for _, m := range all {
		if err := m.inside(t, func() error { return teardown(m.cfg) }); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
	}
	if left := sh(t, "ip -n %s route; ip -n %s link", a.ns, a.ns); strings.Contains(left, "10.131.") || strings.Contains(left, "pintle") || !strings.Contains(left, "10.132.0.0/16") {
		t.Errorf("left on a:\n%s", left)
	}
}

// greet sends some bytes from a pod's address on one machine to one on another.
func greet(t *testing.T, from, to *machine) error {
	var l net.Listener
	if err := to.inside(t, func() (err error) {
		l, err = net.Listen("tcp", to.pod.String()+":0")
		return err
	}); err != nil {
		return err
	}
	defer l.Close()
	go func() {
		if conn, err := l.Accept(); err == nil {
			_, _ = io.Copy(conn, conn)
			conn.Close()
		}
	}()
	return from.inside(t, func() error {
		d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: from.pod.AsSlice()}}
		conn, err := d.Dial("tcp", l.Addr().String())
		if err != nil {
			return err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		said := strings.Repeat("x", 1<<16) // more than one packet of any size
		go func() { _, _ = io.WriteString(conn, said) }()
		heard := make([]byte, len(said))
		_, err = io.ReadFull(conn, heard)
		return err
	})
}
