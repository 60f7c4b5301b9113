package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"k8s.io/client-go/rest"

	"github.com/pintle/pintle/internal/pki"
	"github.com/pintle/pintle/orchestrator/apiserver/authn"
)

// inMemoryHost is the host that in-process clients put into their URLs. It is never looked up.
const inMemoryHost = "http://pintle.invalid"

// Admin is the user that RESTConfig and Kubeconfig act as, a member of system:masters.
const Admin = "pintle-admin"

// RESTConfig returns a client-go configuration over an in-memory connection: no socket, no TLS. It
// acts as cluster-admin. It can be used before Run: requests wait for the server.
func (o *Orchestrator) RESTConfig() *rest.Config {
	return o.RESTConfigAs(Admin, authn.GroupMasters)
}

// RESTConfigAs is RESTConfig as somebody else: an agent on this machine is "system:node:NAME" in
// the group "system:nodes". Everybody is in system:authenticated.
func (o *Orchestrator) RESTConfigAs(user string, groups ...string) *rest.Config {
	identity := &authn.User{Name: user, Groups: append([]string{authn.GroupAuthenticated}, groups...)}
	return &rest.Config{
		Host: inMemoryHost,
		// Client-go's own default of 5 requests a second is meant to protect servers far away.
		QPS: -1,
		// Nothing is saved by compressing for the same process.
		DisableCompression: true,
		// Client-go's own handler writes to the host program's standard error.
		WarningHandlerWithContext: warningLog{o.cfg.Logger},
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return o.memory.Dial(ctx, identity)
		},
	}
}

// warningCode marks, in a Warning header, what RFC 7234 calls a persistent warning of any kind; Kubernetes
// uses no other.
const warningCode = 299

// warningLog logs the warnings of responses, such as that for an unknown field.
type warningLog struct{ log *slog.Logger }

func (w warningLog) HandleWarningHeaderWithContext(ctx context.Context, code int, _ string, text string) {
	if code == warningCode && text != "" {
		w.log.WarnContext(ctx, "the API server warns", "warning", text)
	}
}

// Kubeconfig returns a configuration for kubectl that acts as cluster-admin, everything embedded.
// It waits for nothing but needs the address: it is an error before Run listens, or without a Listener
// and an Address.
func (o *Orchestrator) Kubeconfig() ([]byte, error) {
	addr := o.Addr()
	if addr == nil {
		return nil, errors.New("orchestrator: there is no address for a kubeconfig: set Config.Address or Config.Listener, and wait for Ready")
	}
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return nil, fmt.Errorf("orchestrator: kubeconfig: %w", err)
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	pair, err := o.identity.ca.Issue(pki.ClientRequest(Admin, authn.GroupMasters))
	if err != nil {
		return nil, fmt.Errorf("orchestrator: kubeconfig: %w", err)
	}
	return pki.Kubeconfig{
		Cluster: o.cfg.Name, Server: "https://" + net.JoinHostPort(host, port), CAPEM: o.identity.ca.CertPEM(), Client: pair,
	}.Bytes()
}
