package netproxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/pintle/pintle/netproxy/services"
)

// 50 clients of a Service's address and 50 of its node port come through nftables while there is no pod. None fails, and
// those that come later go past user space.
func TestNFTHoldsWhatComesForAServiceAtZero(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI=true but not root")
		}
		t.Skip("needs root for network namespaces")
	}
	ns := make(chan int, 1)
	go func() {
		runtime.LockOSThread() // never unlocked
		fd := -1
		if unix.Unshare(unix.CLONE_NEWNET) == nil && exec.Command("sh", "-c", "ip link set lo up; ip addr add 192.0.2.9/32 dev lo").Run() == nil {
			fd, _ = unix.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		ns <- fd
	}()
	fd := <-ns
	if fd < 0 {
		t.Fatal("no network namespace")
	}
	defer unix.Close(fd)
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
	dial := func(ctx context.Context, network, address string) (c net.Conn, err error) {
		err = inside(func() (err error) {
			c, err = (&net.Dialer{Timeout: 20 * time.Second}).DialContext(ctx, network, address)
			return err
		})
		return c, err
	}
	var ln net.Listener
	if err := inside(func() (err error) { ln, err = net.Listen("tcp4", "192.0.2.9:0"); return err }); err != nil {
		t.Fatal(err)
	}
	backend := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })}
	go backend.Serve(ln)
	defer backend.Close()

	svc, sl, _ := objects(netip.MustParseAddrPort(ln.Addr().String()))
	svc.Annotations = map[string]string{services.AnnotationScaleToZero: "1m"}
	svc.Spec.Type, svc.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, 30080
	ready := sl.DeepCopy()
	sl.Endpoints = nil
	client := fake.NewClientset(svc, sl)
	ctx, cancel := context.WithCancel(context.Background())
	started, done := make(chan *Proxy, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked
		err := unix.Setns(fd, unix.CLONE_NEWNET)
		var p *Proxy
		if err == nil {
			p, err = New(Config{Client: client, Name: "zero", NodeName: "n", Mode: NFT, DNSServiceIP: netip.MustParseAddr("10.96.0.10"), DNSUpstreams: []netip.AddrPort{}, Dial: dial,
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
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	select {
	case <-p.Ready():
	case err := <-done:
		done <- nil
		t.Fatalf("Run ended: %v", err)
	}
	ask := func(at string) func() (string, error) {
		return func() (string, error) {
			tr := &http.Transport{DisableKeepAlives: true, DialContext: dial}
			resp, err := (&http.Client{Transport: tr, Timeout: 30 * time.Second}).Get("http://" + at + "/")
			if err != nil {
				return "", err
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			return string(b), err
		}
	}
	crowds := make(chan error, 2)
	for _, at := range []string{"10.96.33.7:80", "192.0.2.9:30080"} {
		go func() { crowds <- crowd(t, 50, ask(at)) }()
	}
	demand(t, client)
	setEndpoints(t, client, ready)
	for range 2 {
		if err := <-crowds; err != nil {
			t.Error(err)
		}
	}
	// The rules were changed after those that waited went on; what they say now is the pod's own address.
	at := netip.MustParseAddrPort(ln.Addr().String())
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		var rules []byte
		inside(func() error {
			rules, _ = exec.Command("nft", "list", "map", "ip", "pintle-zero", "endpoints").CombinedOutput()
			return nil
		})
		if strings.Contains(string(rules), fmt.Sprintf("%s . %d", at.Addr(), at.Port())) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the rules are\n%s", rules)
		}
	}
	if got, err := ask("10.96.33.7:80")(); got != "hello" || err != nil {
		t.Errorf("%q %v", got, err)
	}
	list := []*services.Service{services.Resolve(svc, nil, "n")}
	if used, err := p.rules.Used(list); err != nil || time.Since(used[list[0].Key]) > 20*time.Second {
		t.Errorf("used %v %v", used, err)
	}
}
