package api

import (
	"fmt"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// AdmissionPolicy has a module decide about writes.
type AdmissionPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   AdmissionPolicySpec `json:"spec,omitempty"`
	Status PolicyStatus        `json:"status,omitempty"`
}

// SwaggerDoc is what `kubectl explain` says.
func (AdmissionPolicy) SwaggerDoc() map[string]string {
	return map[string]string{
		"":       "AdmissionPolicy has a PolicyModule decide about writes, a person's and a controller's alike.",
		"spec":   "What is decided, and how.",
		"status": "How it fares.",
	}
}

// AdmissionPolicySpec says which writes a module decides about, and what becomes of its answers.
type AdmissionPolicySpec struct {
	Module           string                      `json:"module"`
	Settings         *runtime.RawExtension       `json:"settings,omitempty"`
	Type             AdmissionPolicyType         `json:"type,omitempty"`
	MatchConstraints *admissionv1.MatchResources `json:"matchConstraints,omitempty"`
	FailurePolicy    PolicyFailure               `json:"failurePolicy,omitempty"`
	Order            int32                       `json:"order,omitempty"`
	Mode             AdmissionPolicyMode         `json:"mode,omitempty"`
	Limits           *PolicyLimits               `json:"limits,omitempty"`
	Capabilities     []string                    `json:"capabilities,omitempty"`
}

// SwaggerDoc is what `kubectl explain` says.
func (AdmissionPolicySpec) SwaggerDoc() map[string]string {
	return map[string]string{
		"":         "AdmissionPolicySpec says which writes a module decides about, and what becomes of its answers.",
		"module":   "The name of a PolicyModule.",
		"settings": "What the module is configured with: any JSON value, as the module's author says.",
		"type":     "mutate or validate. Policies that mutate go first; a validate policy's patch is an error. Default validate.",
		"matchConstraints": "Which writes it is asked about, as in ValidatingAdmissionPolicy. " +
			"Objects of policy.pintle.dev are written without asking any policy.",
		"failurePolicy": "Fail or Ignore: what becomes of a write about which it can't be asked. Default Fail.",
		"order":         "Of policies of one type the smaller goes first, those with the same by their names. Default 0.",
		"mode": "enforce, audit or warn. audit only counts refusals and logs them; warn tells the client, too, and lets the write pass. " +
			"Neither changes an object. Default enforce.",
		"limits":       "What one call may use.",
		"capabilities": "What it may do beside deciding: clock, read:GROUP/RESOURCE (read:/pods for the core group), and what modules of other ABIs ask for under the name of theirs.",
	}
}

// AdmissionPolicyType says whether a policy may change objects.
type AdmissionPolicyType string

// The types.
const (
	PolicyMutate   AdmissionPolicyType = "mutate"
	PolicyValidate AdmissionPolicyType = "validate"
)

// AdmissionPolicyMode says what becomes of what a policy decides.
type AdmissionPolicyMode string

// The modes.
const (
	PolicyEnforce AdmissionPolicyMode = "enforce"
	PolicyAudit   AdmissionPolicyMode = "audit"
	PolicyWarn    AdmissionPolicyMode = "warn"
)

// AdmissionPolicyList is a list of AdmissionPolicies.
type AdmissionPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []AdmissionPolicy `json:"items"`
}

// DeepCopyObject implements runtime.Object.
func (p *AdmissionPolicy) DeepCopyObject() runtime.Object {
	if p == nil {
		return nil
	}
	out := *p
	p.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	out.Spec.Settings = copySettings(p.Spec.Settings)
	out.Spec.MatchConstraints = p.Spec.MatchConstraints.DeepCopy()
	out.Spec.Limits = p.Spec.Limits.DeepCopy()
	out.Spec.Capabilities = append([]string(nil), p.Spec.Capabilities...)
	out.Status = p.Status.deepCopy()
	return &out
}

// DeepCopyObject implements runtime.Object.
func (l *AdmissionPolicyList) DeepCopyObject() runtime.Object {
	if l == nil {
		return nil
	}
	out := *l
	l.ListMeta.DeepCopyInto(&out.ListMeta)
	if l.Items != nil {
		out.Items = make([]AdmissionPolicy, len(l.Items))
		for i := range l.Items {
			out.Items[i] = *l.Items[i].DeepCopyObject().(*AdmissionPolicy)
		}
	}
	return &out
}

