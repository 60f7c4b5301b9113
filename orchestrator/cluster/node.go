package cluster

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"github.com/pintle/pintle/internal/pki"
)

// Node is a machine that runs pods, as the cluster knows it: its key, the certificates that it got for that
// key when it joined and renews long before they end, and the servers. Safe for concurrent use.
type Node struct {
	name    string
	dir     string
	servers *Servers
	clock   clock.Clock
	log     *slog.Logger

	key *ecdsa.PrivateKey
	ca  *x509.CertPool

	// mu guards what follows.
	mu        sync.Mutex
	admission Admission
	agent     *tls.Certificate // system:node:NAME
	proxy     *tls.Certificate // system:kube-proxy
}

// NodeConfig says which node to be.
type NodeConfig struct {
	Name    string
	Dir     string   // holds key and certificates
	Servers *Servers // to join, and all that is learned of later
	Token   string   // from JoinToken, for RoleNode; not needed once Dir holds the certificates
	Clock   clock.Clock
	Logger  *slog.Logger
}

const (
	fileNodeKey       = "node.key"
	fileNodeAdmission = "node.json"
	// dialTimeout is how long one server may take before the next is tried.
	dialTimeout = 3 * time.Second
)

// NewNode reads the certificates in the folder, or joins for them: it waits until a server answers or ctx ends.
func NewNode(ctx context.Context, cfg NodeConfig) (*Node, error) {
	n := &Node{name: cfg.Name, dir: cfg.Dir, servers: cfg.Servers, clock: cfg.Clock, log: cfg.Logger}
	if n.clock == nil {
		n.clock = clock.RealClock{}
	}
	if n.log == nil {
		n.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if n.key, err = pki.LoadKey(filepath.Join(cfg.Dir, fileNodeKey), nil); err != nil {
		return nil, fmt.Errorf("node %s: %w", cfg.Name, err)
	}
	data, err := os.ReadFile(filepath.Join(cfg.Dir, fileNodeAdmission))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = n.join(ctx, cfg.Token)
	case err == nil:
		var a Admission
		if err = json.Unmarshal(data, &a); err == nil {
			err = n.take(a)
		}
		if err == nil {
			err = n.invitedElsewhere(cfg)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", cfg.Name, err)
	}
	return n, nil
}

// invitedElsewhere is an error where the folder is that of a node of one cluster and the token another's.
func (n *Node) invitedElsewhere(cfg NodeConfig) error {
	token, err := ParseToken(cfg.Token)
	if err != nil {
		return nil // it isn't used any more
	}
	block, _ := pem.Decode(n.admission.CACert)
	if block == nil {
		return errors.New("the cluster's CA is no certificate")
	}
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return fmt.Errorf("the cluster's CA: %w", err)
	}
	if Pin(ca) != token.CA {
		return fmt.Errorf("%w that the join token is for than that of the folder %s: give an empty folder to join it", ErrOtherCluster, cfg.Dir)
	}
	return nil
}

func (n *Node) join(ctx context.Context, text string) error {
	token, err := ParseToken(text)
	if err != nil {
		return err
	}
	csr, err := pki.NewCSR(n.key, n.name)
	if err != nil {
		return err
	}
	for {
		admission, err := JoinNode(ctx, n.servers.Addresses(), token, n.name, csr, n.clock.Now)
		if err == nil {
			return n.keep(admission)
		}
		var refusal Refusal
		if ctx.Err() != nil || errors.Is(err, ErrNotInvited) || errors.Is(err, ErrOtherCluster) || errors.As(err, &refusal) {
			return err
		}
		n.log.Warn("no server of the cluster answers; trying again", "error", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return err
		}
	}
}

// keep takes an admission and writes it down.
func (n *Node) keep(a Admission) error {
	if err := n.take(a); err != nil {
		return err
	}
	data, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return pki.WriteFile(filepath.Join(n.dir, fileNodeAdmission), data, 0o600)
}

