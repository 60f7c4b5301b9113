package policy

import (
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/registry"
)

// matcher is a policy's matchConstraints with its selectors parsed. It is never changed.
type matcher struct {
	include, exclude []admissionv1.NamedRuleWithOperations
	namespaces       labels.Selector // nil: every namespace
	objects          labels.Selector // nil: every object
	exact            bool
}

func newMatcher(m *admissionv1.MatchResources) (*matcher, error) {
	out := &matcher{}
	if m == nil {
		return out, nil // matches nothing; validation refuses it
	}
	out.include, out.exclude = m.ResourceRules, m.ExcludeResourceRules
	out.exact = m.MatchPolicy != nil && *m.MatchPolicy == admissionv1.Exact
	var err error
	if out.namespaces, err = selector(m.NamespaceSelector); err != nil {
		return nil, err
	}
	out.objects, err = selector(m.ObjectSelector)
	return out, err
}

func selector(s *metav1.LabelSelector) (labels.Selector, error) {
	if s == nil || len(s.MatchLabels) == 0 && len(s.MatchExpressions) == 0 {
		return nil, nil
	}
	return metav1.LabelSelectorAsSelector(s)
}

// exempt are the writes that no policy is asked about.
func exempt(req *registry.Request) bool {
	return req.Kind.GroupVersionKind.Group == api.PolicyGroupVersion().Group
}

// matches holds a request against the rules, as ValidatingAdmissionPolicy documents them. namespaceLabels are the
// labels of a stored namespace.
func (m *matcher) matches(req *registry.Request, namespaceLabels func(name string) labels.Set) bool {
	return m.anyRule(m.include, req) && !m.anyRule(m.exclude, req) && m.matchesNamespace(req, namespaceLabels) && m.matchesObject(req)
}

func (m *matcher) anyRule(rules []admissionv1.NamedRuleWithOperations, req *registry.Request) bool {
	for i := range rules {
		if m.rule(&rules[i], req) {
			return true
		}
	}
	return false
}

func (m *matcher) rule(r *admissionv1.NamedRuleWithOperations, req *registry.Request) bool {
	if !has(r.Operations, admissionv1.OperationType(req.Operation)) || !inScope(r.Scope, req) {
		return false
	}
	if len(r.ResourceNames) > 0 && !slices.Contains(r.ResourceNames, req.Name) {
		return false
	}
	as := req.As
	if as == nil {
		as = req.Kind
	}
	if names(r, as.GVR(), req.Subresource) {
		return true
	}
	// The same object, written as another kind: what a rule says of either is meant.
	return !m.exact && (names(r, req.Kind.GVR(), req.Subresource) || alias(req.Kind) != req.Kind.GVR() && names(r, alias(req.Kind), req.Subresource))
}

// alias is the other resource under which a kind's objects are served: events are in two groups.
func alias(kind *api.Kind) schema.GroupVersionResource {
	if gvr := kind.GVR(); gvr.Resource == "events" && gvr.Group == "" {
		return schema.GroupVersionResource{Group: "events.k8s.io", Version: "v1", Resource: "events"}
	}
	return kind.GVR()
}

func names(r *admissionv1.NamedRuleWithOperations, gvr schema.GroupVersionResource, subresource string) bool {
	if !has(r.APIGroups, gvr.Group) || !has(r.APIVersions, gvr.Version) {
		return false
	}
	for _, pattern := range r.Resources {
		resource, sub, _ := strings.Cut(pattern, "/")
		if (resource == "*" || resource == gvr.Resource) && (sub == "*" || sub == subresource) {
			return true
		}
	}
	return false
}

func has[T ~string](list []T, v T) bool {
	return slices.Contains(list, v) || slices.Contains(list, "*")
}

func inScope(scope *admissionv1.ScopeType, req *registry.Request) bool {
	if scope == nil || *scope == admissionv1.AllScopes {
		return true
	}
	return (*scope == admissionv1.NamespacedScope) == req.Kind.Namespaced
}

// matchesNamespace: a cluster-scoped object that is no Namespace is never left out.
func (m *matcher) matchesNamespace(req *registry.Request, namespaceLabels func(string) labels.Set) bool {
	if m.namespaces == nil {
		return true
	}
	if req.Kind.GVR() == corev1.SchemeGroupVersion.WithResource("namespaces") {
		// One that is being written counts with the labels that it gets; one that goes, with those that it has.
		if req.Object != nil {
			return m.namespaces.Matches(labels.Set(req.Object.GetLabels()))
		}
		return m.namespaces.Matches(namespaceLabels(req.Name))
	}
	if !req.Kind.Namespaced {
		return true
	}
	return m.namespaces.Matches(namespaceLabels(req.Namespace))
}

// matchesObject: either the new or the old object is enough.
func (m *matcher) matchesObject(req *registry.Request) bool {
	if m.objects == nil {
		return true
	}
	for _, obj := range []api.Object{req.Object, oldOf(req)} {
		if obj != nil && m.objects.Matches(labels.Set(obj.GetLabels())) {
			return true
		}
	}
	return false
}

// oldOf is the object as it was, for a policy: a creation has none, also where a subresource is created (a
// Binding) and the registry knows what that belongs to.
func oldOf(req *registry.Request) api.Object {
	if req.Operation == registry.OperationCreate {
		return nil
	}
	return req.Old
}
