package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"

	"k8s.io/utils/clock"
)

const (
	// CALifetime is long because replacing a CA means touching every kubeconfig.
	CALifetime = 100 * 365 * 24 * time.Hour
	// DefaultLifetime is that of certificates whose request names none.
	DefaultLifetime = 365 * 24 * time.Hour
	// skew lets a machine whose clock is behind believe a certificate that was just made.
	skew = 10 * time.Minute
)

// CA signs certificates. It is immutable and safe for concurrent use.
type CA struct {
	cert    *x509.Certificate
	key     *ecdsa.PrivateKey
	certPEM []byte
	keyPEM  []byte
	clock   clock.PassiveClock
}

// NewCA makes a self-signed CA. A nil clock is the real one.
func NewCA(name string, c clock.PassiveClock) (*CA, error) {
	if c == nil {
		c = clock.RealClock{}
	}
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	now := c.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(CALifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("create CA %s: %w", name, err)
	}
	keyPEM, err := MarshalKey(key)
	if err != nil {
		return nil, err
	}
	return ParseCA(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), keyPEM, c)
}

// ParseCA reads a CA from PEM. It is an error when the certificate isn't a CA's or the key is
// another's.
func ParseCA(certPEM, keyPEM []byte, c clock.PassiveClock) (*CA, error) {
	if c == nil {
		c = clock.RealClock{}
	}
	block, _ := pem.Decode(certPEM)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("parse CA: no PEM certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse CA: %w", err)
	}
	if !cert.IsCA {
		return nil, fmt.Errorf("parse CA: the certificate of %q is not a CA's", cert.Subject.CommonName)
	}
	key, err := ParseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("parse CA: %w", err)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("parse CA: the key is not the certificate's")
	}
	return &CA{cert: cert, key: key, certPEM: bytes.Clone(certPEM), keyPEM: bytes.Clone(keyPEM), clock: c}, nil
}

// CertPEM is the CA's certificate, for kubeconfigs and kube-root-ca.crt.
func (c *CA) CertPEM() []byte { return bytes.Clone(c.certPEM) }

// KeyPEM is the CA's private key. Who has it is the cluster.
func (c *CA) KeyPEM() []byte { return bytes.Clone(c.keyPEM) }

// Certificate is the parsed certificate; it must not be changed.
func (c *CA) Certificate() *x509.Certificate { return c.cert }

// Pool holds the CA alone.
func (c *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(c.cert)
	return pool
}

// Request says what certificate is wanted.
type Request struct {
	CommonName    string
	Organizations []string
	DNSNames      []string
	IPs           []net.IP
	// Server and Client are the uses; one at least.
	Server, Client bool
	Lifetime       time.Duration // 0: DefaultLifetime; never past the CA's own end
}

// ServerRequest asks for a server certificate for names, each a DNS name or an IP address.
func ServerRequest(commonName string, names ...string) Request {
	r := Request{CommonName: commonName, Server: true}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			r.IPs = append(r.IPs, ip)
		} else {
			r.DNSNames = append(r.DNSNames, name)
		}
	}
	return r
}

// ClientRequest asks for a certificate with which a client is user, a member of groups.
func ClientRequest(user string, groups ...string) Request {
	return Request{CommonName: user, Organizations: groups, Client: true}
}

// Pair is a certificate with its key.
type Pair struct {
	CertPEM, KeyPEM []byte
	NotBefore       time.Time
	NotAfter        time.Time
}

// TLS parses the pair.
func (p Pair) TLS() (tls.Certificate, error) { return tls.X509KeyPair(p.CertPEM, p.KeyPEM) }

// Issue makes a key and a certificate for it.
func (c *CA) Issue(r Request) (Pair, error) {
	key, err := NewKey()
	if err != nil {
		return Pair{}, err
	}
	certPEM, cert, err := c.sign(r, &key.PublicKey)
	if err != nil {
		return Pair{}, err
	}
	keyPEM, err := MarshalKey(key)
	if err != nil {
		return Pair{}, err
	}
	return Pair{CertPEM: certPEM, KeyPEM: keyPEM, NotBefore: cert.NotBefore, NotAfter: cert.NotAfter}, nil
}

// Sign makes a certificate for a key that somebody else holds, a joining node's say. Whoever calls
// it has decided that the request's identity is theirs: nothing of the CSR but its key is taken.
func (c *CA) Sign(r Request, csrPEM []byte) ([]byte, error) {
	block, _ := pem.Decode(csrPEM)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("sign: no PEM certificate request")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	certPEM, _, err := c.sign(r, csr.PublicKey)
	return certPEM, err
}

func (c *CA) sign(r Request, public any) ([]byte, *x509.Certificate, error) {
	if !r.Server && !r.Client {
		return nil, nil, fmt.Errorf("issue certificate of %s: neither for servers nor for clients", r.CommonName)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, nil, err
	}
	lifetime := r.Lifetime
	if lifetime <= 0 {
		lifetime = DefaultLifetime
	}
	now := c.clock.Now()
	end := now.Add(lifetime)
	if end.After(c.cert.NotAfter) {
		end = c.cert.NotAfter
	}
	if !end.After(now) {
		return nil, nil, fmt.Errorf("issue certificate of %s: the CA expired at %s", r.CommonName, c.cert.NotAfter.Format(time.RFC3339))
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: r.CommonName, Organization: r.Organizations},
		NotBefore:             now.Add(-skew),
		NotAfter:              end,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		DNSNames:              r.DNSNames,
		IPAddresses:           r.IPs,
	}
	if r.Server {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if r.Client {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.cert, public, c.key)
	if err != nil {
		return nil, nil, fmt.Errorf("issue certificate of %s: %w", r.CommonName, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), cert, nil
}

// NewKey makes an ECDSA key on P-256, for certificates and for service account tokens.
func NewKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	return key, nil
}

// NewCSR makes a PEM certificate request for key, to send to a CA's Sign.
func NewCSR(key *ecdsa.PrivateKey, commonName string) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: commonName}}, key)
	if err != nil {
		return nil, fmt.Errorf("create certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// MarshalKey writes a key as PEM.
func MarshalKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

// ParseKey reads what MarshalKey wrote, or PKCS #8.
func ParseKey(data []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("parse key: no PEM block")
	}
	if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse key: %w", err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("parse key: a %T, but an ECDSA key is needed", parsed)
	}
	return key, nil
}

func newSerial() (*big.Int, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("generate serial number: %w", err)
	}
	return serial.Add(serial, big.NewInt(1)), nil
}