func (n *Node) take(a Admission) error {
	keyPEM, err := pki.MarshalKey(n.key)
	if err != nil {
		return err
	}
	agent, err := tls.X509KeyPair(a.Certificate, keyPEM)
	if err != nil {
		return fmt.Errorf("the certificate of the node: %w", err)
	}
	proxy, err := tls.X509KeyPair(a.ProxyCertificate, keyPEM)
	if err != nil {
		return fmt.Errorf("the certificate of its proxy: %w", err)
	}
	ca := x509.NewCertPool()
	if !ca.AppendCertsFromPEM(a.CACert) {
		return errors.New("the cluster's CA is no certificate")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ca, n.admission, n.agent, n.proxy = ca, a, &agent, &proxy
	return nil
}

// Admission is what the cluster said last.
func (n *Node) Admission() Admission {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.admission
}

// Servers are the addresses that the node uses.
func (n *Node) Servers() *Servers { return n.servers }

// Run renews the certificates once a third of their life is left, until ctx ends.
func (n *Node) Run(ctx context.Context) error {
	for {
		wait := n.untilRenewal()
		if wait <= 0 {
			if err := n.renew(ctx); err != nil && ctx.Err() == nil {
				n.log.Warn("the node's certificate could not be renewed yet", "error", err)
			}
			wait = time.Minute
		}
		select {
		case <-n.clock.After(min(wait, time.Hour)): // machines sleep, and clocks are set
		case <-ctx.Done():
			return nil
		}
	}
}

func (n *Node) untilRenewal() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	leaf := n.agent.Leaf
	return leaf.NotAfter.Add(-leaf.NotAfter.Sub(leaf.NotBefore) / 3).Sub(n.clock.Now())
}

func (n *Node) renew(ctx context.Context) error {
	csr, err := pki.NewCSR(n.key, n.name)
	if err != nil {
		return err
	}
	n.mu.Lock()
	present, ca := *n.agent, n.ca
	n.mu.Unlock()
	admission, err := RenewNode(ctx, n.servers.Addresses(), ca, present, n.name, csr, n.clock.Now)
	if err != nil {
		return err
	}
	return n.keep(admission)
}

// DialServer connects to a server for ProtocolNode: the Dial of a nodelink.Link.
func (n *Node) DialServer(ctx context.Context, address string) (net.Conn, error) {
	return n.dial(ctx, address, n.config(memberHost, n.agentCertificate, ProtocolNode))
}

func (n *Node) dial(ctx context.Context, address string, config *tls.Config) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address)
}

func (n *Node) config(server string, certificate func() *tls.Certificate, protocols ...string) *tls.Config {
	n.mu.Lock()
	defer n.mu.Unlock()
	return &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: n.ca, ServerName: server, NextProtos: protocols, Time: n.clock.Now,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate(), nil },
	}
}

func (n *Node) agentCertificate() *tls.Certificate {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.agent
}

func (n *Node) proxyCertificate() *tls.Certificate {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.proxy
}

// Drained asks a server to wait until no proxy of the cluster sends new connections to address.
func (n *Node) Drained(ctx context.Context, address netip.Addr) error {
	config := n.config(memberHost, n.agentCertificate, ProtocolJoin)
	_, err := ask[struct{}](ctx, n.servers.Addresses(), config, Token{}, "/v1/node/drained", drainedBody{Address: address})
	return err
}

// DialAsNode connects for ProtocolNode to the member at address with a certificate that the caller has issued
// itself: a member's own node.
func DialAsNode(ctx context.Context, address string, ca *x509.CertPool, certificate *pki.Rotating, now func() time.Time) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	dialer := tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: ca, ServerName: memberHost, NextProtos: []string{ProtocolNode},
		GetClientCertificate: certificate.GetClientCertificate, VerifyConnection: onlyMembers, Time: now}}
	return dialer.DialContext(ctx, "tcp", address)
}

// apiHost is a name that every API server's certificate has.
const apiHost = "kubernetes.default.svc"

// AgentConfig is for a client that acts as system:node:NAME, at whichever server answers.
func (n *Node) AgentConfig() *rest.Config { return n.restConfig(n.agentCertificate) }

// ProxyConfig is for a client that acts as system:kube-proxy.
func (n *Node) ProxyConfig() *rest.Config { return n.restConfig(n.proxyCertificate) }

func (n *Node) restConfig(certificate func() *tls.Certificate) *rest.Config {
	transport := &http.Transport{
		ForceAttemptHTTP2: true, IdleConnTimeout: 90 * time.Second,
		// A server that lost its power says nothing: pings find out.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 3 * time.Second, PingTimeout: 2 * time.Second},
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return n.servers.Dial(ctx, func(ctx context.Context, address string) (net.Conn, error) {
				return n.dial(ctx, address, n.config(apiHost, certificate, apiProtocols...))
			})
		},
	}
	return &rest.Config{Host: "https://" + apiHost, Transport: patient{transport}, QPS: -1}
}
