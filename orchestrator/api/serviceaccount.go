package api

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func serviceAccountKind() *Kind {
	return &Kind{
		GroupVersionKind: corev1.SchemeGroupVersion.WithKind("ServiceAccount"),
		Resource:         "serviceaccounts", Singular: "serviceaccount", ShortNames: []string{"sa"}, Namespaced: true,
		New:     func() Object { return &corev1.ServiceAccount{} },
		NewList: func() runtime.Object { return &corev1.ServiceAccountList{} },
		Validate: check(func(s *corev1.ServiceAccount) (errs field.ErrorList) {
			if len(s.ImagePullSecrets) > 0 {
				errs = append(errs, unsupported(field.NewPath("imagePullSecrets"), "images come from the node's own store, nothing is pulled from a registry"))
			}
			return errs
		}),
		Subresources: []string{"token"},
		Columns:      []metav1.TableColumnDefinition{nameColumn(), column("Secrets", "Number of secrets", 0), ageColumn()},
		Row:          row(func(s *corev1.ServiceAccount) []any { return []any{s.Name, int64(len(s.Secrets)), s.CreationTimestamp} }),
	}
}
