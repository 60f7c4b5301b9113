package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/pintle/pintle/internal/pki"
)

// GroupMembers is the organization in members' certificates.
const GroupMembers = "pintle:members"

// memberName is the common name in the certificate of a member.
func memberName(member string) string { return "pintle:member:" + member }

// groupCluster, and a cluster's id, is another organization in the certificates of its members.
const groupCluster = "pintle:cluster:"

// MemberRequest asks for the certificate of a member of the cluster with that id, with which it serves and calls the
// others. A cluster that was restored elsewhere has the same CA and another id.
func MemberRequest(member, cluster string) pki.Request {
	organizations := []string{GroupMembers}
	if cluster != "" {
		organizations = append(organizations, groupCluster+cluster)
	}
	return pki.Request{CommonName: memberName(member), Organizations: organizations,
		DNSNames: []string{memberHost}, Server: true, Client: true, Lifetime: 90 * 24 * time.Hour}
}

// memberHost is the name for which every member's certificate is good: members are told apart by their
// addresses, and trusted as one, for each holds the CA's key.
const memberHost = "members.pintle.internal"

// Identity is what a member shows and whom it believes.
type Identity struct {
	Certificate *pki.Rotating    // of a MemberRequest
	CA          *x509.CertPool   // signs the others'
	Cluster     string           // the id that others must not contradict; "": any
	Now         func() time.Time // nil: time.Now
}

// ServerConfig is the configuration of the Port: api's certificates for the API, the member's for everything
// else. Connections for ProtocolRaft are other members' alone; the others may show a certificate of the CA.
// Joining machines are shown the CA's own certificate too, which they know by its hash.
func ServerConfig(api *tls.Config, i Identity, ca *x509.Certificate) *tls.Config {
	config := api.Clone()
	member := &tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: i.CA, Time: i.Now,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			leaf, err := i.Certificate.Certificate()
			if err != nil {
				return nil, err
			}
			chain := *leaf
			chain.Certificate = append(slices.Clone(leaf.Certificate), ca.Raw)
			return &chain, nil
		},
	}
	raft := member.Clone()
	raft.ClientAuth, raft.VerifyConnection = tls.RequireAndVerifyClientCert, i.onlyOurs
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		for _, protocol := range hello.SupportedProtos {
			chosen := member
			switch protocol {
			case ProtocolRaft:
				chosen = raft
			case ProtocolJoin, ProtocolNode:
			default:
				continue
			}
			chosen = chosen.Clone()
			chosen.NextProtos = []string{protocol}
			return chosen, nil
		}
		return nil, nil // the API
	}
	return config
}

func (i Identity) clientConfig(protocol string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: i.CA, ServerName: memberHost, NextProtos: []string{protocol},
		GetClientCertificate: i.Certificate.GetClientCertificate, VerifyConnection: i.onlyOurs, Time: i.Now,
	}
}

// onlyMembers refuses everybody else whose certificate the CA has signed: nodes and people.
func onlyMembers(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 || !slices.Contains(state.PeerCertificates[0].Subject.Organization, GroupMembers) {
		return errors.New("the peer is not a member of this cluster")
	}
	return nil
}

// onlyOurs refuses members of other clusters too. Members from before clusters had ids name none.
func (i Identity) onlyOurs(state tls.ConnectionState) error {
	if err := onlyMembers(state); err != nil {
		return err
	}
	for _, organization := range state.PeerCertificates[0].Subject.Organization {
		if id, ok := strings.CutPrefix(organization, groupCluster); ok && i.Cluster != "" && id != i.Cluster {
			return fmt.Errorf("%w: it is a member of %s, and this is one of %s", ErrOtherCluster, id, i.Cluster)
		}
	}
	return nil
}

// Links carries connections between the stores of members: a raftstore.Network over the Port.
type Links struct {
	listener net.Listener
	identity Identity
	dial     DialFunc
}

// DialFunc connects, as a net.Dialer does.
type DialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// NewLinks takes the connections of listener, a Port's for ProtocolRaft, and dials others with dial; nil is a
// net.Dialer.
func NewLinks(listener net.Listener, identity Identity, dial DialFunc) *Links {
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	return &Links{listener: listener, identity: identity, dial: dial}
}

// Accept waits for another member to connect.
func (l *Links) Accept() (net.Conn, error) { return l.listener.Accept() }

// Close ends Accept.
func (l *Links) Close() error { return l.listener.Close() }

// Dial connects to the member at address, and is certain that it is one.
func (l *Links) Dial(ctx context.Context, address string) (net.Conn, error) {
	raw, err := l.dial(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connect to the member at %s: %w", address, err)
	}
	conn := tls.Client(raw, l.identity.clientConfig(ProtocolRaft))
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("connect to the member at %s: %w", address, err)
	}
	return conn, nil
}
