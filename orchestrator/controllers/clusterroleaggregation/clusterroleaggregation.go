// Package clusterroleaggregation writes into a ClusterRole with an aggregationRule the rules of those
// that it selects, so that whoever reads it sees what it grants. Authorization itself doesn't wait for
// that: it asks the selected roles.
package clusterroleaggregation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// ClusterRoles is the resource that the controller reads and writes.
func ClusterRoles() schema.GroupVersionResource {
	return rbacv1.SchemeGroupVersion.WithResource("clusterroles")
}

// New makes the controller.
func New(env reconcile.Env) *reconcile.Controller {
	c := &shell{env.WithDefaults()}
	all := reconcile.Key{Name: "all"} // they are few, and each may select any other
	return &reconcile.Controller{Name: "clusterrole-aggregation", Workers: 1, Reconcile: c.reconcile,
		Watches: []reconcile.Watch{{Resource: ClusterRoles(), Map: func(_ context.Context, _ reconcile.Event, enqueue func(reconcile.Key)) error {
			enqueue(all)
			return nil
		}}}}
}

// decide returns the rules that role should have: those of the roles that it selects, by name, each once.
func decide(role *rbacv1.ClusterRole, all []*rbacv1.ClusterRole) ([]rbacv1.PolicyRule, error) {
	var selectors []labels.Selector
	for i := range role.AggregationRule.ClusterRoleSelectors {
		selector, err := metav1.LabelSelectorAsSelector(&role.AggregationRule.ClusterRoleSelectors[i])
		if err != nil {
			return nil, fmt.Errorf("aggregation rule of clusterrole %q: %w", role.Name, err)
		}
		selectors = append(selectors, selector)
	}
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b *rbacv1.ClusterRole) int { return strings.Compare(a.Name, b.Name) })
	var rules []rbacv1.PolicyRule
	for _, other := range all {
		selected := slices.ContainsFunc(selectors, func(s labels.Selector) bool { return s.Matches(labels.Set(other.Labels)) })
		if other.Name == role.Name || !selected {
			continue
		}
		for _, rule := range other.Rules {
			if !slices.ContainsFunc(rules, func(has rbacv1.PolicyRule) bool { return apiequality.Semantic.DeepEqual(has, rule) }) {
				rules = append(rules, *rule.DeepCopy())
			}
		}
	}
	return rules, nil
}

type shell struct{ env reconcile.Env }

func (c *shell) reconcile(ctx context.Context, _ reconcile.Key) (time.Duration, error) {
	objs, err := c.env.Client.List(ctx, ClusterRoles(), "", nil)
	if err != nil {
		return 0, err
	}
	var all []*rbacv1.ClusterRole
	for _, o := range objs {
		if role, ok := o.(*rbacv1.ClusterRole); ok {
			all = append(all, role)
		}
	}
	var errs []error
	for _, role := range all {
		if role.AggregationRule == nil || role.DeletionTimestamp != nil {
			continue
		}
		rules, err := decide(role, all)
		if err != nil || apiequality.Semantic.DeepEqual(rules, role.Rules) {
			errs = append(errs, err)
			continue
		}
		// What aggregates this role in turn follows: the change comes back as an event.
		changed := role.DeepCopy()
		changed.Rules = rules
		_, err = c.env.Client.Update(ctx, ClusterRoles(), "", changed)
		errs = append(errs, err)
	}
	return 0, errors.Join(errs...)
}
