package authz

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/apiserver/authn"
)

type world struct {
	roles    []*rbacv1.ClusterRole
	cluster  []*rbacv1.ClusterRoleBinding
	bindings []*rbacv1.RoleBinding
}

func defaults() *world {
	w := &world{}
	for _, o := range Defaults() {
		switch o := o.(type) {
		case *rbacv1.ClusterRole:
			w.roles = append(w.roles, o)
		case *rbacv1.ClusterRoleBinding:
			w.cluster = append(w.cluster, o)
		}
	}
	w.bindings = []*rbacv1.RoleBinding{
		{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "x"}, Subjects: []rbacv1.Subject{user("viewer")}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "view"}},
		{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "y"}, Subjects: []rbacv1.Subject{user("admin")}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "admin"}},
	}
	return w
}
func (w *world) Role(_, name string) (*rbacv1.Role, error) {
	return nil, apierrors.NewNotFound(rbacv1.Resource("roles"), name)
}
func (w *world) ClusterRole(name string) (*rbacv1.ClusterRole, error) {
	for _, r := range w.roles {
		if r.Name == name {
			return r, nil
		}
	}
	return nil, apierrors.NewNotFound(rbacv1.Resource("clusterroles"), name)
}
func (w *world) RoleBindings(ns string) (out []*rbacv1.RoleBinding, _ error) {
	for _, b := range w.bindings {
		if b.Namespace == ns {
			out = append(out, b)
		}
	}
	return out, nil
}
func (w *world) ClusterRoleBindings() ([]*rbacv1.ClusterRoleBinding, error) { return w.cluster, nil }
func (w *world) ClusterRoles() ([]*rbacv1.ClusterRole, error)               { return w.roles, nil }
func (w *world) PodsOnNode(node string) ([]*corev1.Pod, error) {
	if node != "n1" {
		return nil, nil
	}
	return []*corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "p"}, Spec: corev1.PodSpec{
		ServiceAccountName: "sa", ImagePullSecrets: []corev1.LocalObjectReference{{Name: "s"}}}}}, nil
}

