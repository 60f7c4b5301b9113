package dns

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"testing"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/netproxy/services"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testZone() *Zone {
	z := NewZone("cluster.local")
	ep := func(ip, host string) services.Endpoint {
		return services.Endpoint{Addr: netip.AddrPortFrom(netip.MustParseAddr(ip), 8080), Hostname: host, Ready: true}
	}
	z.Apply([]services.Change{
		{New: &services.Service{Key: services.Key{Namespace: "default", Name: "web"}, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.5")},
			Ports: []services.Port{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}}}},
		{New: &services.Service{Key: services.Key{Namespace: "default", Name: "db"}, Headless: true,
			Ports: []services.Port{{Name: "sql", Protocol: corev1.ProtocolTCP, Port: 5432, Endpoints: []services.Endpoint{ep("10.244.0.7", "db-0"), ep("10.244.0.8", "")}}}}},
		{New: &services.Service{Key: services.Key{Namespace: "default", Name: "out"}, ExternalName: "example.org"}},
	})
	return z
}

func start(t testing.TB, z *Zone, up []netip.AddrPort) string {
	var udp *net.UDPConn
	var tcp net.Listener
	for { // the port that UDP got may be taken for TCP
		var err error
		if udp, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
			t.Fatal(err)
		}
		if tcp, err = net.Listen("tcp4", udp.LocalAddr().String()); err == nil {
			break
		}
		udp.Close()
	}
	if up == nil {
		up = []netip.AddrPort{udp.LocalAddr().(*net.UDPAddr).AddrPort()} // only ourselves: never asked
	}
	s, err := New(Config{Zone: z, UDP: []*net.UDPConn{udp}, TCP: []net.Listener{tcp}, Upstreams: up})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-s.Ready()
	return udp.LocalAddr().String()
}

func TestAnswers(t *testing.T) {
	addr := start(t, testZone(), nil)
	for _, c := range []struct {
		name  string
		qtype uint16
		want  string
	}{
		{"web.default.svc.cluster.local.", dns.TypeA, "NOERROR A 10.96.0.5"},
		{"WEB.Default.svc.cluster.local.", dns.TypeA, "NOERROR A 10.96.0.5"},
		{"web.default.svc.cluster.local.", dns.TypeAAAA, "NOERROR"},
		{"nope.default.svc.cluster.local.", dns.TypeA, "NXDOMAIN"},
		{"default.svc.cluster.local.", dns.TypeA, "NOERROR"},
		{"_http._tcp.web.default.svc.cluster.local.", dns.TypeSRV, "NOERROR SRV 80 web.default.svc.cluster.local."},
		{"db.default.svc.cluster.local.", dns.TypeA, "NOERROR A 10.244.0.7 A 10.244.0.8"},
		{"db-0.db.default.svc.cluster.local.", dns.TypeA, "NOERROR A 10.244.0.7"},
		{"10-244-0-8.db.default.svc.cluster.local.", dns.TypeA, "NOERROR A 10.244.0.8"},
		{"_sql._tcp.db.default.svc.cluster.local.", dns.TypeSRV, "NOERROR SRV 8080 db-0.db.default.svc.cluster.local. SRV 8080 10-244-0-8.db.default.svc.cluster.local."},
		{"out.default.svc.cluster.local.", dns.TypeA, "NOERROR CNAME example.org."},
		{"5.0.96.10.in-addr.arpa.", dns.TypePTR, "NOERROR PTR web.default.svc.cluster.local."},
		{"7.0.244.10.in-addr.arpa.", dns.TypePTR, "NOERROR PTR db-0.db.default.svc.cluster.local."},
		{"10-1-2-3.default.pod.cluster.local.", dns.TypeA, "NOERROR A 10.1.2.3"},
		{"300-1-2-3.default.pod.cluster.local.", dns.TypeA, "NXDOMAIN"},
		{"example.net.", dns.TypeA, "SERVFAIL"},
	} {
		for _, network := range []string{"udp", "tcp"} {
			m := new(dns.Msg).SetQuestion(c.name, c.qtype)
			m.SetEdns0(1232, false)
			r, _, err := (&dns.Client{Net: network}).Exchange(m, addr)
			if err != nil {
				t.Errorf("%s %s: %v", network, c.name, err)
				continue
			}
			got := dns.RcodeToString[r.Rcode]
			for _, rr := range r.Answer {
				switch x := rr.(type) {
				case *dns.A:
					got += " A " + x.A.String()
				case *dns.SRV:
					got += " SRV " + strconv.Itoa(int(x.Port)) + " " + x.Target
				case *dns.CNAME:
					got += " CNAME " + x.Target
				case *dns.PTR:
					got += " PTR " + x.Ptr
				}
			}
			if got != c.want {
				t.Errorf("%s %s %s: got %q, want %q", network, c.name, dns.TypeToString[c.qtype], got, c.want)
			}
			if r.Rcode == dns.RcodeNameError && (len(r.Ns) != 1 || r.Ns[0].Header().Rrtype != dns.TypeSOA) {
				t.Errorf("%s: no SOA with NXDOMAIN", c.name)
			}
		}
	}
}

func TestOtherNamesAreForwarded(t *testing.T) {
	up := NewZone("example.net")
	up.Apply([]services.Change{{New: &services.Service{Key: services.Key{Namespace: "n", Name: "s"}, ClusterIPs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}}})
	upstream := netip.MustParseAddrPort(start(t, up, nil))
	addr := start(t, testZone(), []netip.AddrPort{upstream})
	r, _, err := new(dns.Client).Exchange(new(dns.Msg).SetQuestion("s.n.svc.example.net.", dns.TypeA), addr)
	if err != nil || len(r.Answer) != 1 {
		t.Fatalf("%v %v", r, err)
	}
}

