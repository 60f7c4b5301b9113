package authz

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pintle/pintle/orchestrator/apiserver/authn"
)

// RBAC allows what roles and bindings grant.
type RBAC struct{ Lister Lister }

// Authorize looks for one rule that allows the question. A binding to a role that isn't there
// grants nothing and is named in the reason, as in Kubernetes.
func (r RBAC) Authorize(_ context.Context, a Attributes) (bool, string, error) {
	if a.User == nil {
		return false, "", nil
	}
	var why string
	var errs []error
	r.visit(a.User, a.Namespace, func(rule *rbacv1.PolicyRule, source string, err error) bool {
		if err != nil {
			errs = append(errs, err)
			return true
		}
		if RuleAllows(rule, a) {
			why = source
			return false
		}
		return true
	})
	if why != "" {
		return true, "RBAC: allowed by " + why, nil
	}
	reason := ""
	if len(errs) > 0 {
		reason = fmt.Sprintf("RBAC: %v", errors.Join(errs...))
	}
	return false, reason, nil
}

// RulesFor lists everything a user may do in a namespace (with "", at cluster scope). The error
// joins what could not be read; the rules that could be are valid beside it.
func (r RBAC) RulesFor(user *authn.User, namespace string) ([]rbacv1.PolicyRule, error) {
	var rules []rbacv1.PolicyRule
	var errs []error
	r.visit(user, namespace, func(rule *rbacv1.PolicyRule, _ string, err error) bool {
		if err != nil {
			errs = append(errs, err)
			return true
		}
		rules = append(rules, *rule)
		return true
	})
	return rules, errors.Join(errs...)
}

// visit calls f with each rule of each binding of the user until f returns false.
func (r RBAC) visit(user *authn.User, namespace string, f func(rule *rbacv1.PolicyRule, source string, err error) bool) {
	clusterBindings, err := r.Lister.ClusterRoleBindings()
	if err != nil && !f(nil, "", err) {
		return
	}
	for _, b := range clusterBindings {
		subject, ok := appliesTo(user, b.Subjects, "")
		if !ok {
			continue
		}
		rules, err := r.RoleRules(b.RoleRef, "")
		if err != nil {
			if !f(nil, "", err) {
				return
			}
			continue
		}
		source := fmt.Sprintf("ClusterRoleBinding %q of %s %q to %s", b.Name, b.RoleRef.Kind, b.RoleRef.Name, subject)
		for i := range rules {
			if !f(&rules[i], source, nil) {
				return
			}
		}
	}
	if namespace == "" {
		return
	}
	bindings, err := r.Lister.RoleBindings(namespace)
	if err != nil && !f(nil, "", err) {
		return
	}
	for _, b := range bindings {
		subject, ok := appliesTo(user, b.Subjects, namespace)
		if !ok {
			continue
		}
		rules, err := r.RoleRules(b.RoleRef, namespace)
		if err != nil {
			if !f(nil, "", err) {
				return
			}
			continue
		}
		source := fmt.Sprintf("RoleBinding \"%s/%s\" of %s %q to %s", b.Name, b.Namespace, b.RoleRef.Kind, b.RoleRef.Name, subject)
		for i := range rules {
			if !f(&rules[i], source, nil) {
				return
			}
		}
	}
}

// RoleRules returns the rules of the role that a binding in namespace names. The rules of a
// ClusterRole with an aggregationRule are those of the ClusterRoles that it selects now, whatever a
// controller has written into it for readers.
func (r RBAC) RoleRules(ref rbacv1.RoleRef, namespace string) ([]rbacv1.PolicyRule, error) {
	switch ref.Kind {
	case "Role":
		role, err := r.Lister.Role(namespace, ref.Name)
		if err != nil {
			return nil, err
		}
		return role.Rules, nil
	case "ClusterRole":
		role, err := r.Lister.ClusterRole(ref.Name)
		if err != nil {
			return nil, err
		}
		return r.Aggregate(role)
	default:
		return nil, fmt.Errorf("unsupported role reference kind: %q", ref.Kind)
	}
}

// Aggregate returns a ClusterRole's rules, those of the roles that it aggregates included.
func (r RBAC) Aggregate(role *rbacv1.ClusterRole) ([]rbacv1.PolicyRule, error) {
	if role.AggregationRule == nil {
		return role.Rules, nil
	}
	all, err := r.Lister.ClusterRoles()
	if err != nil {
		return nil, err
	}
	// Aggregated roles may themselves aggregate (admin ← edit ← view); seen breaks circles.
	seen := map[string]bool{}
	var rules []rbacv1.PolicyRule
	var collect func(role *rbacv1.ClusterRole) error
	collect = func(role *rbacv1.ClusterRole) error {
		if seen[role.Name] {
			return nil
		}
		seen[role.Name] = true
		if role.AggregationRule == nil {
			rules = append(rules, role.Rules...)
			return nil // what an aggregating role has of its own is a copy, which may be older
		}
		for i := range role.AggregationRule.ClusterRoleSelectors {
			selector, err := metav1.LabelSelectorAsSelector(&role.AggregationRule.ClusterRoleSelectors[i])
			if err != nil {
				return fmt.Errorf("aggregation rule of clusterrole %q: %w", role.Name, err)
			}
			for _, other := range all {
				if selector.Matches(labels.Set(other.Labels)) {
					if err := collect(other); err != nil {
						return err
					}
				}
			}
		}
		return nil
	}
	if err := collect(role); err != nil {
		return nil, err
	}
	return rules, nil
}

func appliesTo(user *authn.User, subjects []rbacv1.Subject, namespace string) (string, bool) {
	if user == nil {
		return "", false
	}
	for _, s := range subjects {
		switch s.Kind {
		case rbacv1.UserKind:
			if user.Name == s.Name {
				return fmt.Sprintf("User %q", s.Name), true
			}
		case rbacv1.GroupKind:
			if user.InGroup(s.Name) {
				return fmt.Sprintf("Group %q", s.Name), true
			}
		case rbacv1.ServiceAccountKind:
			ns := s.Namespace
			if ns == "" {
				ns = namespace
			}
			if ns != "" && user.Name == authn.ServiceAccountUser(ns, s.Name) {
				return fmt.Sprintf("ServiceAccount \"%s/%s\"", s.Name, ns), true
			}
		}
	}
	return "", false
}

// RuleAllows reports whether one rule allows a question.
func RuleAllows(rule *rbacv1.PolicyRule, a Attributes) bool {
	if !matches(rule.Verbs, a.Verb) {
		return false
	}
	if !a.ResourceRequest {
		return pathMatches(rule.NonResourceURLs, a.Path)
	}
	return matches(rule.APIGroups, a.APIGroup) &&
		resourceMatches(rule.Resources, a.Resource, a.Subresource) &&
		(len(rule.ResourceNames) == 0 || a.Name != "" && slices.Contains(rule.ResourceNames, a.Name))
}

func matches(have []string, want string) bool {
	return slices.Contains(have, "*") || slices.Contains(have, want)
}

func resourceMatches(have []string, resource, subresource string) bool {
	combined := resource
	if subresource != "" {
		combined += "/" + subresource
	}
	for _, h := range have {
		if h == "*" || h == combined || subresource != "" && h == "*/"+subresource {
			return true
		}
	}
	return false
}

func pathMatches(have []string, path string) bool {
	for _, h := range have {
		if h == "*" || h == path {
			return true
		}
		if prefix, ok := strings.CutSuffix(h, "*"); ok && strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return false
}

// notFound reports whether a getter said that there is nothing.
func notFound(err error) bool { return apierrors.IsNotFound(err) }
