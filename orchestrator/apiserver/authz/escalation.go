package authz

import (
	"context"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/orchestrator/apiserver/authn"
)

// CheckEscalation refuses a write of a role or a binding that grants more than the user holds.
// obj is the object as it would be stored; old is what is stored, nil on create. Objects of other
// kinds pass. The write is allowed when the user is in system:masters, when nothing about the
// grant changes, when the verb escalate (roles) or bind (bindings) is allowed on the role, or
// when every rule granted is covered by rules that the user holds there. The error is an apierrors
// Forbidden.
func CheckEscalation(ctx context.Context, user *authn.User, authorizer Authorizer, rbac RBAC, obj, old runtime.Object) error {
	if user.InGroup(authn.GroupMasters) {
		return nil
	}
	switch o := obj.(type) {
	case *rbacv1.Role:
		if prev, ok := old.(*rbacv1.Role); ok && prev != nil && equalRules(prev.Rules, o.Rules) {
			return nil
		}
		return checkRules(ctx, user, authorizer, rbac, "escalate", "roles", "roles", o.Namespace, o.Name, o.Name, o.Rules)
	case *rbacv1.ClusterRole:
		if prev, ok := old.(*rbacv1.ClusterRole); ok && prev != nil && equalRules(prev.Rules, o.Rules) &&
			fmt.Sprint(prev.AggregationRule) == fmt.Sprint(o.AggregationRule) {
			return nil
		}
		rules := o.Rules
		if o.AggregationRule != nil {
			// What will be aggregated tomorrow can't be known: only who holds everything may say so.
			rules = append(slices.Clone(rules),
				rbacv1.PolicyRule{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}},
				rbacv1.PolicyRule{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}})
		}
		return checkRules(ctx, user, authorizer, rbac, "escalate", "clusterroles", "clusterroles", "", o.Name, o.Name, rules)
	case *rbacv1.RoleBinding:
		if prev, ok := old.(*rbacv1.RoleBinding); ok && prev != nil && prev.RoleRef == o.RoleRef && slices.Equal(prev.Subjects, o.Subjects) {
			return nil
		}
		return checkBinding(ctx, user, authorizer, rbac, "rolebindings", o.Namespace, o.Name, o.RoleRef)
	case *rbacv1.ClusterRoleBinding:
		if prev, ok := old.(*rbacv1.ClusterRoleBinding); ok && prev != nil && prev.RoleRef == o.RoleRef && slices.Equal(prev.Subjects, o.Subjects) {
			return nil
		}
		return checkBinding(ctx, user, authorizer, rbac, "clusterrolebindings", "", o.Name, o.RoleRef)
	}
	return nil
}

func checkBinding(ctx context.Context, user *authn.User, authorizer Authorizer, rbac RBAC, resource, namespace, name string, ref rbacv1.RoleRef) error {
	rules, err := rbac.RoleRules(ref, namespace)
	if err != nil && !notFound(err) {
		return err
	}
	roles := "clusterroles"
	if ref.Kind == "Role" {
		roles = "roles"
	}
	if err != nil {
		// The role doesn't exist yet, so what it will grant isn't known: only bind helps.
		if mayDo(ctx, authorizer, user, "bind", roles, namespace, ref.Name) {
			return nil
		}
		return err
	}
	return checkRules(ctx, user, authorizer, rbac, "bind", roles, resource, namespace, ref.Name, name, rules)
}

func checkRules(ctx context.Context, user *authn.User, authorizer Authorizer, rbac RBAC, verb, roles, resource, namespace, role, object string, rules []rbacv1.PolicyRule) error {
	if mayDo(ctx, authorizer, user, verb, roles, namespace, role) {
		return nil
	}
	held, _ := rbac.RulesFor(user, namespace) // what can't be read isn't held
	missing := Uncovered(held, rules)
	if len(missing) == 0 {
		return nil
	}
	lines := make([]string, len(missing))
	for i, rule := range missing {
		lines[i] = formatRule(rule)
	}
	slices.Sort(lines)
	name := ""
	var groups []string
	if user != nil {
		name, groups = user.Name, user.Groups
	}
	return apierrors.NewForbidden(schema.GroupResource{Group: rbacv1.GroupName, Resource: resource}, object,
		fmt.Errorf("user %q (groups=%q) is attempting to grant RBAC permissions not currently held:\n%s",
			name, groups, strings.Join(slices.Compact(lines), "\n")))
}

func mayDo(ctx context.Context, authorizer Authorizer, user *authn.User, verb, resource, namespace, name string) bool {
	ok, _, err := authorizer.Authorize(ctx, Attributes{
		User: user, Verb: verb, Namespace: namespace, APIGroup: rbacv1.GroupName, APIVersion: "v1",
		Resource: resource, Name: name, ResourceRequest: true,
	})
	return ok && err == nil
}

// Uncovered returns what of want the rules held don't cover, one verb, group, resource and name
// at a time.
func Uncovered(held, want []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	var missing []rbacv1.PolicyRule
	for _, rule := range want {
		for _, atom := range atoms(rule) {
			if !slices.ContainsFunc(held, func(h rbacv1.PolicyRule) bool { return covers(h, atom) }) {
				missing = append(missing, atom)
			}
		}
	}
	return missing
}

func atoms(rule rbacv1.PolicyRule) []rbacv1.PolicyRule {
	var out []rbacv1.PolicyRule
	for _, verb := range rule.Verbs {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				atom := rbacv1.PolicyRule{Verbs: []string{verb}, APIGroups: []string{group}, Resources: []string{resource}}
				if len(rule.ResourceNames) == 0 {
					out = append(out, atom)
				}
				for _, name := range rule.ResourceNames {
					named := atom
					named.ResourceNames = []string{name}
					out = append(out, named)
				}
			}
		}
		for _, path := range rule.NonResourceURLs {
			out = append(out, rbacv1.PolicyRule{Verbs: []string{verb}, NonResourceURLs: []string{path}})
		}
	}
	return out
}

func covers(held, atom rbacv1.PolicyRule) bool {
	if !matches(held.Verbs, atom.Verbs[0]) {
		return false
	}
	if len(atom.NonResourceURLs) > 0 {
		return pathMatches(held.NonResourceURLs, atom.NonResourceURLs[0])
	}
	resource, subresource, _ := strings.Cut(atom.Resources[0], "/")
	return matches(held.APIGroups, atom.APIGroups[0]) &&
		resourceMatches(held.Resources, resource, subresource) &&
		(len(held.ResourceNames) == 0 || len(atom.ResourceNames) > 0 && slices.Contains(held.ResourceNames, atom.ResourceNames[0]))
}

func formatRule(r rbacv1.PolicyRule) string {
	var parts []string
	for _, p := range []struct {
		name   string
		values []string
	}{{"APIGroups", r.APIGroups}, {"Resources", r.Resources}, {"ResourceNames", r.ResourceNames}, {"NonResourceURLs", r.NonResourceURLs}, {"Verbs", r.Verbs}} {
		if len(p.values) > 0 {
			parts = append(parts, fmt.Sprintf("%s:%q", p.name, p.values))
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

func equalRules(a, b []rbacv1.PolicyRule) bool {
	return slices.EqualFunc(a, b, func(x, y rbacv1.PolicyRule) bool { return formatRule(x) == formatRule(y) })
}
