package orchestrator

import (
	"crypto/ecdsa"
	"crypto/tls"
	"fmt"
	"net"
	"path/filepath"

	"k8s.io/utils/clock"

	"github.com/pintle/pintle/internal/pki"
)

// identity is what makes a cluster this one: its CA and the key of its service account tokens.
// Both live in the data folder, beside the store.
type identity struct {
	ca  *pki.CA
	key *ecdsa.PrivateKey
}

func loadIdentity(dataDir, name string, c clock.PassiveClock) (*identity, error) {
	dir, keyFile := "", ""
	if dataDir != "" {
		dir = filepath.Join(dataDir, "pki")
		keyFile = filepath.Join(dir, "service-account.key")
	}
	ca, err := pki.Load(dir, name, c)
	if err != nil {
		return nil, fmt.Errorf("orchestrator: cluster CA: %w", err)
	}
	key, err := pki.LoadKey(keyFile)
	if err != nil {
		return nil, fmt.Errorf("orchestrator: service account key: %w", err)
	}
	return &identity{ca: ca, key: key}, nil
}

// tlsConfig serves a certificate that renews itself, and asks clients for theirs.
func (i *identity) tlsConfig(names []string) *tls.Config {
	certificate := i.ca.Rotating(pki.ServerRequest("pintle-apiserver", names...))
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		ClientAuth: tls.VerifyClientCertIfGiven,
		ClientCAs:  i.ca.Pool(),
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return certificate.Certificate()
		},
	}
}

// serverNames are the names under which the API server is reached.
func (c Config) serverNames(addr net.Addr) []string {
	names := []string{
		"localhost", "127.0.0.1", "::1",
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
		KubernetesServiceIP(c.ServiceCIDR).String(),
	}
	if c.Advertise.Addr().IsValid() {
		names = append(names, c.Advertise.Addr().String())
	}
	if addr != nil {
		if host, _, err := net.SplitHostPort(addr.String()); err == nil {
			if ip := net.ParseIP(host); ip != nil && !ip.IsUnspecified() {
				names = append(names, host)
			} else if addresses, err := net.InterfaceAddrs(); err == nil {
				for _, a := range addresses {
					if network, ok := a.(*net.IPNet); ok && network.IP.IsGlobalUnicast() {
						names = append(names, network.IP.String())
					}
				}
			}
		}
	}
	return append(names, c.ServerNames...)
}