func TestWhoMayDoWhat(t *testing.T) {
	w := defaults()
	all := Union{Masters{}, Node{w}, RBAC{w}}
	u := func(name string, groups ...string) *authn.User { return &authn.User{Name: name, Groups: groups} }
	n1 := u("system:node:n1", authn.GroupNodes)
	res := func(who *authn.User, verb, ns, group, resource, sub, name string) Attributes {
		return Attributes{User: who, Verb: verb, Namespace: ns, APIGroup: group, Resource: resource, Subresource: sub, Name: name, ResourceRequest: true}
	}
	path := func(who *authn.User, p string) Attributes { return Attributes{User: who, Verb: "get", Path: p} }
	anonymous := u(authn.AnonymousUser, authn.GroupUnauthenticated)
	for name, c := range map[string]struct {
		a    Attributes
		want bool
	}{
		"master":                   {res(u("x", authn.GroupMasters), "delete", "", "", "nodes", "", "n"), true},
		"viewer reads":             {res(u("viewer"), "get", "a", "apps", "deployments", "", "d"), true},
		"viewer elsewhere":         {res(u("viewer"), "get", "b", "apps", "deployments", "", "d"), false},
		"viewer reads secrets":     {res(u("viewer"), "get", "a", "", "secrets", "", "d"), false},
		"viewer writes":            {res(u("viewer"), "delete", "a", "apps", "deployments", "", "d"), false},
		"admin aggregates view":    {res(u("admin"), "get", "a", "", "pods", "log", "d"), true},
		"admin aggregates edit":    {res(u("admin"), "create", "a", "", "pods", "exec", "d"), true},
		"admin binds":              {res(u("admin"), "create", "a", rbacv1.GroupName, "rolebindings", "", ""), true},
		"account without bindings": {res(u("system:serviceaccount:a:sa", authn.GroupAuthenticated), "list", "a", "", "pods", "", ""), false},
		"anonymous health":         {path(anonymous, "/healthz"), true},
		"anonymous version":        {path(anonymous, "/version"), true},
		"anonymous discovery":      {path(anonymous, "/apis"), false},
		"anyone's discovery":       {path(u("x", authn.GroupAuthenticated), "/apis/apps/v1"), true},
		"node its status":          {res(n1, "patch", "", "", "nodes", "status", "n1"), true},
		"node another's status":    {res(n1, "patch", "", "", "nodes", "status", "n2"), false},
		"node its lease":           {res(n1, "update", "kube-node-lease", "coordination.k8s.io", "leases", "", "n1"), true},
		"node another's lease":     {res(n1, "update", "kube-node-lease", "coordination.k8s.io", "leases", "", "n2"), false},
		"node its pod's status":    {res(n1, "patch", "a", "", "pods", "status", "p"), true},
		"node another's pod":       {res(n1, "delete", "a", "", "pods", "", "q"), false},
		"node its pod's secret":    {res(n1, "get", "a", "", "secrets", "", "s"), true},
		"node another secret":      {res(n1, "get", "a", "", "secrets", "", "t"), false},
		"node all secrets":         {res(n1, "list", "a", "", "secrets", "", ""), false},
		"node its pod's token":     {res(n1, "create", "a", "", "serviceaccounts", "token", "sa"), true},
		"node another's token":     {res(n1, "create", "a", "", "serviceaccounts", "token", "other"), false},
		"node a slice":             {res(n1, "create", "", "resource.k8s.io", "resourceslices", "", ""), true},
		"node all slices at once":  {res(n1, "deletecollection", "", "resource.k8s.io", "resourceslices", "", ""), false},
		"node changes a claim":     {res(n1, "update", "a", "resource.k8s.io", "resourceclaims", "status", "c"), false},
		"node name without group":  {res(u("system:node:n1"), "list", "", "", "pods", "", ""), false},
	} {
		t.Run(name, func(t *testing.T) {
			got, reason, err := all.Authorize(t.Context(), c.a)
			if got != c.want || err != nil {
				t.Fatalf("%v (%s) %v", got, reason, err)
			}
		})
	}
}

func TestNobodyGrantsWhatTheyDoNotHold(t *testing.T) {
	w := defaults()
	rbac := RBAC{w}
	all := Union{Masters{}, rbac}
	binding := func(ns, role string) *rbacv1.RoleBinding {
		return &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "new"}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: role}}
	}
	admin := &authn.User{Name: "admin"}
	if err := CheckEscalation(t.Context(), admin, all, rbac, binding("a", "edit"), nil); err != nil {
		t.Error(err)
	}
	if err := CheckEscalation(t.Context(), admin, all, rbac, binding("a", "cluster-admin"), nil); !apierrors.IsForbidden(err) {
		t.Errorf("cluster-admin bound: %v", err)
	}
	if err := CheckEscalation(t.Context(), admin, all, rbac, binding("b", "view"), nil); !apierrors.IsForbidden(err) {
		t.Errorf("bound elsewhere: %v", err)
	}
	if err := CheckEscalation(t.Context(), &authn.User{Name: "x", Groups: []string{authn.GroupMasters}}, all, rbac, binding("b", "cluster-admin"), nil); err != nil {
		t.Error(err)
	}
}

func TestForbiddenReadsAsKubernetes(t *testing.T) {
	err := Forbidden(Attributes{User: &authn.User{Name: "system:serviceaccount:a:sa"}, Verb: "list", Namespace: "a", Resource: "pods", ResourceRequest: true}, "")
	want := `pods is forbidden: User "system:serviceaccount:a:sa" cannot list resource "pods" in API group "" in the namespace "a"`
	if err.Error() != want {
		t.Errorf("%s", err)
	}
	err = Forbidden(Attributes{User: &authn.User{Name: "system:anonymous"}, Verb: "get", Path: "/apis"}, "")
	if want := `forbidden: User "system:anonymous" cannot get path "/apis"`; err.Error() != want {
		t.Errorf("%s", err)
	}
}
