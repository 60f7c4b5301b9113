package policy

import (
	"slices"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/registry"
)

func kindNamed(t *testing.T, group, name string) *api.Kind {
	t.Helper()
	i := slices.IndexFunc(api.All(), func(k *api.Kind) bool {
		return k.GroupVersionKind.Kind == name && k.GroupVersionKind.Group == group
	})
	if i < 0 {
		t.Fatalf("no kind %s in %q", name, group)
	}
	return api.All()[i]
}

func labelled(t *testing.T, kind *api.Kind, l map[string]string) api.Object {
	t.Helper()
	o := kind.New()
	o.SetLabels(l)
	return o
}

// What ValidatingAdmissionPolicy's reference says of each field.
func TestRulesMatchAsKubernetesDocuments(t *testing.T) {
	pod, node, ns, deployment := kindNamed(t, "", "Pod"), kindNamed(t, "", "Node"), kindNamed(t, "", "Namespace"), kindNamed(t, "apps", "Deployment")
	core, events := kindNamed(t, "", "Event"), kindNamed(t, "events.k8s.io", "Event")
	namespaces := map[string]labels.Set{"prod": {"env": "prod"}, "test": {"env": "test"}}
	request := func(operation string, kind *api.Kind, sub, namespace, name string) *registry.Request {
		r := &registry.Request{Operation: operation, Kind: kind, As: kind, Subresource: sub, Namespace: namespace, Name: name}
		if operation != "DELETE" && operation != "CONNECT" {
			r.Object = kind.New()
		}
		if operation == "UPDATE" || operation == "DELETE" {
			r.Old = kind.New()
		}
		return r
	}
	with := func(r *registry.Request, object, old map[string]string) *registry.Request {
		if r.Object != nil {
			r.Object = labelled(t, r.Kind, object)
		}
		if r.Old != nil {
			r.Old = labelled(t, r.Kind, old)
		}
		return r
	}
	as := func(r *registry.Request, kind *api.Kind) *registry.Request { r.As = kind; return r }

	const pods = `resourceRules: [{operations: ["*"], apiGroups: [""], apiVersions: [v1], resources: [pods]}]`
	const everything = `resourceRules: [{operations: ["*"], apiGroups: ["*"], apiVersions: ["*"], resources: ["*/*"]}]`
	rule := func(resources string) string {
		return `resourceRules: [{operations: ["*"], apiGroups: ["*"], apiVersions: ["*"], resources: [` + resources + `]}]`
	}
	tests := []struct {
		name, match string
		req         *registry.Request
		want        bool
	}{
		{"no rule matches nothing", `{}`, request("CREATE", pod, "", "prod", "p"), false},
		{"its resource", pods, request("CREATE", pod, "", "prod", "p"), true},
		{"another resource", pods, request("CREATE", node, "", "", "n"), false},
		{"another group", pods, request("CREATE", deployment, "", "prod", "d"), false},
		{"another version", `resourceRules: [{operations: ["*"], apiGroups: [""], apiVersions: [v2], resources: [pods]}]`, request("CREATE", pod, "", "prod", "p"), false},
		{"its operation", `resourceRules: [{operations: [CREATE, UPDATE], apiGroups: [""], apiVersions: [v1], resources: [pods]}]`, request("UPDATE", pod, "", "prod", "p"), true},
		{"another operation", `resourceRules: [{operations: [CREATE, UPDATE], apiGroups: [""], apiVersions: [v1], resources: [pods]}]`, request("DELETE", pod, "", "prod", "p"), false},
		{"any of several rules", `resourceRules: [{operations: [DELETE], apiGroups: [""], apiVersions: [v1], resources: [pods]}, {operations: [CREATE], apiGroups: [apps], apiVersions: [v1], resources: [deployments]}]`, request("CREATE", deployment, "", "prod", "d"), true},
		{"a connection", rule("pods/exec"), request("CONNECT", pod, "exec", "prod", "p"), true},

		{"a resource is not its subresources", pods, request("UPDATE", pod, "status", "prod", "p"), false},
		{"a subresource by name", rule("pods/status"), request("UPDATE", pod, "status", "prod", "p"), true},
		{"a subresource by name is not the resource", rule("pods/status"), request("UPDATE", pod, "", "prod", "p"), false},
		{"a subresource by name is no other", rule("pods/status"), request("CREATE", pod, "binding", "prod", "p"), false},
		{"* is every resource", rule(`"*"`), request("CREATE", node, "", "", "n"), true},
		{"* is no subresource", rule(`"*"`), request("UPDATE", node, "status", "", "n"), false},
		{"*/* is every subresource", rule(`"*/*"`), request("UPDATE", node, "status", "", "n"), true},
		{"*/* is every resource, too", rule(`"*/*"`), request("UPDATE", node, "", "", "n"), true},
		{"pods/* is its subresources", rule(`pods/*`), request("CREATE", pod, "binding", "prod", "p"), true},
		{"pods/* is the resource, as in Kubernetes", rule(`pods/*`), request("CREATE", pod, "", "prod", "p"), true},
		{"pods/* is no other resource", rule(`pods/*`), request("UPDATE", node, "status", "", "n"), false},
		{"*/status", rule(`"*/status"`), request("UPDATE", node, "status", "", "n"), true},
		{"*/status is nothing else", rule(`"*/status"`), request("UPDATE", node, "", "", "n"), false},

		{"namespaced scope", `resourceRules: [{operations: ["*"], apiGroups: ["*"], apiVersions: ["*"], resources: ["*"], scope: Namespaced}]`, request("CREATE", pod, "", "prod", "p"), true},
		{"namespaced scope leaves nodes out", `resourceRules: [{operations: ["*"], apiGroups: ["*"], apiVersions: ["*"], resources: ["*"], scope: Namespaced}]`, request("CREATE", node, "", "", "n"), false},
		{"a Namespace is of cluster scope", `resourceRules: [{operations: ["*"], apiGroups: ["*"], apiVersions: ["*"], resources: ["*"], scope: Cluster}]`, request("CREATE", ns, "", "", "prod"), true},
		{"cluster scope leaves pods out", `resourceRules: [{operations: ["*"], apiGroups: ["*"], apiVersions: ["*"], resources: ["*"], scope: Cluster}]`, request("CREATE", pod, "", "prod", "p"), false},

		{"its name", `resourceRules: [{operations: ["*"], apiGroups: [""], apiVersions: [v1], resources: [pods], resourceNames: [p, q]}]`, request("CREATE", pod, "", "prod", "q"), true},
		{"another name", `resourceRules: [{operations: ["*"], apiGroups: [""], apiVersions: [v1], resources: [pods], resourceNames: [p]}]`, request("CREATE", pod, "", "prod", "q"), false},
		{"a name that is still to be generated", `resourceRules: [{operations: ["*"], apiGroups: [""], apiVersions: [v1], resources: [pods], resourceNames: [p]}]`, request("CREATE", pod, "", "prod", ""), false},

		{"what is excluded wins", everything + "\nexcludeResourceRules: [{operations: [\"*\"], apiGroups: [\"\"], apiVersions: [v1], resources: [pods]}]", request("CREATE", pod, "", "prod", "p"), false},
		{"what is not excluded stays", everything + "\nexcludeResourceRules: [{operations: [\"*\"], apiGroups: [\"\"], apiVersions: [v1], resources: [pods]}]", request("CREATE", node, "", "", "n"), true},
		{"an exclusion by name", pods + "\nexcludeResourceRules: [{operations: [\"*\"], apiGroups: [\"\"], apiVersions: [v1], resources: [pods], resourceNames: [p]}]", request("CREATE", pod, "", "prod", "q"), true},

		{"its namespace", pods + "\nnamespaceSelector: {matchLabels: {env: prod}}", request("CREATE", pod, "", "prod", "p"), true},
		{"another namespace", pods + "\nnamespaceSelector: {matchLabels: {env: prod}}", request("CREATE", pod, "", "test", "p"), false},
		{"NotIn", pods + "\nnamespaceSelector: {matchExpressions: [{key: env, operator: NotIn, values: [prod]}]}", request("CREATE", pod, "", "test", "p"), true},
		{"a namespace without labels", pods + "\nnamespaceSelector: {matchLabels: {env: prod}}", request("CREATE", pod, "", "unknown", "p"), false},
		{"what has no namespace is never left out", everything + "\nnamespaceSelector: {matchLabels: {env: prod}}", request("CREATE", node, "", "", "n"), true},
		{"a Namespace is matched by its own labels", everything + "\nnamespaceSelector: {matchLabels: {env: prod}}", with(request("CREATE", ns, "", "", "new"), map[string]string{"env": "prod"}, nil), true},
		{"a Namespace with others", everything + "\nnamespaceSelector: {matchLabels: {env: prod}}", with(request("CREATE", ns, "", "", "new"), map[string]string{"env": "test"}, nil), false},
		{"a Namespace that goes has the stored labels", everything + "\nnamespaceSelector: {matchLabels: {env: prod}}", request("DELETE", ns, "", "", "prod"), true},
		{"an empty selector is every namespace", pods + "\nnamespaceSelector: {}", request("CREATE", pod, "", "unknown", "p"), true},

		{"the object", pods + "\nobjectSelector: {matchLabels: {a: b}}", with(request("CREATE", pod, "", "prod", "p"), map[string]string{"a": "b"}, nil), true},
		{"another object", pods + "\nobjectSelector: {matchLabels: {a: b}}", with(request("CREATE", pod, "", "prod", "p"), map[string]string{"a": "c"}, nil), false},
		{"the old object is enough", pods + "\nobjectSelector: {matchLabels: {a: b}}", with(request("UPDATE", pod, "", "prod", "p"), nil, map[string]string{"a": "b"}), true},
		{"the new object is enough", pods + "\nobjectSelector: {matchLabels: {a: b}}", with(request("UPDATE", pod, "", "prod", "p"), map[string]string{"a": "b"}, nil), true},
		{"a deletion has the old object", pods + "\nobjectSelector: {matchLabels: {a: b}}", with(request("DELETE", pod, "", "prod", "p"), nil, map[string]string{"a": "b"}), true},
		{"a connection has no object", rule("pods/exec") + "\nobjectSelector: {matchLabels: {a: b}}", request("CONNECT", pod, "exec", "prod", "p"), false},
		{"no object satisfies DoesNotExist either", rule("pods/exec") + "\nobjectSelector: {matchExpressions: [{key: a, operator: DoesNotExist}]}", request("CONNECT", pod, "exec", "prod", "p"), false},

		{"the same object in another group", `resourceRules: [{operations: ["*"], apiGroups: [events.k8s.io], apiVersions: [v1], resources: [events]}]`, request("CREATE", core, "", "prod", "e"), true},
		{"and the other way round", `resourceRules: [{operations: ["*"], apiGroups: [""], apiVersions: [v1], resources: [events]}]`, as(request("CREATE", core, "", "prod", "e"), events), true},
		{"but not with Exact", "matchPolicy: Exact\n" + `resourceRules: [{operations: ["*"], apiGroups: [events.k8s.io], apiVersions: [v1], resources: [events]}]`, request("CREATE", core, "", "prod", "e"), false},
		{"nor the other way round", "matchPolicy: Exact\n" + `resourceRules: [{operations: ["*"], apiGroups: [""], apiVersions: [v1], resources: [events]}]`, as(request("CREATE", core, "", "prod", "e"), events), false},
		{"Exact takes what was asked for", "matchPolicy: Exact\n" + `resourceRules: [{operations: ["*"], apiGroups: [events.k8s.io], apiVersions: [v1], resources: [events]}]`, as(request("CREATE", core, "", "prod", "e"), events), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var m admissionv1.MatchResources
			if err := yaml.UnmarshalStrict([]byte(tt.match), &m); err != nil {
				t.Fatal(err)
			}
			matcher, err := newMatcher(&m)
			if err != nil {
				t.Fatal(err)
			}
			if got := matcher.matches(tt.req, func(name string) labels.Set { return namespaces[name] }); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestNoPolicyIsAskedAboutPolicies(t *testing.T) {
	for _, k := range api.All() {
		want := k.GroupVersionKind.Group == "policy.pintle.dev"
		for _, sub := range []string{"", "status", "wasm"} {
			if got := exempt(&registry.Request{Operation: "DELETE", Kind: k, Subresource: sub}); got != want {
				t.Errorf("%s %q: exempt %v", k.GVR(), sub, got)
			}
		}
	}
}

func podsGVR() schema.GroupVersionResource { return corev1.SchemeGroupVersion.WithResource("pods") }
