package orchestratortest_test

import (
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/pintle/pintle/internal/pki"
	"github.com/pintle/pintle/orchestrator"
	"github.com/pintle/pintle/orchestrator/cluster"
	"github.com/pintle/pintle/orchestrator/orchestratortest"
)

func TestATokenThatExpiresLetsNobodyInAndGoes(t *testing.T) {
	clock := clocktesting.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	c := orchestratortest.Start(t, func(cfg *orchestrator.Config) { cfg.Address, cfg.Clock = "127.0.0.1:0", clock })
	addresses := []string{c.Addr().String()}
	invite := func(role cluster.Role, lifetime time.Duration) cluster.Token {
		t.Helper()
		text, err := c.JoinToken(t.Context(), role, lifetime)
		if err != nil {
			t.Fatal(err)
		}
		token, err := cluster.ParseToken(text)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	node, member, later := invite(orchestrator.RoleNode, time.Hour), invite(orchestrator.RoleMember, time.Hour), invite(orchestrator.RoleNode, 48*time.Hour)
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.NewCSR(key, "far")
	if err != nil {
		t.Fatal(err)
	}
	joinNode := func(token cluster.Token) error {
		_, err := cluster.JoinNode(t.Context(), addresses, token, "far", csr, clock.Now)
		return err
	}
	joinMember := func(token cluster.Token) error {
		_, err := cluster.JoinMember(t.Context(), addresses, token, clock.Now)
		return err
	}
	clock.Step(59 * time.Minute)
	for what, err := range map[string]error{"a node": joinNode(node), "a member": joinMember(member)} {
		if err != nil {
			t.Errorf("%s, a minute before: %v", what, err)
		}
	}
	// Somebody else's Secrets are none of the cleaner's, whatever they say.
	for namespace, kind := range map[string]corev1.SecretType{"kube-system": corev1.SecretTypeOpaque, "default": "bootstrap.kubernetes.io/token"} {
		if _, err := c.Client.CoreV1().Secrets(namespace).Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "kept"}, Type: kind,
			StringData: map[string]string{"expiration": "2020-01-01T00:00:00Z"}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	clock.Step(time.Minute)
	for what, err := range map[string]error{"a node": joinNode(node), "a member": joinMember(member)} {
		if !errors.Is(err, cluster.ErrNotInvited) {
			t.Errorf("%s, at the end: %v", what, err)
		}
	}
	until(t, "the two that have expired are gone", func() bool {
		left := tokens(t, c)
		return len(left) == 1 && left[0] == "bootstrap-token-"+later.ID
	})
	for _, namespace := range []string{"kube-system", "default"} {
		if _, err := c.Client.CoreV1().Secrets(namespace).Get(t.Context(), "kept", metav1.GetOptions{}); err != nil {
			t.Error(err)
		}
	}
	if err := joinNode(later); err != nil {
		t.Errorf("a token that is good: %v", err)
	}
}
