package api

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// SchedulingPolicy has a module take part in the choice of pods' nodes.
type SchedulingPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   SchedulingPolicySpec `json:"spec,omitempty"`
	Status PolicyStatus         `json:"status,omitempty"`
}

// SwaggerDoc is what `kubectl explain` says.
func (SchedulingPolicy) SwaggerDoc() map[string]string {
	return map[string]string{
		"":       "SchedulingPolicy has a PolicyModule take part in the choice of pods' nodes.",
		"spec":   "What it takes part in, and how.",
		"status": "How it fares.",
	}
}

// SchedulingPolicySpec says what a module takes part in.
type SchedulingPolicySpec struct {
	Module          string                `json:"module"`
	Settings        *runtime.RawExtension `json:"settings,omitempty"`
	ExtensionPoints []ExtensionPoint      `json:"extensionPoints,omitempty"`
	Weight          int32                 `json:"weight,omitempty"`
	Profile         string                `json:"profile,omitempty"`
	FailurePolicy   PolicyFailure         `json:"failurePolicy,omitempty"`
	Limits          *PolicyLimits         `json:"limits,omitempty"`
	Capabilities    []string              `json:"capabilities,omitempty"`
}

// SwaggerDoc is what `kubectl explain` says.
func (SchedulingPolicySpec) SwaggerDoc() map[string]string {
	return map[string]string{
		"":         "SchedulingPolicySpec says what a module takes part in.",
		"module":   "The name of a PolicyModule.",
		"settings": "What the module is configured with: any JSON value, as the module's author says.",
		"extensionPoints": "Of Filter, Score, QueueSort, Permit and PostFilter those that it takes part in. " +
			"Default: all that the module knows.",
		"weight":        "By which its scores, 0 to 100, count beside those of the scheduler's own plugins: 1 to 100. Default 1.",
		"profile":       "The schedulerName of the pods that it is asked about. Default default-scheduler. Pods that name another profile are scheduled, too, once a policy names it.",
		"failurePolicy": "Fail or Ignore: whether a pod waits while the policy can't be asked, or is scheduled without it. Default Fail.",
		"limits":        "What one call may use.",
		"capabilities":  "What it may do beside deciding: clock, read:GROUP/RESOURCE (read:/pods for the core group), and what modules of other ABIs ask for under the name of theirs.",
	}
}

// ExtensionPoint is where a policy takes part. Names are kube-scheduler's.
type ExtensionPoint string

// The extension points.
const (
	PointFilter     ExtensionPoint = "Filter"
	PointScore      ExtensionPoint = "Score"
	PointQueueSort  ExtensionPoint = "QueueSort"
	PointPermit     ExtensionPoint = "Permit"
	PointPostFilter ExtensionPoint = "PostFilter"
)

// SchedulingPolicyList is a list of SchedulingPolicies.
type SchedulingPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []SchedulingPolicy `json:"items"`
}

// DeepCopyObject implements runtime.Object.
func (p *SchedulingPolicy) DeepCopyObject() runtime.Object {
	if p == nil {
		return nil
	}
	out := *p
	p.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	out.Spec.Settings = copySettings(p.Spec.Settings)
	out.Spec.ExtensionPoints = append([]ExtensionPoint(nil), p.Spec.ExtensionPoints...)
	out.Spec.Limits = p.Spec.Limits.DeepCopy()
	out.Spec.Capabilities = append([]string(nil), p.Spec.Capabilities...)
	out.Status = p.Status.deepCopy()
	return &out
}

// DeepCopyObject implements runtime.Object.
func (l *SchedulingPolicyList) DeepCopyObject() runtime.Object {
	if l == nil {
		return nil
	}
	out := *l
	l.ListMeta.DeepCopyInto(&out.ListMeta)
	if l.Items != nil {
		out.Items = make([]SchedulingPolicy, len(l.Items))
		for i := range l.Items {
			out.Items[i] = *l.Items[i].DeepCopyObject().(*SchedulingPolicy)
		}
	}
	return &out
}

func schedulingPolicyKind() *Kind {
	return &Kind{
		GroupVersionKind: PolicyGroupVersion().WithKind("SchedulingPolicy"),
		Resource:         "schedulingpolicies", Singular: "schedulingpolicy", ShortNames: []string{"spol"},
		New:     func() Object { return &SchedulingPolicy{} },
		NewList: func() runtime.Object { return &SchedulingPolicyList{} },
		Default: of(func(p *SchedulingPolicy) {
			setZero(&p.Spec.Weight, 1)
			setZero(&p.Spec.Profile, corev1.DefaultSchedulerName)
			setZero(&p.Spec.FailurePolicy, PolicyFail)
		}),
		PrepareCreate: of(func(p *SchedulingPolicy) { p.Generation, p.Status = 1, PolicyStatus{} }),
		PrepareUpdate: pair(func(p, old *SchedulingPolicy) {
			p.Status = old.Status
			bump(p, old, p.Spec, old.Spec)
		}),
		Validate: check(validateSchedulingPolicy),
		Status: &Status{
			PrepareUpdate: pair(func(p, old *SchedulingPolicy) { p.Spec, p.Generation = old.Spec, old.Generation }),
			ValidateUpdate: checkPair(func(p, _ *SchedulingPolicy) field.ErrorList {
				return validatePolicyStatus(&p.Status, field.NewPath("status"))
			}),
		},
		Columns: append([]metav1.TableColumnDefinition{nameColumn(),
			column("Module", "The PolicyModule that decides", 0), column("Points", "Where it takes part", 0),
			typed(column("Weight", "By which its scores count", 0), "integer"), column("Profile", "The schedulerName of its pods", 0)},
			policyColumns()...),
		Row: row(func(p *SchedulingPolicy) []any {
			points := "All"
			if len(p.Spec.ExtensionPoints) > 0 {
				var names []string
				for _, point := range p.Spec.ExtensionPoints {
					names = append(names, string(point))
				}
				points = strings.Join(names, ",")
			}
			return append([]any{p.Name, p.Spec.Module, points, int64(p.Spec.Weight), p.Spec.Profile},
				policyCells(p.CreationTimestamp, &p.Status)...)
		}),
	}
}

func validateSchedulingPolicy(p *SchedulingPolicy) (errs field.ErrorList) {
	s, at := &p.Spec, field.NewPath("spec")
	errs = append(errs, validateModuleName(s.Module, at.Child("module"))...)
	errs = append(errs, validateSettings(s.Settings, at.Child("settings"))...)
	seen := map[ExtensionPoint]bool{}
	for i, point := range s.ExtensionPoints {
		where := at.Child("extensionPoints").Index(i)
		errs = append(errs, oneOf(point, []ExtensionPoint{PointFilter, PointPermit, PointPostFilter, PointQueueSort, PointScore}, where)...)
		if seen[point] {
			errs = append(errs, field.Duplicate(where, point))
		}
		seen[point] = true
	}
	if s.Weight < 1 || s.Weight > 100 {
		errs = append(errs, field.Invalid(at.Child("weight"), s.Weight, "must be between 1 and 100"))
	}
	errs = append(errs, invalid(validation.IsDNS1123Subdomain(s.Profile), at.Child("profile"), s.Profile)...)
	errs = append(errs, oneOf(s.FailurePolicy, []PolicyFailure{PolicyFail, PolicyIgnore}, at.Child("failurePolicy"))...)
	errs = append(errs, validateLimits(s.Limits, at.Child("limits"))...)
	return append(errs, validateCapabilities(s.Capabilities, at.Child("capabilities"))...)
}
