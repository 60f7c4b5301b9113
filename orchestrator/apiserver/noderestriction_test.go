package apiserver_test

import (
	"context"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/pintle/pintle/orchestrator/apiserver/authn"
)

func TestANodeCreatesItsOwnNodeAndLeaseAlone(t *testing.T) {
	c := start(t, options{nodes: true})
	if _, err := c.admin().CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kube-node-lease"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	client := c.clientset(c.configAs(&authn.User{Name: "system:node:n1", Groups: []string{authn.GroupNodes, authn.GroupAuthenticated}}))
	node := func(ctx context.Context, name string) error {
		_, err := client.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		return err
	}
	applied := func(ctx context.Context, name string) error {
		_, err := client.CoreV1().Nodes().Apply(ctx, applycorev1.Node(name).WithLabels(map[string]string{"a": "b"}), metav1.ApplyOptions{FieldManager: "m"})
		return err
	}
	lease := func(ctx context.Context, name string) error {
		_, err := client.CoordinationV1().Leases("kube-node-lease").Create(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		return err
	}
	for what, do := range map[string]func(context.Context, string) error{"node": node, "node by apply": applied, "lease": lease} {
		if err := do(t.Context(), "n2"); !apierrors.IsForbidden(err) {
			t.Errorf("%s of another: %v", what, err)
		}
		if err := do(t.Context(), "n1"); err != nil && !apierrors.IsAlreadyExists(err) {
			t.Errorf("its own %s: %v", what, err)
		}
	}
}
