package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"k8s.io/utils/clock"

	"github.com/pintle/pintle/internal/pki"
)

// fakeHost is a cluster of one invitation.
type fakeHost struct {
	ca    *pki.CA
	token Token

	mu    sync.Mutex
	added map[string]string
}

func (h *fakeHost) Invited(_ context.Context, id, secret string, role Role) error {
	if id != h.token.ID || secret != h.token.Secret || role != RoleMember && role != RoleNode {
		return ErrNotInvited
	}
	return nil
}

func (h *fakeHost) Grant() (Grant, error) {
	return Grant{Name: "test", CACert: h.ca.CertPEM(), CAKey: h.ca.KeyPEM(), ServiceCIDR: "10.96.0.0/16"}, nil
}

func (h *fakeHost) AddMember(_ context.Context, member, address string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.added[member] = address
	return nil
}

func (h *fakeHost) AdmitNode(_ context.Context, name string, csr []byte, renewal bool) (Admission, error) {
	if name == "taken" && !renewal {
		return Admission{}, Refusal{"another machine is node taken"}
	}
	cert, err := h.ca.Sign(NodeRequest(name), csr)
	if err != nil {
		return Admission{}, err
	}
	proxy, err := h.ca.Sign(ProxyRequest(), csr)
	return Admission{CACert: h.ca.CertPEM(), Certificate: cert, ProxyCertificate: proxy, Cluster: "test"}, err
}

func (h *fakeHost) Drained(_ context.Context, address netip.Addr) error {
	if address != netip.MustParseAddr("10.0.0.7") {
		return errors.New("another address was expected")
	}
	return nil
}

// start serves a port with every protocol, as the orchestrator does.
func start(t *testing.T, name string) (host *fakeHost, port *Port, identity Identity) {
	return startAt(t, name, clock.RealClock{})
}

func startAt(t *testing.T, name string, now clock.PassiveClock) (host *fakeHost, port *Port, identity Identity) {
	t.Helper()
	ca, err := pki.NewCA(name, now)
	if err != nil {
		t.Fatal(err)
	}
	token, err := NewToken(ca.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	host = &fakeHost{ca: ca, token: token, added: map[string]string{}}
	identity = Identity{Certificate: ca.Rotating(MemberRequest("a", "")), CA: ca.Pool(), Now: now.Now}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	api := &tls.Config{GetCertificate: ca.Rotating(pki.ServerRequest("api", "127.0.0.1", apiHost)).GetCertificate, NextProtos: []string{"h2", "http/1.1"}}
	port = NewPort(l, ServerConfig(api, identity, ca.Certificate()), nil)
	joins, raft, web := port.Listen(ProtocolJoin), port.Listen(ProtocolRaft), port.API()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := port.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	running.Go(func() {
		if err := ServeJoin(ctx, joins, host, nil); err != nil {
			t.Error(err)
		}
	})
	running.Go(func() { // an echo of a member's store
		for {
			conn, err := raft.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(conn, conn)
			conn.Close()
		}
	})
	server := &http.Server{TLSConfig: api, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) })}
	running.Go(func() { _ = server.Serve(web) })
	t.Cleanup(func() {
		cancel()
		server.Close()
		running.Wait()
		goleak.VerifyNone(t, goleak.IgnoreCurrent())
	})
	return host, port, identity
}

func TestOnePortServesEveryProtocol(t *testing.T) {
	host, port, identity := start(t, "one")
	links := NewLinks(nil, identity, nil)
	conn, err := links.Dial(t.Context(), port.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "ping")
	answer := make([]byte, 4)
	if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "ping" {
		t.Fatalf("raft: %q %v", answer, err)
	}
	conn.Close()
	for _, h2 := range []bool{true, false} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: host.ca.Pool()}, ForceAttemptHTTP2: h2, DisableKeepAlives: true}
		response, err := (&http.Client{Transport: transport}).Get("https://" + port.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if want := map[bool]string{true: "HTTP/2.0", false: "HTTP/1.1"}[h2]; string(body) != want {
			t.Errorf("API: %s, want %s", body, want)
		}
		transport.CloseIdleConnections()
	}
	if _, err := tls.Dial("tcp", port.Addr().String(), &tls.Config{RootCAs: host.ca.Pool(), NextProtos: []string{"other/1"}}); err == nil {
		t.Error("a protocol that nobody serves was accepted")
	}
}

