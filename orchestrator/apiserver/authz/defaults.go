package authz

import (
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/pintle/pintle/orchestrator/apiserver/authn"
)

const aggregateLabel = "rbac.authorization.k8s.io/aggregate-to-"

// Defaults returns the ClusterRoles and ClusterRoleBindings that every cluster has. The caller
// creates those that are missing; each call makes new objects.
func Defaults() []runtime.Object {
	read := []string{"get", "list", "watch"}
	write := []string{"create", "delete", "deletecollection", "patch", "update"}
	all := append(append([]string{}, read...), write...)
	rule := func(verbs []string, group string, resources ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{Verbs: verbs, APIGroups: []string{group}, Resources: resources}
	}
	urls := func(paths ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: paths}
	}
	events := func() []rbacv1.PolicyRule {
		return []rbacv1.PolicyRule{rule([]string{"create", "patch", "update"}, "", "events"), rule([]string{"create", "patch", "update"}, "events.k8s.io", "events")}
	}
	create := []string{"create"}
	proxy := []rbacv1.PolicyRule{
		rule(read, "", "services", "endpoints", "nodes", "namespaces"), rule(read, "discovery.k8s.io", "endpointslices"),
	}

	objects := []runtime.Object{
		role("cluster-admin", nil,
			rbacv1.PolicyRule{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}},
			rbacv1.PolicyRule{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}}),
		role("system:public-info-viewer", nil, urls("/healthz", "/livez", "/readyz", "/version", "/version/")),
		role("system:discovery", nil, urls("/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz", "/version", "/version/")),
		role("system:basic-user", nil,
			rule(create, "authorization.k8s.io", "selfsubjectaccessreviews", "selfsubjectrulesreviews"),
			rule(create, "authentication.k8s.io", "selfsubjectreviews")),
		role("system:monitoring", nil, urls("/metrics", "/metrics/*", "/healthz", "/healthz/*", "/livez", "/livez/*", "/readyz", "/readyz/*")),
		role("system:auth-delegator", nil, rule(create, "authentication.k8s.io", "tokenreviews"), rule(create, "authorization.k8s.io", "subjectaccessreviews")),
		role("system:service-account-issuer-discovery", nil, urls("/.well-known/openid-configuration", "/openid/v1/jwks")),
		role("system:kube-proxy", nil, append(proxy, events()...)...),
		// An ingress serves TLS from any namespace's Secrets, so it reads them all.
		role("system:ingress-controller", nil, append([]rbacv1.PolicyRule{
			rule(read, "", "services", "endpoints", "secrets", "configmaps", "namespaces", "nodes"),
			rule(read, "discovery.k8s.io", "endpointslices"),
			rule(read, "networking.k8s.io", "ingresses", "ingressclasses"),
			rule([]string{"update", "patch"}, "networking.k8s.io", "ingresses/status"),
		}, events()...)...),

		aggregated("admin", "admin", ""),
		aggregated("edit", "edit", "admin"),
		aggregated("view", "view", "edit"),
		role("system:aggregate-to-admin", map[string]string{aggregateLabel + "admin": "true"},
			rule(create, "authorization.k8s.io", "localsubjectaccessreviews"),
			rule(all, "rbac.authorization.k8s.io", "roles", "rolebindings")),
		role("system:aggregate-to-edit", map[string]string{aggregateLabel + "edit": "true"},
			rule(read, "", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "secrets", "services/proxy"),
			rule([]string{"impersonate"}, "", "serviceaccounts"),
			rule(write, "", "pods", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy"),
			rule(create, "", "pods/eviction"),
			rule([]string{"patch", "update"}, "", "pods/resize"),
			rule(write, "", "configmaps", "events", "secrets", "serviceaccounts", "services", "services/proxy", "endpoints"),
			rule(create, "", "serviceaccounts/token"),
			rule(write, "apps", "daemonsets", "deployments", "deployments/rollback", "deployments/scale", "replicasets", "replicasets/scale",
				"statefulsets", "statefulsets/scale"),
			rule(write, "autoscaling", "horizontalpodautoscalers"),
			rule(write, "autoscaling.pintle.dev", "recommendations"),
			rule(write, "batch", "cronjobs", "jobs"),
			rule(write, "networking.k8s.io", "ingresses"),
			rule(write, "policy", "poddisruptionbudgets"),
			rule(write, "", "persistentvolumeclaims"),
			rule(write, "resource.k8s.io", "resourceclaims", "resourceclaimtemplates"),
			rule(write, "scheduling.k8s.io", "podgroups"),
			rule(all, "coordination.k8s.io", "leases")),
		role("system:aggregate-to-view", map[string]string{aggregateLabel + "view": "true"},
			rule(read, "", "configmaps", "endpoints", "events", "limitranges", "namespaces", "namespaces/status", "pods", "pods/log", "pods/status",
				"resourcequotas", "resourcequotas/status", "serviceaccounts", "services", "services/status"),
			rule(read, "apps", "controllerrevisions", "daemonsets", "daemonsets/status", "deployments", "deployments/scale", "deployments/status",
				"replicasets", "replicasets/scale", "replicasets/status", "statefulsets", "statefulsets/scale", "statefulsets/status"),
			rule(read, "discovery.k8s.io", "endpointslices"),
			rule(read, "autoscaling", "horizontalpodautoscalers", "horizontalpodautoscalers/status"),
			rule(read, "autoscaling.pintle.dev", "recommendations", "recommendations/status"),
			rule(read, "batch", "cronjobs", "cronjobs/status", "jobs", "jobs/status"),
			rule(read, "metrics.k8s.io", "nodes", "pods"),
			rule(read, "events.k8s.io", "events"),
			rule(read, "networking.k8s.io", "ingresses", "ingresses/status"),
			rule(read, "policy", "poddisruptionbudgets", "poddisruptionbudgets/status"),
			rule(read, "", "persistentvolumeclaims", "persistentvolumeclaims/status"),
			rule(read, "resource.k8s.io", "resourceclaims", "resourceclaims/status", "resourceclaimtemplates"),
			rule(read, "scheduling.k8s.io", "podgroups", "podgroups/status")),

		bind("cluster-admin", group(authn.GroupMasters)),
		bind("system:public-info-viewer", group(authn.GroupAuthenticated), group(authn.GroupUnauthenticated)),
		bind("system:discovery", group(authn.GroupAuthenticated)),
		bind("system:basic-user", group(authn.GroupAuthenticated)),
		bind("system:monitoring", group("system:monitoring")),
		bind("system:service-account-issuer-discovery", group(authn.GroupServiceAccounts)),
		bind("system:kube-proxy", user("system:kube-proxy")),
		bind("system:ingress-controller", user("system:kube-proxy"), user("system:ingress-controller")),
	}
	return objects
}

func meta(name string, labels map[string]string) metav1.ObjectMeta {
	merged := map[string]string{"kubernetes.io/bootstrapping": "rbac-defaults"}
	for k, v := range labels {
		merged[k] = v
	}
	return metav1.ObjectMeta{Name: name, Labels: merged, Annotations: map[string]string{rbacv1.AutoUpdateAnnotationKey: "true"}}
}

func role(name string, labels map[string]string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{
		TypeMeta: metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRole"}, ObjectMeta: meta(name, labels), Rules: rules,
	}
}

// aggregated makes a role that gathers others by label, and is itself gathered by outer.
func aggregated(name, inner, outer string) *rbacv1.ClusterRole {
	labels := map[string]string{}
	if outer != "" {
		labels[aggregateLabel+outer] = "true"
	}
	r := role(name, labels)
	r.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{aggregateLabel + inner: "true"}}}}
	return r
}

func bind(role string, subjects ...rbacv1.Subject) *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRoleBinding"},
		ObjectMeta: meta(role, nil), Subjects: subjects,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
	}
}

func group(name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.GroupKind, APIGroup: rbacv1.GroupName, Name: name}
}

func user(name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: name}
}
