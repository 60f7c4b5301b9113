package authz_test

import (
	"context"
	"fmt"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/pintle/pintle/orchestrator/apiserver/authn"
	"github.com/pintle/pintle/orchestrator/apiserver/authz"
)

// readers is a Lister with one role and one binding; a control plane's reads the registry.
type readers struct{ authz.Lister }

func (readers) ClusterRole(name string) (*rbacv1.ClusterRole, error) {
	if name != "reader" {
		return nil, apierrors.NewNotFound(rbacv1.Resource("clusterroles"), name)
	}
	return &rbacv1.ClusterRole{Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}}}, nil
}

func (readers) RoleBindings(string) ([]*rbacv1.RoleBinding, error) { return nil, nil }

func (readers) ClusterRoleBindings() ([]*rbacv1.ClusterRoleBinding, error) {
	return []*rbacv1.ClusterRoleBinding{{
		Subjects: []rbacv1.Subject{{Kind: rbacv1.GroupKind, APIGroup: rbacv1.GroupName, Name: "engineers"}},
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "reader"},
	}}, nil
}

// Authorizers are asked in order until one allows.
func ExampleUnion() {
	may := authz.Union{authz.Masters{}, authz.RBAC{Lister: readers{}}}
	for _, question := range []struct {
		user *authn.User
		verb string
	}{
		{&authn.User{Name: "ada", Groups: []string{"engineers"}}, "get"},
		{&authn.User{Name: "ada", Groups: []string{"engineers"}}, "delete"},
		{&authn.User{Name: "root", Groups: []string{authn.GroupMasters}}, "delete"},
	} {
		allowed, _, err := may.Authorize(context.Background(), authz.Attributes{
			User: question.user, Verb: question.verb, Resource: "pods", Namespace: "default", Name: "web", ResourceRequest: true,
		})
		fmt.Println(question.user.Name, question.verb, allowed, err)
	}
	// Output:
	// ada get true <nil>
	// ada delete false <nil>
	// root delete true <nil>
}