func TestAMachineJoinsWithAToken(t *testing.T) {
	host, port, _ := start(t, "one")
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	addresses := []string{dead.Addr().String(), port.Addr().String()}
	token, err := ParseToken(host.token.String())
	if err != nil {
		t.Fatal(err)
	}
	grant, err := JoinMember(t.Context(), addresses, token, nil)
	if err != nil || grant.Name != "test" {
		t.Fatalf("%+v %v", grant, err)
	}
	ca, err := pki.ParseCA(grant.CACert, grant.CAKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := Identity{Certificate: ca.Rotating(MemberRequest("b", "")), CA: ca.Pool()}
	if err := Announce(t.Context(), addresses, b, "b", "10.0.0.2:6443"); err != nil || host.added["b"] != "10.0.0.2:6443" {
		t.Fatalf("%v %v", host.added, err)
	}
	var refusal Refusal
	if err := Announce(t.Context(), addresses, b, "a", "10.0.0.2:6443"); !errors.As(err, &refusal) {
		t.Errorf("b moved a: %v", err)
	}

	key, _ := pki.NewKey()
	csr, _ := pki.NewCSR(key, "whatever")
	admission, err := JoinNode(t.Context(), addresses, token, "n1", csr, nil)
	if err != nil {
		t.Fatal(err)
	}
	keyPEM, _ := pki.MarshalKey(key)
	present, err := tls.X509KeyPair(admission.Certificate, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	if name := NodeName(present.Leaf.Subject.CommonName, present.Leaf.Subject.Organization); name != "n1" {
		t.Errorf("the certificate is for %q", name)
	}
	if _, err := RenewNode(t.Context(), addresses, ca.Pool(), present, "n1", csr, nil); err != nil {
		t.Error(err)
	}
	if _, err := RenewNode(t.Context(), addresses, ca.Pool(), present, "n2", csr, nil); !errors.As(err, &refusal) {
		t.Errorf("n1 became n2: %v", err)
	}
	if _, err := JoinNode(t.Context(), addresses, token, "taken", csr, nil); !errors.As(err, &refusal) || !strings.Contains(err.Error(), "another machine") {
		t.Errorf("a taken name: %v", err)
	}
	// A node is no member: it may not speak to the stores.
	nodeConfig := &tls.Config{RootCAs: ca.Pool(), ServerName: memberHost, NextProtos: []string{ProtocolRaft}, Certificates: []tls.Certificate{present}}
	if conn, err := tls.Dial("tcp", port.Addr().String(), nodeConfig); err == nil {
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("a node reached the store")
		}
		conn.Close()
	}
}

func TestWhoIsNotInvitedStaysOut(t *testing.T) {
	host, port, _ := start(t, "one")
	other, otherPort, _ := start(t, "two")
	addresses := []string{port.Addr().String()}
	wrong := host.token
	wrong.Secret = "aaaaaaaaaaaaaaaa"
	if _, err := JoinMember(t.Context(), addresses, wrong, nil); !errors.Is(err, ErrNotInvited) {
		t.Errorf("a wrong secret: %v", err)
	}
	// The other cluster hears nothing of the secret: the pin is checked in the handshake.
	if _, err := JoinMember(t.Context(), []string{otherPort.Addr().String()}, host.token, nil); err == nil || !strings.Contains(err.Error(), "another cluster") {
		t.Errorf("an impostor: %v", err)
	}
	if err := Announce(t.Context(), addresses, Identity{Certificate: other.ca.Rotating(MemberRequest("x", "")), CA: host.ca.Pool()}, "x", "y"); err == nil {
		t.Error("the member of another cluster was let in")
	}
	if len(host.added) != 0 {
		t.Errorf("added: %v", host.added)
	}
}

func TestTokensThatMakeNoSense(t *testing.T) {
	for _, text := range []string{"", "x", "pintle1.00.abcdef.0123456789abcdef", "pintle1." + strings.Repeat("0", 64) + ".ABCDEF.0123456789abcdef",
		"pintle1." + strings.Repeat("z", 64) + ".abcdef.0123456789abcdef", "pintle1." + strings.Repeat("0", 64) + ".abcdef.short"} {
		if _, err := ParseToken(text); err == nil {
			t.Errorf("%q was taken for a token", text)
		}
	}
}
