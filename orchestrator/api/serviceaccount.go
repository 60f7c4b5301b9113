package api

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func serviceAccountKind() *Kind {
	return &Kind{
		GroupVersionKind: corev1.SchemeGroupVersion.WithKind("ServiceAccount"),
		Resource:         "serviceaccounts", Singular: "serviceaccount", ShortNames: []string{"sa"}, Namespaced: true,
		New:          func() Object { return &corev1.ServiceAccount{} },
		NewList:      func() runtime.Object { return &corev1.ServiceAccountList{} },
		Subresources: []string{"token"},
		Columns:      []metav1.TableColumnDefinition{nameColumn(), column("Secrets", "Number of secrets", 0), ageColumn()},
		Row:          row(func(s *corev1.ServiceAccount) []any { return []any{s.Name, int64(len(s.Secrets)), s.CreationTimestamp} }),
	}
}
