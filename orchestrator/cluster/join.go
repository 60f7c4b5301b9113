package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/pintle/pintle/internal/pki"
)

// JoinMember asks the members at addresses, one after the other, for the keys of the cluster that the
// token names. An address whose CA is another is an error of its own: nothing was said to it. now tells the time
// for certificates; nil is time.Now.
func JoinMember(ctx context.Context, addresses []string, token Token, now func() time.Time) (Grant, error) {
	return ask[Grant](ctx, addresses, invitedConfig(token, now), token, "/v1/member", memberBody{})
}

// Announce tells the cluster where this member's store is reached, so that it takes part. It can be
// repeated, and is after each start.
func Announce(ctx context.Context, addresses []string, identity Identity, member, address string) error {
	_, err := ask[struct{}](ctx, addresses, identity.clientConfig(ProtocolJoin), Token{}, "/v1/member/address", memberBody{Member: member, Address: address})
	return err
}

// JoinNode asks for a certificate of the node for the key of csr (PEM).
func JoinNode(ctx context.Context, addresses []string, token Token, name string, csr []byte, now func() time.Time) (Admission, error) {
	return ask[Admission](ctx, addresses, invitedConfig(token, now), token, "/v1/node", nodeBody{Name: name, CSR: csr})
}

// RenewNode asks for the node's next certificate, with its present one.
func RenewNode(ctx context.Context, addresses []string, ca *x509.CertPool, present tls.Certificate, name string, csr []byte, now func() time.Time) (Admission, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: ca, ServerName: memberHost, NextProtos: []string{ProtocolJoin}, Time: now,
		Certificates: []tls.Certificate{present}, VerifyConnection: onlyMembers}
	return ask[Admission](ctx, addresses, config, Token{}, "/v1/node/renewal", nodeBody{Name: name, CSR: csr})
}

// ErrOtherCluster is the answer to a server, a token or a folder of another cluster.
var ErrOtherCluster = errors.New("that is another cluster")

// invitedConfig believes the server whose chain ends in the CA that the token names. There is nothing else
// to believe in yet.
func invitedConfig(token Token, now func() time.Time) *tls.Config {
	if now == nil {
		now = time.Now
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{ProtocolJoin},
		InsecureSkipVerify: true, // the token's pin takes its place, below
		VerifyConnection: func(state tls.ConnectionState) error {
			chain := state.PeerCertificates
			if len(chain) == 0 {
				return errors.New("the server shows no certificate")
			}
			for _, ca := range chain {
				if Pin(ca) != token.CA || !ca.IsCA {
					continue
				}
				pool := x509.NewCertPool()
				pool.AddCert(ca)
				if _, err := chain[0].Verify(x509.VerifyOptions{Roots: pool, DNSName: memberHost, CurrentTime: now()}); err != nil {
					return err
				}
				return onlyMembers(state)
			}
			return fmt.Errorf("%w: the join token is not for the server's", ErrOtherCluster)
		},
	}
}

// ask tries the addresses in turn. A refusal is final: the others would say the same. Where one is of another cluster,
// the others may not be; it is the error only if no address gives an answer.
func ask[Answer any](ctx context.Context, addresses []string, config *tls.Config, token Token, path string, body any) (Answer, error) {
	var none Answer
	if len(addresses) == 0 {
		return none, errors.New("join: no address of a member is given")
	}
	var errs []error
	for _, address := range addresses {
		answer, err := askOne[Answer](ctx, address, config, token, path, body)
		if err == nil {
			return answer, nil
		}
		err = fmt.Errorf("join: %s: %w", address, err)
		var refusal Refusal
		if errors.Is(err, ErrNotInvited) || errors.As(err, &refusal) {
			return none, err
		}
		errs = append(errs, err)
	}
	return none, errors.Join(errs...)
}

func askOne[Answer any](ctx context.Context, address string, config *tls.Config, token Token, path string, body any) (answer Answer, err error) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	data, err := json.Marshal(body)
	if err != nil {
		return answer, err
	}
	transport := &http.Transport{DisableKeepAlives: true}
	transport.DialTLSContext = (&tls.Dialer{Config: config}).DialContext
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+address+path, bytes.NewReader(data))
	if err != nil {
		return answer, err
	}
	request.Header.Set("Content-Type", "application/json")
	if token.ID != "" {
		request.Header.Set("Authorization", "Bearer "+token.ID+"."+token.Secret)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		if unknown := (x509.UnknownAuthorityError{}); errors.As(err, &unknown) {
			err = fmt.Errorf("%w: %w", ErrOtherCluster, err)
		}
		return answer, err
	}
	defer response.Body.Close()
	reply, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return answer, err
	}
	if response.StatusCode != http.StatusOK {
		var failure failureBody
		_ = json.Unmarshal(reply, &failure)
		switch response.StatusCode {
		case http.StatusUnauthorized:
			return answer, ErrNotInvited
		case http.StatusForbidden:
			return answer, Refusal{failure.Error}
		}
		return answer, fmt.Errorf("%s: %s", response.Status, failure.Error)
	}
	if err := json.Unmarshal(reply, &answer); err != nil {
		return answer, fmt.Errorf("the answer is not understood: %w", err)
	}
	return answer, nil
}

// NodeRequest is the certificate that a node's agent gets.
func NodeRequest(node string) pki.Request {
	request := pki.ClientRequest(nodeUser(node), groupNodes)
	request.Lifetime = nodeLifetime
	return request
}

// ProxyRequest is the certificate that a node's proxy gets. It reads what every proxy needs: Services, endpoints,
// Ingresses and the Secrets with their certificates.
func ProxyRequest() pki.Request {
	request := pki.ClientRequest("system:kube-proxy")
	request.Lifetime = nodeLifetime
	return request
}

const nodeLifetime = 90 * 24 * time.Hour
