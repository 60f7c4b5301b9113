package apiserver_test

import (
	"bytes"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/apiserver/authn"
)

// What `kubectl replace --raw` and `kubectl get --raw` do.
func TestBytesBesideAnObjectAreReplacedAndRead(t *testing.T) {
	c := start(t, options{})
	ctx := t.Context()
	gvr := api.PolicyGroupVersion().WithResource("policymodules")
	k := api.ByGVR(api.All(), gvr)
	if _, err := dynamic.NewForConfigOrDie(c.config()).Resource(gvr).Create(ctx, sample(t, k, "m"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	const path = "/apis/policy.pintle.dev/v1alpha1/policymodules/m/wasm"
	rest := c.admin().CoreV1().RESTClient()
	if err := rest.Get().AbsPath(path).Do(ctx).Error(); !apierrors.IsNotFound(err) {
		t.Errorf("before an upload: %v", err)
	}
	want := append([]byte("\x00asm"), bytes.Repeat([]byte{7}, 5<<20)...) // more than any other body may have
	put := func(data []byte, query ...string) error {
		r := rest.Put().AbsPath(path).SetHeader("Content-Type", "application/json").Body(bytes.NewReader(data))
		for _, q := range query {
			r = r.Param(q, metav1.DryRunAll)
		}
		return r.Do(ctx).Error()
	}
	if err := put(want, "dryRun"); err != nil {
		t.Errorf("a dry run: %v", err)
	}
	if err := rest.Get().AbsPath(path).Do(ctx).Error(); !apierrors.IsNotFound(err) {
		t.Errorf("after a dry run: %v", err)
	}
	if err := put(want); err != nil {
		t.Fatal(err)
	}
	var contentType string
	got, err := rest.Get().AbsPath(path).Do(ctx).ContentType(&contentType).Raw()
	if err != nil || !bytes.Equal(got, want) || contentType != "application/wasm" {
		t.Errorf("%d bytes of %s: %v", len(got), contentType, err)
	}
	if err := put(append(want, make([]byte, 32<<20)...)); !apierrors.IsRequestEntityTooLargeError(err) {
		t.Errorf("37 MiB: %v", err)
	}
	if err := put([]byte("{}")); !apierrors.IsInvalid(err) {
		t.Errorf("what is no module: %v", err)
	}
	if err := rest.Post().AbsPath(path).Body(want).Do(ctx).Error(); !apierrors.IsMethodNotSupported(err) {
		t.Errorf("a POST: %v", err)
	}
	if err := rest.Put().AbsPath("/apis/policy.pintle.dev/v1alpha1/admissionpolicies/m/wasm").Body(want).Do(ctx).Error(); !apierrors.IsNotFound(err) {
		t.Errorf("a kind without: %v", err)
	}
	// Who may write the object may not write its bytes unless they may do that, too.
	_, err = c.admin().RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "modules"},
		Rules: []rbacv1.PolicyRule{{Verbs: []string{"*"}, APIGroups: []string{gvr.Group}, Resources: []string{"policymodules"}}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.admin().RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "modules"},
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "modules"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "joe"}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	joe := c.clientset(c.configAs(&authn.User{Name: "joe", Groups: []string{authn.GroupAuthenticated}})).CoreV1().RESTClient()
	if err := joe.Get().AbsPath("/apis/policy.pintle.dev/v1alpha1/policymodules/m").Do(ctx).Error(); err != nil {
		t.Errorf("joe reads the object: %v", err)
	}
	if err := joe.Put().AbsPath(path).Body(want).Do(ctx).Error(); !apierrors.IsForbidden(err) {
		t.Errorf("joe writes its bytes: %v", err)
	}
}
