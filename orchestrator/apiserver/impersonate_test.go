package apiserver_test

import (
	"reflect"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/pintle/pintle/orchestrator/apiserver/authn"
)

func TestImpersonationNeedsTheRightToEachName(t *testing.T) {
	c := start(t, options{})
	rbac := c.admin().RbacV1()
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "actor"}, Rules: []rbacv1.PolicyRule{
		{Verbs: []string{"impersonate"}, APIGroups: []string{""}, Resources: []string{"users", "groups"}, ResourceNames: []string{"jane", "readers"}},
		{Verbs: []string{"impersonate"}, APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"uids"}, ResourceNames: []string{"7"}},
		{Verbs: []string{"impersonate"}, APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"userextras/example.com/scopes"}, ResourceNames: []string{"view"}},
		{Verbs: []string{"impersonate"}, APIGroups: []string{""}, Resources: []string{"serviceaccounts"}},
	}}
	if _, err := rbac.ClusterRoles().Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "actor"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "actor"},
		Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "actor"}}}
	if _, err := rbac.ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	scopes := func(v string) map[string][]string { return map[string][]string{"example.com/scopes": {v}} }
	for _, tc := range []struct {
		name   string
		as     rest.ImpersonationConfig
		is     func(error) bool
		groups []string
	}{
		{name: "all that is granted", as: rest.ImpersonationConfig{UserName: "jane", Groups: []string{"readers"}, UID: "7", Extra: scopes("view")}, groups: []string{"readers", authn.GroupAuthenticated}},
		{name: "another user", as: rest.ImpersonationConfig{UserName: "joe"}, is: apierrors.IsForbidden},
		{name: "another group", as: rest.ImpersonationConfig{UserName: "jane", Groups: []string{"readers", authn.GroupMasters}}, is: apierrors.IsForbidden},
		{name: "another uid", as: rest.ImpersonationConfig{UserName: "jane", UID: "8"}, is: apierrors.IsForbidden},
		{name: "another scope", as: rest.ImpersonationConfig{UserName: "jane", Extra: scopes("edit")}, is: apierrors.IsForbidden},
		{name: "another extra", as: rest.ImpersonationConfig{UserName: "jane", Extra: map[string][]string{"other": {"view"}}}, is: apierrors.IsForbidden},
		{name: "a service account", as: rest.ImpersonationConfig{UserName: "system:serviceaccount:default:x"}, groups: []string{"system:serviceaccounts", "system:serviceaccounts:default", authn.GroupAuthenticated}},
	} {
		cfg := c.configAs(&authn.User{Name: "actor", Groups: []string{authn.GroupAuthenticated}})
		cfg.Impersonate = tc.as
		got, err := c.clientset(cfg).AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
		if tc.is != nil {
			if !tc.is(err) {
				t.Errorf("%s: %v", tc.name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		info := got.Status.UserInfo
		if info.Username != tc.as.UserName || info.UID != tc.as.UID || !reflect.DeepEqual(info.Groups, tc.groups) || len(info.Extra) != len(tc.as.Extra) {
			t.Errorf("%s: %+v", tc.name, info)
		}
		for key, values := range tc.as.Extra {
			if !reflect.DeepEqual([]string(info.Extra[key]), values) {
				t.Errorf("%s: extra %v", tc.name, info.Extra)
			}
		}
	}
}
