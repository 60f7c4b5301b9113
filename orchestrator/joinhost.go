package orchestrator

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/internal/pki"
	"github.com/pintle/pintle/orchestrator/cluster"
	"github.com/pintle/pintle/raftstore"
)

// An invitation is a Secret, of the form that Kubernetes documents for bootstrap tokens, so that kubectl
// lists and revokes it: bootstrap-token-ID in kube-system.
const (
	secretTypeToken = corev1.SecretType("bootstrap.kubernetes.io/token")
	secretPrefix    = "bootstrap-token-"
	keyTokenID      = "token-id"
	keyTokenSecret  = "token-secret"
	keyExpiration   = "expiration"
	keyUsagePrefix  = "usage-pintle-" // and a role: "true"

	// nodeSilence is how long a node's Lease must be old before another machine may take its name, as long as
	// the node lifecycle controller waits.
	nodeSilence = 40 * time.Second
)

// joinHost answers machines that join: a cluster.Host.
type joinHost struct{ *parts }

func secretsGVR() schema.GroupVersionResource {
	return corev1.SchemeGroupVersion.WithResource("secrets")
}

// Invited looks the invitation up among the Secrets.
func (h joinHost) Invited(ctx context.Context, id, secret string, role cluster.Role) error {
	s, err := get[*corev1.Secret](ctx, objects{h.registry}, secretsGVR(), metav1.NamespaceSystem, secretPrefix+id)
	switch {
	case apierrors.IsNotFound(err):
		return cluster.ErrNotInvited
	case err != nil:
		return err
	}
	good := s.Type == secretTypeToken && string(s.Data[keyTokenID]) == id &&
		subtle.ConstantTimeCompare(s.Data[keyTokenSecret], []byte(secret)) == 1 && string(s.Data[keyUsagePrefix+string(role)]) == "true"
	if end := s.Data[keyExpiration]; len(end) > 0 {
		at, err := time.Parse(time.RFC3339, string(end))
		good = good && err == nil && h.cfg.Clock.Now().Before(at)
	}
	if !good {
		return cluster.ErrNotInvited
	}
	return nil
}

// Grant gives a member everything: it is the cluster from then on.
func (h joinHost) Grant() (cluster.Grant, error) {
	key, err := pki.MarshalKey(h.identity.key)
	return cluster.Grant{
		Name: h.membership.Cluster, ClusterID: h.membership.ClusterID, CACert: h.identity.ca.CertPEM(), CAKey: h.identity.ca.KeyPEM(),
		ServiceAccountKey: key, ServiceCIDR: h.membership.ServiceCIDR.String(),
	}, err
}

// AddMember is the store's. What it refuses it would refuse again, and the member's operator shall read why.
func (h joinHost) AddMember(ctx context.Context, member, address string) error {
	err := h.store.AddMember(ctx, member, address)
	if errors.Is(err, raftstore.ErrInvalid) {
		return cluster.Refusal{Reason: err.Error()}
	}
	return err
}

// AdmitNode signs for a node, unless another machine has its name and is alive.
func (h joinHost) AdmitNode(ctx context.Context, name string, csr []byte, renewal bool) (cluster.Admission, error) {
	if !renewal {
		lease, err := get[*coordinationv1.Lease](ctx, objects{h.registry}, coordinationv1.SchemeGroupVersion.WithResource("leases"), corev1.NamespaceNodeLease, name)
		if err != nil && !apierrors.IsNotFound(err) {
			return cluster.Admission{}, err
		}
		if err == nil && lease.Spec.RenewTime != nil && h.cfg.Clock.Since(lease.Spec.RenewTime.Time) < nodeSilence {
			return cluster.Admission{}, cluster.Refusal{Reason: fmt.Sprintf("a machine that is alive is node %q already: give this one another name", name)}
		}
	}
	certificate, err := h.identity.ca.Sign(cluster.NodeRequest(name), csr)
	if err != nil {
		return cluster.Admission{}, cluster.Refusal{Reason: err.Error()}
	}
	proxy, err := h.identity.ca.Sign(cluster.ProxyRequest(), csr)
	if err != nil {
		return cluster.Admission{}, err
	}
	return cluster.Admission{CACert: h.identity.ca.CertPEM(), Certificate: certificate, ProxyCertificate: proxy,
		Cluster: h.membership.Cluster, ServiceCIDR: h.membership.ServiceCIDR.String()}, nil
}

// The roles that a machine can be invited to.
const (
	RoleMember = cluster.RoleMember
	RoleNode   = cluster.RoleNode
)

// JoinToken invites machines to be members of the control plane (RoleMember: they get the cluster's keys)
// or nodes (RoleNode), for as long as lifetime; 0 is 24 hours. The token is a Secret in kube-system,
// bootstrap-token-ID: delete that to revoke it.
func (o *Orchestrator) JoinToken(ctx context.Context, role cluster.Role, lifetime time.Duration) (string, error) {
	if role != RoleMember && role != RoleNode {
		return "", fmt.Errorf("orchestrator: join token: role %q: give RoleMember or RoleNode", role)
	}
	if lifetime <= 0 {
		lifetime = 24 * time.Hour
	}
	parts := o.running()
	if parts == nil {
		return "", errors.New("orchestrator: join token: Run has not begun or has ended")
	}
	token, err := cluster.NewToken(parts.identity.ca.Certificate())
	if err != nil {
		return "", fmt.Errorf("orchestrator: %w", err)
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: secretPrefix + token.ID},
		Type:       secretTypeToken,
		Data: map[string][]byte{
			keyTokenID: []byte(token.ID), keyTokenSecret: []byte(token.Secret), keyUsagePrefix + string(role): []byte("true"),
			keyExpiration: []byte(o.cfg.Clock.Now().Add(lifetime).UTC().Format(time.RFC3339)),
		},
	}
	if _, err := parts.registry.Client(Admin, "system:masters").Create(ctx, secretsGVR(), secret); err != nil {
		return "", fmt.Errorf("orchestrator: join token: %w", err)
	}
	return token.String(), nil
}
