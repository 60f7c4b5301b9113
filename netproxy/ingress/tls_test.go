package ingress

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/pintle/pintle/netproxy/services"
)

func secretFor(t *testing.T, cn string, useRSA bool, names ...string) *corev1.Secret {
	var key crypto.Signer
	var err error
	if useRSA {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: cn}, DNSNames: names, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	k, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return &corev1.Secret{Type: corev1.SecretTypeTLS, Data: map[string][]byte{
		corev1.TLSCertKey: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), corev1.TLSPrivateKeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: k})}}
}

func TestCertificatesByNameAbilityAndChange(t *testing.T) {
	h := start(t)
	a, _ := backend(t, echo())
	h.c.SetServices([]services.Change{{New: svcAt("web", a)}})
	list := ing("a", nil, nil, path{"", "/", "web", ""})
	list.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{"a.org"}, SecretName: "ec"}, {Hosts: []string{"a.org"}, SecretName: "rsa"}, {Hosts: []string{"*.w.org"}, SecretName: "wild"},
		{SecretName: "names"}, {Hosts: []string{"bad.org"}, SecretName: "bad"}, {Hosts: []string{"missing.org"}, SecretName: "missing"}, {Hosts: []string{"none.org"}}}
	key := func(n string) services.Key { return services.Key{Namespace: "d", Name: n} }
	secrets := map[services.Key]*corev1.Secret{key("ec"): secretFor(t, "ec", false, "a.org"), key("rsa"): secretFor(t, "rsa", true, "a.org"), key("wild"): secretFor(t, "wild", false, "*.w.org"),
		key("names"): secretFor(t, "names", false, "n.org", "*.n.org"), key("bad"): {Data: map[string][]byte{corev1.TLSCertKey: []byte("x")}}}
	h.c.SetIngresses([]*networkingv1.Ingress{list}, nil, secrets)
	seen := func(name string, conf *tls.Config) string {
		t.Helper()
		conf.ServerName, conf.InsecureSkipVerify = name, true
		c, err := tls.Dial("tcp4", strings.TrimPrefix(h.https, "https://"), conf)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	const self = "Pintle Ingress default certificate"
	for name, want := range map[string]string{"a.org": "ec", "A.org": "ec", "x.w.org": "wild", "y.x.w.org": self, "w.org": self, "n.org": "names", "z.n.org": "names", "bad.org": self, "missing.org": self, "none.org": self, "other.org": self} {
		if got := seen(name, &tls.Config{}); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	rsaOnly := &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}
	if got := seen("a.org", rsaOnly); got != "rsa" {
		t.Errorf("a client that knows only RSA: %q", got)
	}
	h.c.mu.Lock()
	problems := fmt.Sprint(h.c.problems)
	h.c.mu.Unlock()
	if !strings.Contains(problems, "d/bad") || !strings.Contains(problems, "d/missing") {
		t.Errorf("problems: %s", problems)
	}

	// A new Secret counts for new connections; the old one goes on.
	c, err := tls.Dial("tcp4", strings.TrimPrefix(h.https, "https://"), &tls.Config{ServerName: "a.org", InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	secrets[key("ec")] = secretFor(t, "renewed", false, "a.org")
	h.c.SetIngresses([]*networkingv1.Ingress{list}, nil, secrets)
	if got := seen("a.org", &tls.Config{}); got != "renewed" {
		t.Errorf("after the renewal: %q", got)
	}
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a.org\r\nConnection: close\r\n\r\n")
	if b, err := io.ReadAll(c); !bytes.HasPrefix(b, []byte("HTTP/1.1 200")) {
		t.Errorf("the old connection: %q %v", b, err)
	}
}
