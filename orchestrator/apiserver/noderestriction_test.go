package apiserver_test

import (
	"context"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
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

func TestANodeWritesItsOwnResourceSlicesAlone(t *testing.T) {
	c := start(t, options{nodes: true})
	slice := func(name, node string) *resourcev1.ResourceSlice {
		return &resourcev1.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: resourcev1.ResourceSliceSpec{Driver: "d.x", NodeName: &node,
			Pool: resourcev1.ResourcePool{Name: node, ResourceSliceCount: 1}}}
	}
	ctx := t.Context()
	other, err := c.admin().ResourceV1().ResourceSlices().Create(ctx, slice("other", "n2"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	node := c.clientset(c.configAs(&authn.User{Name: "system:node:n1", Groups: []string{authn.GroupNodes, authn.GroupAuthenticated}})).ResourceV1().ResourceSlices()
	if _, err := node.Create(ctx, slice("new", "n2"), metav1.CreateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("a slice of another node: %v", err)
	}
	other.Spec.Pool.Generation++
	if _, err := node.Update(ctx, other, metav1.UpdateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("a change of another's: %v", err)
	}
	if _, err := node.Patch(ctx, "other", types.MergePatchType, []byte(`{"spec":{"pool":{"generation":7}}}`), metav1.PatchOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("a patch of another's: %v", err)
	}
	if err := node.Delete(ctx, "other", metav1.DeleteOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("another's deletion: %v", err)
	}
	mine, err := node.Create(ctx, slice("mine", "n1"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	mine.Spec.Pool.Generation++
	if _, err := node.Update(ctx, mine, metav1.UpdateOptions{}); err != nil {
		t.Error(err)
	}
	if list, err := node.List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=n1,spec.driver=d.x"}); err != nil || len(list.Items) != 1 || list.Items[0].Name != "mine" {
		t.Errorf("%v %v", list, err)
	}
	if err := node.Delete(ctx, "mine", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
}

func TestTheProxyCreatesLeasesOfTheUseOfServicesAlone(t *testing.T) {
	c := start(t, options{nodes: true})
	leases := c.clientset(c.configAs(&authn.User{Name: "system:kube-proxy", Groups: []string{authn.GroupAuthenticated}})).CoordinationV1().Leases("default")
	for _, name := range []string{"leader", "a.b.standby.n1", ".standby.n1", "web.standby."} {
		if _, err := leases.Create(t.Context(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); !apierrors.IsForbidden(err) {
			t.Errorf("lease %s: %v", name, err)
		}
	}
	l, err := leases.Create(t.Context(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "web.standby.n1"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := leases.Update(t.Context(), l, metav1.UpdateOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := leases.List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("all Leases: %v", err)
	}
}