func TestExternalNamesAreFollowed(t *testing.T) {
	up := NewZone("example.net")
	up.Apply([]services.Change{{New: &services.Service{Key: services.Key{Namespace: "n", Name: "s"}, ClusterIPs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}}})
	upstream := netip.MustParseAddrPort(start(t, up, nil))
	z := testZone()
	external := func(name, to string) services.Change {
		return services.Change{New: &services.Service{Key: services.Key{Namespace: "default", Name: name}, ExternalName: to}}
	}
	z.Apply([]services.Change{external("outside", "s.n.svc.example.net"), external("inside", "web.default.svc.cluster.local"), external("twice", "outside.default.svc.cluster.local"),
		external("gone", "none.n.svc.example.net"), external("loop", "pool.default.svc.cluster.local"), external("pool", "loop.default.svc.cluster.local")})
	addr := start(t, z, []netip.AddrPort{upstream})
	for _, c := range []struct {
		name  string
		qtype uint16
		want  string
	}{
		{"outside", dns.TypeA, "NOERROR s.n.svc.example.net. 192.0.2.1"}, {"OutSide", dns.TypeA, "NOERROR s.n.svc.example.net. 192.0.2.1"},
		{"inside", dns.TypeA, "NOERROR web.default.svc.cluster.local. 10.96.0.5"}, {"inside", dns.TypeAAAA, "NOERROR web.default.svc.cluster.local."},
		{"twice", dns.TypeA, "NOERROR outside.default.svc.cluster.local. s.n.svc.example.net. 192.0.2.1"},
		{"gone", dns.TypeA, "NXDOMAIN none.n.svc.example.net."}, {"loop", dns.TypeA, "NOERROR pool.default.svc.cluster.local. loop.default.svc.cluster.local."},
		{"outside", dns.TypeCNAME, "NOERROR s.n.svc.example.net."}, {"outside", dns.TypeTXT, "NOERROR s.n.svc.example.net."},
	} {
		for _, network := range []string{"udp", "tcp"} {
			r, _, err := (&dns.Client{Net: network}).Exchange(new(dns.Msg).SetQuestion(c.name+".default.svc.cluster.local.", c.qtype), addr)
			if err != nil {
				t.Errorf("%s %s: %v", network, c.name, err)
				continue
			}
			got := dns.RcodeToString[r.Rcode]
			for _, rr := range r.Answer {
				switch x := rr.(type) {
				case *dns.A:
					got += " " + x.A.String()
				case *dns.CNAME:
					got += " " + x.Target
				}
			}
			if got != c.want {
				t.Errorf("%s %s %s: %q, want %q", network, c.name, dns.TypeToString[c.qtype], got, c.want)
			}
		}
	}
}

// A server that knows nothing yet must not deny names: clients would remember that.
func TestNothingIsDeniedBeforeTheFirstState(t *testing.T) {
	z := NewZone("cluster.local")
	addr := start(t, z, nil)
	q := new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA)
	if r, _, err := new(dns.Client).Exchange(q, addr); err != nil || r.Rcode != dns.RcodeServerFailure {
		t.Errorf("before: %v %v", r, err)
	}
	z.Apply(nil)
	if r, _, err := new(dns.Client).Exchange(q, addr); err != nil || r.Rcode != dns.RcodeNameError {
		t.Errorf("after: %v %v", r, err)
	}
}

func TestLargeAnswersAreTruncatedOverUDPOnly(t *testing.T) {
	z := NewZone("cluster.local")
	s := &services.Service{Key: services.Key{Namespace: "d", Name: "big"}, Headless: true, Ports: []services.Port{{Port: 1}}}
	for i := range 200 {
		s.Ports[0].Endpoints = append(s.Ports[0].Endpoints, services.Endpoint{Ready: true, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 1)})
	}
	z.Apply([]services.Change{{New: s}})
	addr := start(t, z, nil)
	q := new(dns.Msg).SetQuestion("big.d.svc.cluster.local.", dns.TypeA)
	r, _, err := new(dns.Client).Exchange(q, addr)
	if err != nil || !r.Truncated {
		t.Fatalf("udp: %v %v", r, err)
	}
	r, _, err = (&dns.Client{Net: "tcp"}).Exchange(q, addr)
	if err != nil || len(r.Answer) != 200 {
		t.Fatalf("tcp: %v %v", r, err)
	}
	z.Apply([]services.Change{{Old: s}})
	if len(z.names)+len(z.records)+len(z.ptrs)+len(z.owned) != 0 {
		t.Error("a deleted Service left answers")
	}
}

func FuzzAnswerNeverPanics(f *testing.F) {
	q, _ := new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA).Pack()
	f.Add(q)
	f.Add([]byte("\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01"))
	s := &Server{z: testZone()}
	f.Fuzz(func(t *testing.T, b []byte) {
		s.answer(b, nil, false)
		s.answer(b, make([]byte, 2), true)
	})
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	q, _ := new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA).Pack()
	s, out := &Server{z: testZone()}, make([]byte, 0, 512)
	if n := testing.AllocsPerRun(100, func() { s.answer(q, out, false) }); n != 0 {
		t.Errorf("%v allocations per answer", n)
	}
}

func BenchmarkAnswer(b *testing.B) {
	q, _ := new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA).Pack()
	s, out := &Server{z: testZone()}, make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		s.answer(q, out, false)
	}
}
