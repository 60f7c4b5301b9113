package ingress

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/netproxy/services"
)

// parsedCert remembers a Secret's key pair, so that an unchanged one isn't parsed again.
type parsedCert struct {
	crt, key []byte
	cert     *tls.Certificate
}

// certificatesLocked fills the state's certificates from the Ingresses' TLS sections.
func (c *Controller) certificatesLocked(st *state) []problem {
	st.exact, st.wild = map[string][]*tls.Certificate{}, map[string][]*tls.Certificate{}
	var problems []problem
	used := map[services.Key]*parsedCert{}
	for _, ing := range c.ingresses {
		complain := func(m string) {
			problems = append(problems, problem{services.Key{Namespace: ing.Namespace, Name: ing.Name}, m})
		}
		for _, t := range ing.Spec.TLS {
			if t.SecretName == "" {
				continue // the default certificate
			}
			k := services.Key{Namespace: ing.Namespace, Name: t.SecretName}
			sec := c.secrets[k]
			if sec == nil {
				complain("Secret " + k.String() + " for TLS is not there; the default certificate is served")
				continue
			}
			crt, key := sec.Data[corev1.TLSCertKey], sec.Data[corev1.TLSPrivateKeyKey]
			p := c.certs[k]
			if p == nil || !bytes.Equal(p.crt, crt) || !bytes.Equal(p.key, key) {
				pair, err := tls.X509KeyPair(crt, key)
				if err != nil {
					complain("Secret " + k.String() + " holds no usable certificate (" + err.Error() + "); the default certificate is served")
					continue
				}
				p = &parsedCert{crt, key, &pair}
			}
			used[k] = p
			hosts := t.Hosts
			if len(hosts) == 0 && p.cert.Leaf != nil {
				hosts = p.cert.Leaf.DNSNames
			}
			for _, h := range hosts {
				h = strings.ToLower(h)
				m := st.exact
				if strings.HasPrefix(h, "*.") {
					m, h = st.wild, h[1:]
				}
				// More than one, such as ECDSA and RSA: the client's abilities decide, the first wins.
				if !slices.Contains(m[h], p.cert) {
					m[h] = append(m[h], p.cert)
				}
			}
		}
	}
	c.certs = used
	return problems
}

func (c *Controller) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	st := c.state.Load()
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	for _, list := range [][]*tls.Certificate{st.exact[name], st.wild[afterLabel(name)]} {
		for _, cert := range list {
			if hello.SupportsCertificate(cert) == nil {
				return cert, nil
			}
		}
		if len(list) > 0 { // it doesn't fit; the client shall say why
			return list[0], nil
		}
	}
	return c.self, nil
}

// selfSigned makes the certificate for names without one. It lives as long as the process.
func selfSigned() (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "Pintle Ingress default certificate"}, DNSNames: []string{"ingress.local"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
