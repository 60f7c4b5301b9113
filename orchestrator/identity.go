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
// Both live in the folder pki of the data folder, beside the store, the private keys in a vault.
type identity struct {
	ca  *pki.CA
	key *ecdsa.PrivateKey
}

// The files of the folder pki.
const (
	dirPKI         = "pki"
	fileCACert     = "ca.crt"
	fileCAKey      = "ca.key"
	fileServiceKey = "service-account.key"
)

func loadIdentity(cfg Config, name string) (*identity, error) {
	dir, keyFile, vault := "", "", vault{cfg.KeyProvider}
	if cfg.DataDir != "" {
		dir = filepath.Join(cfg.DataDir, dirPKI)
		keyFile = filepath.Join(dir, fileServiceKey)
	}
	ca, err := pki.Load(dir, name, cfg.Clock, vault)
	if err != nil {
		return nil, fmt.Errorf("orchestrator: cluster CA: %w", err)
	}
	key, err := pki.LoadKey(keyFile, vault)
	if err != nil {
		return nil, fmt.Errorf("orchestrator: service account key: %w", err)
	}
	return &identity{ca: ca, key: key}, nil
}

// grantedIdentity is the identity that a member has given to this one, kept in the data folder.
func grantedIdentity(cfg Config, grant cluster.Grant) (*identity, error) {
	ca, err := pki.ParseCA(grant.CACert, grant.CAKey, cfg.Clock)
	if err != nil {
		return nil, fmt.Errorf("orchestrator: the cluster's CA: %w", err)
	}
	key, err := pki.ParseKey(grant.ServiceAccountKey)
	if err != nil {
		return nil, fmt.Errorf("orchestrator: the cluster's service account key: %w", err)
	}
	if cfg.DataDir != "" {
		if err := keepKeys(cfg, grant.CACert, grant.CAKey, grant.ServiceAccountKey); err != nil {
			return nil, fmt.Errorf("orchestrator: keep the cluster's keys: %w", err)
		}
	}
	return &identity{ca: ca, key: key}, nil
}

// keepKeys writes an identity, in PEM, into the data folder. The CA's certificate comes last: without it there is no CA.
func keepKeys(cfg Config, caCert, caKey, serviceKey []byte) error {
	dir, vault := filepath.Join(cfg.DataDir, dirPKI), vault{cfg.KeyProvider}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := pki.WriteKeyFile(filepath.Join(dir, fileServiceKey), serviceKey, vault); err != nil {
		return err
	}
	if err := pki.WriteKeyFile(filepath.Join(dir, fileCAKey), caKey, vault); err != nil {
		return err
	}
	return pki.WriteFile(filepath.Join(dir, fileCACert), caCert, 0o644)
}

// member is this identity as one member of the cluster shows it.
func (i *identity) member(m membership, c clock.PassiveClock) cluster.Identity {
	return cluster.Identity{Certificate: i.ca.Rotating(cluster.MemberRequest(m.Member, m.ClusterID)), CA: i.ca.Pool(), Cluster: m.ClusterID, Now: c.Now}
}

// tlsConfig serves a certificate that renews itself, and asks clients for theirs.
func (i *identity) tlsConfig(names []string, c clock.PassiveClock) *tls.Config {
	certificate := i.ca.Rotating(pki.ServerRequest("pintle-apiserver", names...))
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		ClientAuth: tls.VerifyClientCertIfGiven,
		ClientCAs:  i.ca.Pool(),
		Time:       c.Now,
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
