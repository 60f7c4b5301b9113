package api

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func replicaSetKind() *Kind {
	return &Kind{
		GroupVersionKind: appsv1.SchemeGroupVersion.WithKind("ReplicaSet"),
		Resource:         "replicasets", Singular: "replicaset", ShortNames: []string{"rs"}, Categories: []string{"all"}, Namespaced: true,
		New:     func() Object { return &appsv1.ReplicaSet{} },
		NewList: func() runtime.Object { return &appsv1.ReplicaSetList{} },
		Default: of(func(r *appsv1.ReplicaSet) {
			setDefault(&r.Spec.Replicas, 1)
			defaultPodSpec(&r.Spec.Template.Spec)
		}),
		PrepareCreate: of(func(r *appsv1.ReplicaSet) { r.Status, r.Generation = appsv1.ReplicaSetStatus{}, 1 }),
		PrepareUpdate: pair(func(r, old *appsv1.ReplicaSet) {
			r.Status = old.Status
			bump(r, old, r.Spec, old.Spec)
		}),
		Validate: check(func(r *appsv1.ReplicaSet) field.ErrorList {
			spec := field.NewPath("spec")
			errs := validateSelectorAndTemplate(r.Spec.Selector, &r.Spec.Template, spec)
			errs = append(errs, nonNegative(int64(replicas(r.Spec.Replicas)), spec.Child("replicas"))...)
			return append(errs, nonNegative(int64(r.Spec.MinReadySeconds), spec.Child("minReadySeconds"))...)
		}),
		ValidateUpdate: checkPair(func(r, old *appsv1.ReplicaSet) field.ErrorList {
			return immutable(r.Spec.Selector, old.Spec.Selector, field.NewPath("spec", "selector"))
		}),
		Status: &Status{PrepareUpdate: pair(func(r, old *appsv1.ReplicaSet) {
			r.Spec, r.Labels, r.Generation = old.Spec, old.Labels, old.Generation
		})},
		Scale: &Scale{
			SpecReplicas:   func(o Object) int32 { return replicas(o.(*appsv1.ReplicaSet).Spec.Replicas) },
			StatusReplicas: func(o Object) int32 { return o.(*appsv1.ReplicaSet).Status.Replicas },
			Selector:       func(o Object) string { return metav1.FormatLabelSelector(o.(*appsv1.ReplicaSet).Spec.Selector) },
			SetReplicas:    func(o Object, n int32) { o.(*appsv1.ReplicaSet).Spec.Replicas = &n },
		},
		Columns: []metav1.TableColumnDefinition{
			nameColumn(), column("Desired", "Desired replicas", 0), column("Current", "Replicas there are", 0), column("Ready", "Ready replicas", 0), ageColumn(),
			column("Containers", "Names of each container in the template.", 1), column("Images", "Images referenced by each container in the template.", 1),
			column("Selector", "Label selector for pods.", 1),
		},
		Row: row(func(r *appsv1.ReplicaSet) []any {
			names, images := containerCells(r.Spec.Template.Spec.Containers)
			return []any{r.Name, int64(replicas(r.Spec.Replicas)), int64(r.Status.Replicas), int64(r.Status.ReadyReplicas),
				r.CreationTimestamp, names, images, metav1.FormatLabelSelector(r.Spec.Selector)}
		}),
		Fields: func(o Object) fields.Set {
			return fields.Set{"status.replicas": fmt.Sprint(o.(*appsv1.ReplicaSet).Status.Replicas)}
		},
	}
}
