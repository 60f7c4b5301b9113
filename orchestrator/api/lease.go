package api

import (
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func leaseKind() *Kind {
	return &Kind{
		GroupVersionKind: coordinationv1.SchemeGroupVersion.WithKind("Lease"),
		Resource:         "leases", Singular: "lease", Namespaced: true,
		MustNameVersion: true,
		CreateOnUpdate:  true,
		New:             func() Object { return &coordinationv1.Lease{} },
		NewList:         func() runtime.Object { return &coordinationv1.LeaseList{} },
		Validate: check(func(l *coordinationv1.Lease) (errs field.ErrorList) {
			if s := l.Spec.LeaseDurationSeconds; s != nil && *s <= 0 {
				errs = append(errs, field.Invalid(field.NewPath("spec", "leaseDurationSeconds"), *s, "must be greater than 0"))
			}
			if n := l.Spec.LeaseTransitions; n != nil {
				errs = append(errs, nonNegative(int64(*n), field.NewPath("spec", "leaseTransitions"))...)
			}
			if h := l.Spec.HolderIdentity; h != nil && *h == "" {
				errs = append(errs, field.Required(field.NewPath("spec", "holderIdentity"), "must not be empty"))
			}
			if l.Spec.Strategy != nil {
				errs = append(errs, unsupported(field.NewPath("spec", "strategy"), "leaders elect themselves"))
			}
			if l.Spec.PreferredHolder != nil {
				errs = append(errs, unsupported(field.NewPath("spec", "preferredHolder"), "leaders elect themselves"))
			}
			return errs
		}),
		Columns: []metav1.TableColumnDefinition{nameColumn(), column("Holder", "The current holder", 0), ageColumn()},
		Row: row(func(l *coordinationv1.Lease) []any {
			holder := ""
			if l.Spec.HolderIdentity != nil {
				holder = *l.Spec.HolderIdentity
			}
			return []any{l.Name, holder, l.CreationTimestamp}
		}),
	}
}
