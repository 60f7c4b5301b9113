package netproxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"))
}

func ptr[T any](v T) *T { return &v }

func run(t *testing.T, cfg Config) *Proxy {
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-p.Ready():
	case err := <-done:
		done <- err
		t.Fatalf("Run ended: %v", err)
	case <-time.After(20 * time.Second):
		t.Fatal("not ready")
	}
	return p
}

func objects(addr netip.AddrPort) (*corev1.Service, *discoveryv1.EndpointSlice, *networkingv1.Ingress) {
	meta := metav1.ObjectMeta{Namespace: "default", Name: "web"}
	svc := &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{ClusterIP: "10.96.33.7", Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}}}
	sl := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: ptr("http"), Port: ptr(int32(addr.Port())), Protocol: ptr(corev1.ProtocolTCP)}},
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{addr.Addr().String()}, Conditions: discoveryv1.EndpointConditions{Ready: ptr(true)}}}}
	ing := &networkingv1.Ingress{ObjectMeta: meta, Spec: networkingv1.IngressSpec{DefaultBackend: &networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: "web", Port: networkingv1.ServiceBackendPort{Name: "http"}}}}}
	return svc, sl, ing
}

func server(t *testing.T) netip.AddrPort {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })}
	go s.Serve(ln)
	t.Cleanup(func() { s.Close() })
	return netip.MustParseAddrPort(ln.Addr().String())
}

func get(t *testing.T, url string) (string, error) {
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: tr, Timeout: 5 * time.Second}).Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

func TestUserspaceServesServiceDNSAndIngressAndDrains(t *testing.T) {
	addr := server(t)
	svc, sl, ing := objects(addr)
	client := fake.NewClientset(svc, sl, ing)
	p := run(t, Config{Client: client, Name: "test", NodeName: "n", Mode: Userspace, DNSServiceIP: netip.MustParseAddr("10.96.0.10"),
		Ingress: IngressConfig{HTTPAddress: "127.0.0.1:0"}, NodeIPs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}})
	at := map[string]netip.AddrPort{}
	for _, m := range p.Mapping() {
		at[m.PortName+string(m.Protocol)+m.Address.String()] = m.StandIn
	}
	if got, err := get(t, "http://"+at["httpTCP10.96.33.7:80"].String()); got != "hello" {
		t.Errorf("Service: %q %v; %v", got, err, at)
	}
	var got string
	var err error
	for range 200 { // the ingress is compiled beside the services
		if got, err = get(t, "http://"+at["httpTCP0.0.0.0:80"].String()); got == "hello" {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if got != "hello" {
		t.Errorf("Ingress: %q %v", got, err)
	}
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, n, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, n, at["dnsUDP10.96.0.10:53"].String())
	}}
	if ips, err := r.LookupHost(context.Background(), "web.default.svc.cluster.local."); err != nil || len(ips) != 1 || ips[0] != "10.96.33.7" {
		t.Errorf("DNS: %v %v", ips, err)
	}

	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := p.Drained(ctx, addr.Addr()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Drained of a ready endpoint: %v", err)
	}
	if err := p.Drained(context.Background(), netip.MustParseAddr("192.0.2.77")); err != nil {
		t.Error(err)
	}
	sl = sl.DeepCopy()
	sl.Endpoints = nil
	if _, err := client.DiscoveryV1().EndpointSlices("default").Update(context.Background(), sl, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := p.Drained(context.Background(), addr.Addr()); err != nil {
		t.Error(err)
	}
	if got, err := get(t, "http://"+at["httpTCP10.96.33.7:80"].String()); err == nil {
		t.Errorf("a drained endpoint answered %q", got)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, cfg := range []Config{{}, {Client: fake.NewClientset()}, {Client: fake.NewClientset(), Name: "x", Mode: "y"}, {Client: fake.NewClientset(), Name: "x", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("fd00::/8")}}} {
		if _, err := New(cfg); err == nil {
			t.Errorf("accepted %+v", cfg)
		}
	}
}