func admissionPolicyKind() *Kind {
	return &Kind{
		GroupVersionKind: PolicyGroupVersion().WithKind("AdmissionPolicy"),
		Resource:         "admissionpolicies", Singular: "admissionpolicy", ShortNames: []string{"apol"},
		New:     func() Object { return &AdmissionPolicy{} },
		NewList: func() runtime.Object { return &AdmissionPolicyList{} },
		Default: of(func(p *AdmissionPolicy) {
			setZero(&p.Spec.Type, PolicyValidate)
			setZero(&p.Spec.Mode, PolicyEnforce)
			setZero(&p.Spec.FailurePolicy, PolicyFail)
			defaultMatch(p.Spec.MatchConstraints)
		}),
		PrepareCreate: of(func(p *AdmissionPolicy) { p.Generation, p.Status = 1, PolicyStatus{} }),
		PrepareUpdate: pair(func(p, old *AdmissionPolicy) {
			p.Status = old.Status
			bump(p, old, p.Spec, old.Spec)
		}),
		Validate: check(validateAdmissionPolicy),
		Status: &Status{
			PrepareUpdate: pair(func(p, old *AdmissionPolicy) { p.Spec, p.Generation = old.Spec, old.Generation }),
			ValidateUpdate: checkPair(func(p, _ *AdmissionPolicy) field.ErrorList {
				return validatePolicyStatus(&p.Status, field.NewPath("status"))
			}),
		},
		Columns: append([]metav1.TableColumnDefinition{nameColumn(),
			column("Module", "The PolicyModule that decides", 0), column("Type", "mutate or validate", 0),
			column("Mode", "What becomes of what it decides", 0), column("On Failure", "What becomes of a write about which it can't be asked", 0)},
			policyColumns()...),
		Row: row(func(p *AdmissionPolicy) []any {
			return append([]any{p.Name, p.Spec.Module, string(p.Spec.Type), string(p.Spec.Mode), string(p.Spec.FailurePolicy)},
				policyCells(p.CreationTimestamp, &p.Status)...)
		}),
	}
}

func validateAdmissionPolicy(p *AdmissionPolicy) (errs field.ErrorList) {
	s, at := &p.Spec, field.NewPath("spec")
	errs = append(errs, validateModuleName(s.Module, at.Child("module"))...)
	errs = append(errs, validateSettings(s.Settings, at.Child("settings"))...)
	errs = append(errs, oneOf(s.Type, []AdmissionPolicyType{PolicyMutate, PolicyValidate}, at.Child("type"))...)
	errs = append(errs, oneOf(s.Mode, []AdmissionPolicyMode{PolicyAudit, PolicyEnforce, PolicyWarn}, at.Child("mode"))...)
	errs = append(errs, oneOf(s.FailurePolicy, []PolicyFailure{PolicyFail, PolicyIgnore}, at.Child("failurePolicy"))...)
	errs = append(errs, validateMatch(s.MatchConstraints, at.Child("matchConstraints"))...)
	errs = append(errs, validateLimits(s.Limits, at.Child("limits"))...)
	return append(errs, validateCapabilities(s.Capabilities, at.Child("capabilities"))...)
}

// defaultMatch fills in what Kubernetes' API reference says of MatchResources.
func defaultMatch(m *admissionv1.MatchResources) {
	if m == nil {
		return
	}
	setDefault(&m.MatchPolicy, admissionv1.Equivalent)
	setDefault(&m.NamespaceSelector, metav1.LabelSelector{})
	setDefault(&m.ObjectSelector, metav1.LabelSelector{})
	for _, rules := range [][]admissionv1.NamedRuleWithOperations{m.ResourceRules, m.ExcludeResourceRules} {
		for i := range rules {
			setDefault(&rules[i].Scope, admissionv1.AllScopes)
		}
	}
}

