package api

import (
	"fmt"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func podDisruptionBudgetKind() *Kind {
	return &Kind{
		GroupVersionKind: policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget"),
		Resource:         "poddisruptionbudgets", Singular: "poddisruptionbudget", ShortNames: []string{"pdb"}, Namespaced: true,
		MustNameVersion: true,
		New:             func() Object { return &policyv1.PodDisruptionBudget{} },
		NewList:         func() runtime.Object { return &policyv1.PodDisruptionBudgetList{} },
		PrepareCreate: of(func(b *policyv1.PodDisruptionBudget) {
			b.Status, b.Generation = policyv1.PodDisruptionBudgetStatus{}, 1
		}),
		PrepareUpdate: pair(func(b, old *policyv1.PodDisruptionBudget) {
			b.Status = old.Status
			bump(b, old, b.Spec, old.Spec)
		}),
		Validate: check(validateBudget),
		Status: &Status{
			PrepareUpdate: pair(func(b, old *policyv1.PodDisruptionBudget) { b.Spec, b.Generation = old.Spec, old.Generation }),
			ValidateUpdate: checkPair(func(b, _ *policyv1.PodDisruptionBudget) (errs field.ErrorList) {
				path := field.NewPath("status")
				errs = append(errs, nonNegative(int64(b.Status.DisruptionsAllowed), path.Child("disruptionsAllowed"))...)
				errs = append(errs, nonNegative(int64(b.Status.CurrentHealthy), path.Child("currentHealthy"))...)
				errs = append(errs, nonNegative(int64(b.Status.DesiredHealthy), path.Child("desiredHealthy"))...)
				return append(errs, nonNegative(int64(b.Status.ExpectedPods), path.Child("expectedPods"))...)
			}),
		},
		Columns: []metav1.TableColumnDefinition{
			nameColumn(), column("Min Available", "The minimum number of pods that must be available.", 0),
			column("Max Unavailable", "The maximum number of pods that may be unavailable.", 0),
			typed(column("Allowed Disruptions", "Calculated number of pods that may be disrupted at this time.", 0), "integer"), ageColumn(),
		},
		Row: row(func(b *policyv1.PodDisruptionBudget) []any {
			least, most := "N/A", "N/A"
			if b.Spec.MinAvailable != nil {
				least = b.Spec.MinAvailable.String()
			} else if b.Spec.MaxUnavailable != nil {
				most = b.Spec.MaxUnavailable.String()
			}
			return []any{b.Name, least, most, int64(b.Status.DisruptionsAllowed), b.CreationTimestamp}
		}),
	}
}

func validateBudget(b *policyv1.PodDisruptionBudget) (errs field.ErrorList) {
	path := field.NewPath("spec")
	if b.Spec.MinAvailable != nil && b.Spec.MaxUnavailable != nil {
		errs = append(errs, field.Invalid(path, fmt.Sprintf("minAvailable: %s, maxUnavailable: %s", b.Spec.MinAvailable, b.Spec.MaxUnavailable), "minAvailable and maxUnavailable cannot be both set"))
	}
	if b.Spec.MinAvailable != nil {
		errs = append(errs, validateShare(b.Spec.MinAvailable, path.Child("minAvailable"))...)
	}
	if b.Spec.MaxUnavailable != nil {
		errs = append(errs, validateShare(b.Spec.MaxUnavailable, path.Child("maxUnavailable"))...)
	}
	errs = append(errs, metav1validation.ValidateLabelSelector(b.Spec.Selector, metav1validation.LabelSelectorValidationOptions{}, path.Child("selector"))...)
	if p := b.Spec.UnhealthyPodEvictionPolicy; p != nil {
		errs = append(errs, oneOf(*p, []policyv1.UnhealthyPodEvictionPolicyType{policyv1.IfHealthyBudget, policyv1.AlwaysAllow}, path.Child("unhealthyPodEvictionPolicy"))...)
	}
	return errs
}
