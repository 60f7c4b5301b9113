package netproxy

import (
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

	"golang.org/x/sys/unix"
	"k8s.io/client-go/kubernetes/fake"
)

// TestNFTModeOnAHostWithoutRoutes runs a whole Proxy in a network namespace that has nothing but
// a loopback interface.
func TestNFTModeOnAHostWithoutRoutes(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI=true but not root")
		}
		t.Skip("needs root for network namespaces")
	}
	svc, sl, _ := objects(netip.MustParseAddrPort("127.0.0.1:1"))
	sl.Endpoints = nil
	client := fake.NewClientset(svc, sl)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var fd int
	started, done := make(chan *Proxy, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = exec.Command("ip", "link", "set", "lo", "up").Run()
		}
		if err == nil {
			fd, err = unix.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		var p *Proxy
		if err == nil {
			p, err = New(Config{Client: client, Name: "whole", NodeName: "n", Mode: NFT, DNSServiceIP: netip.MustParseAddr("10.96.0.10"), DNSUpstreams: []netip.AddrPort{},
				ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")}, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}})
		}
		started <- p
		if err == nil {
			err = p.Run(ctx)
		}
		done <- err
	}()
	p := <-started
	if p == nil {
		t.Fatal(<-done)
	}
	defer unix.Close(fd)
	select {
	case <-p.Ready():
	case err := <-done:
		t.Fatalf("Run ended: %v", err)
	}
	inside := func(f func() error) error {
		ch := make(chan error)
		go func() {
			runtime.LockOSThread()
			err := unix.Setns(fd, unix.CLONE_NEWNET)
			if err == nil {
				err = f()
			}
			ch <- err
		}()
		return <-ch
	}
	var c net.Conn
	if err := inside(func() (err error) { c, err = net.Dial("udp4", "10.96.0.10:53"); return err }); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return c, nil }}
	if ips, err := r.LookupIP(ctx, "ip4", "web.default.svc.cluster.local."); err != nil || len(ips) != 1 {
		t.Errorf("DNS through the Service address: %v %v", ips, err)
	}
	err := inside(func() error { _, err := net.DialTimeout("tcp4", "10.96.33.7:80", 3*time.Second); return err })
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a Service without endpoints: %v", err)
	}
	// Somebody flushes everything, as a reload of nftables.service does: the rules come back by themselves.
	if err := inside(func() error { return exec.Command("nft", "flush", "ruleset").Run() }); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		var list []byte
		inside(func() error { list, _ = exec.Command("nft", "list", "tables").CombinedOutput(); return nil })
		if strings.Contains(string(list), "pintle-whole") {
			break
		}
		if time.Now().After(deadline) {
			t.Error("the table didn't come back")
			break
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	var left []byte
	inside(func() error {
		left, _ = exec.Command("sh", "-c", "nft list ruleset; ip -4 addr show; ip route").CombinedOutput()
		return nil
	})
	if s := string(left); strings.Contains(s, "pintle") || strings.Contains(s, "10.96") {
		t.Errorf("left behind:\n%s", s)
	}
}