func validateMatch(m *admissionv1.MatchResources, at *field.Path) (errs field.ErrorList) {
	if m == nil {
		return field.ErrorList{field.Required(at, "say which writes it is asked about")}
	}
	if len(m.ResourceRules) == 0 {
		errs = append(errs, field.Required(at.Child("resourceRules"), "say which writes it is asked about"))
	}
	if p := m.MatchPolicy; p != nil {
		errs = append(errs, oneOf(*p, []admissionv1.MatchPolicyType{admissionv1.Equivalent, admissionv1.Exact}, at.Child("matchPolicy"))...)
	}
	errs = append(errs, validateSelector(m.NamespaceSelector, at.Child("namespaceSelector"))...)
	errs = append(errs, validateSelector(m.ObjectSelector, at.Child("objectSelector"))...)
	for name, rules := range inOrder(map[string][]admissionv1.NamedRuleWithOperations{"resourceRules": m.ResourceRules, "excludeResourceRules": m.ExcludeResourceRules}) {
		for i := range rules {
			errs = append(errs, validateMatchRule(&rules[i], at.Child(name).Index(i))...)
		}
	}
	return errs
}

func validateMatchRule(r *admissionv1.NamedRuleWithOperations, at *field.Path) (errs field.ErrorList) {
	seen := map[string]bool{}
	for i, name := range r.ResourceNames {
		if seen[name] {
			errs = append(errs, field.Duplicate(at.Child("resourceNames").Index(i), name))
		}
		seen[name] = true
		errs = append(errs, invalid(rbacName(name), at.Child("resourceNames").Index(i), name)...)
	}
	errs = append(errs, validateAlternatives(r.Operations, []admissionv1.OperationType{admissionv1.OperationAll, admissionv1.Connect,
		admissionv1.Create, admissionv1.Delete, admissionv1.Update}, at.Child("operations"))...)
	errs = append(errs, validateAlternatives(r.APIGroups, nil, at.Child("apiGroups"))...)
	errs = append(errs, validateAlternatives(r.APIVersions, nil, at.Child("apiVersions"))...)
	for i, version := range r.APIVersions {
		errs = append(errs, required(version, at.Child("apiVersions").Index(i), "")...)
	}
	errs = append(errs, validateMatchResources(r.Resources, at.Child("resources"))...)
	if s := r.Scope; s != nil {
		errs = append(errs, oneOf(*s, []admissionv1.ScopeType{admissionv1.AllScopes, admissionv1.ClusterScope, admissionv1.NamespacedScope}, at.Child("scope"))...)
	}
	return errs
}

// validateAlternatives is the check of a list in which "*" stands for everything, and then alone.
func validateAlternatives[T ~string](list, allowed []T, at *field.Path) (errs field.ErrorList) {
	if len(list) == 0 {
		return field.ErrorList{field.Required(at, "")}
	}
	if len(list) > 1 && contains(list, "*") {
		errs = append(errs, field.Invalid(at, list, "if '*' is present, must not specify others"))
	}
	for i, v := range list {
		if allowed != nil && !contains(allowed, v) {
			errs = append(errs, field.NotSupported(at.Index(i), v, allowed))
		}
	}
	return errs
}

// validateMatchResources refuses resources that a wildcard beside them covers already.
func validateMatchResources(list []string, at *field.Path) (errs field.ErrorList) {
	if len(list) == 0 {
		return field.ErrorList{field.Required(at, "")}
	}
	all, every := contains(list, "*/*"), contains(list, "*")
	if all && len(list) > 1 {
		return field.ErrorList{field.Invalid(at, list, "if '*/*' is present, must not specify other resources")}
	}
	for i, r := range list {
		name, sub, has := splitResource(r)
		switch {
		case r == "" || name == "" || has && sub == "":
			errs = append(errs, field.Invalid(at.Index(i), r, "must be RESOURCE or RESOURCE/SUBRESOURCE, either of which may be *"))
		case every && !has && r != "*":
			errs = append(errs, field.Invalid(at.Index(i), r, "if '*' is present, must not specify other resources without subresources"))
		case has && sub != "*" && contains(list, name+"/*"):
			errs = append(errs, field.Invalid(at.Index(i), r, fmt.Sprintf("if '%s/*' is present, must not specify %s", name, r)))
		case has && name != "*" && contains(list, "*/"+sub):
			errs = append(errs, field.Invalid(at.Index(i), r, fmt.Sprintf("if '*/%s' is present, must not specify %s", sub, r)))
		}
	}
	return errs
}

func splitResource(r string) (name, sub string, has bool) {
	for i := range r {
		if r[i] == '/' {
			return r[:i], r[i+1:], true
		}
	}
	return r, "", false
}
