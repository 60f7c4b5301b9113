package orchestrator

import (
	"crypto/ecdsa"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"k8s.io/utils/clock"

	"github.com/pintle/pintle/internal/pki"
	"github.com/pintle/pintle/orchestrator/cluster"
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

// grantedIdentity is the identity that a member has given to this one, kept in the data folder.
func grantedIdentity(dataDir string, grant cluster.Grant, c clock.PassiveClock) (*identity, error) {
	ca, err := pki.ParseCA(grant.CACert, grant.CAKey, c)
	if err != nil {
		return nil, fmt.Errorf("orchestrator: the cluster's CA: %w", err)
	}
	key, err := pki.ParseKey(grant.ServiceAccountKey)
	if err != nil {
		return nil, fmt.Errorf("orchestrator: the cluster's service account key: %w", err)
	}
	if dataDir == "" {
		return &identity{ca: ca, key: key}, nil
	}
	dir := filepath.Join(dataDir, "pki")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("orchestrator: keep the cluster's keys: %w", err)
	}
	for _, file := range []struct {
		name string
		data []byte
		mode os.FileMode
	}{{"service-account.key", grant.ServiceAccountKey, 0o600}, {"ca.key", grant.CAKey, 0o600}, {"ca.crt", grant.CACert, 0o644}} {
		if err := pki.WriteFile(filepath.Join(dir, file.name), file.data, file.mode); err != nil {
			return nil, fmt.Errorf("orchestrator: keep the cluster's keys: %w", err)
		}
	}
	return &identity{ca: ca, key: key}, nil
}

// member is this identity as one member of the cluster shows it.
func (i *identity) member(name string, c clock.PassiveClock) cluster.Identity {
	return cluster.Identity{Certificate: i.ca.Rotating(cluster.MemberRequest(name)), CA: i.ca.Pool(), Now: c.Now}
}

// tlsConfig serves a certificate that renews itself, and asks clients for theirs.
func (i *identity) tlsConfig(names []string) *tls.Config {
	certificate := i.ca.Rotating(pki.ServerRequest("pintle-apiserver", names...))
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		ClientAuth: tls.VerifyClientCertIfGiven,
		ClientCAs:  i.ca.Pool(),
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
	if host, _, err := net.SplitHostPort(c.MemberAddress); err == nil && host != "" {
		names = append(names, host)
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
