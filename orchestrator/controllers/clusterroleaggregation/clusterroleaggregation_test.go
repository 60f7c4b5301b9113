package clusterroleaggregation

import (
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestARoleHasTheRulesOfThoseThatItSelects(t *testing.T) {
	role := func(name, label string, verbs ...string) *rbacv1.ClusterRole {
		r := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"to": label}}}
		for _, verb := range verbs {
			r.Rules = append(r.Rules, rbacv1.PolicyRule{Verbs: []string{verb}, APIGroups: []string{""}, Resources: []string{"pods"}})
		}
		return r
	}
	others := []*rbacv1.ClusterRole{role("b", "view", "watch", "get"), role("a", "view", "get", "list"), role("c", "edit", "delete"), role("self", "view", "own")}
	for name, tc := range map[string]struct {
		selects []string
		want    string
	}{
		"one label, each rule once, by name": {[]string{"view"}, "get list watch"},
		"two labels":                         {[]string{"view", "edit"}, "get list watch delete"},
		"nothing selected":                   {[]string{"none"}, ""},
		"no selectors":                       {nil, ""},
	} {
		target := role("self", "view", "own")
		target.AggregationRule = &rbacv1.AggregationRule{}
		for _, label := range tc.selects {
			target.AggregationRule.ClusterRoleSelectors = append(target.AggregationRule.ClusterRoleSelectors, metav1.LabelSelector{MatchLabels: map[string]string{"to": label}})
		}
		rules, err := decide(target, others)
		var got []string
		for _, rule := range rules {
			got = append(got, rule.Verbs...)
		}
		if err != nil || strings.Join(got, " ") != tc.want {
			t.Errorf("%s: %q %v, want %q", name, got, err, tc.want)
		}
	}
	broken := role("self", "")
	broken.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Foo"}}}}}
	if _, err := decide(broken, others); err == nil || !strings.Contains(err.Error(), `clusterrole "self"`) {
		t.Error(err)
	}
}
