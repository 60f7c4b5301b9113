package pki

import (
	"crypto/x509"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clocktesting "k8s.io/utils/clock/testing"
)

func TestCertificatesStayGoodForTenYears(t *testing.T) {
	clock := clocktesting.NewFakePassiveClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	ca, err := NewCA("test-ca", clock)
	if err != nil {
		t.Fatal(err)
	}
	source := ca.Rotating(ServerRequest("kube-apiserver", "kubernetes.default.svc", "10.0.0.1"))
	issued := map[string]bool{}
	for day := range 3650 {
		cert, err := source.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(cert.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		issued[leaf.SerialNumber.String()] = true
		if day%30 == 0 {
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: ca.Pool(), DNSName: "10.0.0.1", CurrentTime: clock.Now()}); err != nil {
				t.Fatalf("day %d: %v", day, err)
			}
		}
		if left := leaf.NotAfter.Sub(clock.Now()); left < 100*24*time.Hour {
			t.Fatalf("day %d: only %s left", day, left)
		}
		clock.SetTime(clock.Now().Add(24 * time.Hour))
	}
	if len(issued) < 10 || len(issued) > 20 {
		t.Fatalf("issued %d certificates in ten years", len(issued))
	}
}

func TestCAIsKept(t *testing.T) {
	dir := t.TempDir()
	a, err := Load(dir, "ca", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Load(dir, "ca", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if string(a.CertPEM()) != string(b.CertPEM()) || string(a.KeyPEM()) != string(b.KeyPEM()) {
		t.Fatal("the second load made another CA")
	}
	k1, err := LoadKey(dir+"/sa.key", nil)
	if err != nil {
		t.Fatal(err)
	}
	k2, err := LoadKey(dir+"/sa.key", nil)
	if err != nil || !k1.Equal(k2) {
		t.Fatalf("the key was not kept: %v", err)
	}
}

func TestKubeconfigLoads(t *testing.T) {
	ca, err := NewCA("ca", nil)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue(ClientRequest("admin", "system:masters"))
	if err != nil {
		t.Fatal(err)
	}
	data, err := Kubeconfig{Cluster: "c", Server: "https://127.0.0.1:6443", CAPEM: ca.CertPEM(), Client: pair}.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := clientcmd.RESTConfigFromKubeConfig(data)
	if err != nil || cfg.Host != "https://127.0.0.1:6443" || len(cfg.CertData) == 0 {
		t.Fatalf("%v %v", cfg, err)
	}
}
