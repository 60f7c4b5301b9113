package cluster

import (
	"context"
	"crypto/x509"
	"io"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/pintle/pintle/internal/pki"
)

func TestANodeKeepsItsCertificatesAndReachesWhoeverAnswers(t *testing.T) {
	host, port, _ := start(t, "one")
	dir := t.TempDir()
	cfg := NodeConfig{Name: "n1", Dir: dir, Token: host.token.String(), Servers: NewServers([]string{"127.0.0.1:1", port.Addr().String()})}
	n, err := NewNode(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Token = "" // not needed again
	if n, err = NewNode(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	transport := n.AgentConfig().Transport.(patient)
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Get("https://" + apiHost)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(response.Body)
	response.Body.Close()
	if string(body) != "HTTP/2.0" {
		t.Errorf("the API answered over %s", body)
	}
	if first := n.Servers().Addresses()[0]; first != port.Addr().String() {
		t.Errorf("the first server is still %s", first)
	}
	if err := n.Drained(t.Context(), netip.MustParseAddr("10.0.0.7")); err != nil {
		t.Error(err)
	}
	if err := n.Drained(t.Context(), netip.MustParseAddr("10.0.0.8")); err == nil {
		t.Error("an error of the cluster was lost")
	}
}

func TestServersAreTriedInTurnAndLearned(t *testing.T) {
	s := NewServers([]string{"a", "b"})
	s.prefer("b")
	s.Set([]string{"c", "a", "b"})
	if got := s.Addresses(); len(got) != 3 || got[0] != "b" || got[1] != "a" || got[2] != "c" {
		t.Errorf("addresses %v", got)
	}
	s.Set([]string{"c"})
	s.Set(nil)
	if got := s.Addresses(); len(got) != 1 || got[0] != "c" {
		t.Errorf("addresses %v", got)
	}
}

// Ten years pass, five days at a time; nothing is restarted.
func TestANodeRenewsItsCertificatesForTenYears(t *testing.T) {
	clock := clocktesting.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	host, port, _ := startAt(t, "one", clock)
	n, err := NewNode(t.Context(), NodeConfig{Name: "n1", Dir: t.TempDir(), Token: host.token.String(),
		Servers: NewServers([]string{port.Addr().String()}), Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = n.Run(ctx) })
	defer running.Wait()
	defer cancel()
	serials := map[string]bool{}
	end := clock.Now().AddDate(10, 0, 0)
	for clock.Now().Before(end) {
		waitFor(t, clock.HasWaiters)
		clock.Step(5 * 24 * time.Hour)
		// The renewal runs on the node's goroutine; it waits on the clock again when it is through.
		waitFor(t, clock.HasWaiters)
		leaf := n.agentCertificate().Leaf
		serials[leaf.SerialNumber.String()] = true
		for _, c := range []*x509.Certificate{leaf, n.proxyCertificate().Leaf} {
			if _, err := c.Verify(x509.VerifyOptions{Roots: host.ca.Pool(), CurrentTime: clock.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
				t.Fatalf("%s: %v", clock.Now(), err)
			}
		}
	}
	if len(serials) < 40 {
		t.Errorf("%d certificates in ten years", len(serials))
	}
	key, _ := pki.LoadKey(n.dir+"/"+fileNodeKey, nil)
	if !key.Equal(n.key) {
		t.Error("the key has changed")
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(50 * time.Microsecond) {
		if time.Now().After(end) {
			t.Fatal("it never came to be")
		}
	}
}
