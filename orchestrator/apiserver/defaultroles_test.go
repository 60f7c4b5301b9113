package apiserver_test

import (
	"slices"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/apiserver/authz"
)

// Whoever may view a namespace reads every kind of object in it, and whoever may edit it writes those that are a user's to
// write; a new kind that a default role doesn't know fails this test until somebody decides.
func TestDefaultRolesKnowEveryKindInANamespace(t *testing.T) {
	notViewed := []string{"secrets", "roles", "rolebindings", "leases", "csistoragecapacities"}
	notEdited := []string{"roles", "rolebindings", "csistoragecapacities",
		"resourcequotas", "limitranges", "controllerrevisions", "endpointslices", "events.events.k8s.io"}
	rules := map[string][]rbacv1.PolicyRule{}
	for _, obj := range authz.Defaults() {
		if r, ok := obj.(*rbacv1.ClusterRole); ok {
			rules[r.Name] = r.Rules
		}
	}
	for _, k := range api.All() {
		if !k.Namespaced {
			continue
		}
		group := k.GroupVersionKind.Group
		check := func(role string, exceptions []string, verbs ...string) {
			want := []rbacv1.PolicyRule{{Verbs: verbs, APIGroups: []string{group}, Resources: []string{k.Resource}}}
			excepted := slices.Contains(exceptions, k.Resource) || slices.Contains(exceptions, k.Resource+"."+group)
			missing := len(authz.Uncovered(rules["system:aggregate-to-"+role], want))
			if !excepted && missing > 0 || excepted && missing == 0 {
				t.Errorf("%s lacks %d of the verbs %v of %s.%s; an exception: %v", role, missing, verbs, k.Resource, group, excepted)
			}
			if k.Scale == nil {
				return
			}
			want[0].Resources[0] += "/scale"
			if missing := authz.Uncovered(rules["system:aggregate-to-"+role], want); len(missing) > 0 {
				t.Errorf("%s lacks %v", role, missing)
			}
		}
		check("view", notViewed, "get", "list", "watch")
		check("edit", notEdited, "create", "delete", "deletecollection", "patch", "update")
	}
}
