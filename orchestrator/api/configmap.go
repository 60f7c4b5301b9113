package api

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func configMapKind() *Kind {
	return &Kind{
		GroupVersionKind: corev1.SchemeGroupVersion.WithKind("ConfigMap"),
		Resource:         "configmaps", Singular: "configmap", ShortNames: []string{"cm"}, Namespaced: true,
		New:     func() Object { return &corev1.ConfigMap{} },
		NewList: func() runtime.Object { return &corev1.ConfigMapList{} },
		Validate: check(func(c *corev1.ConfigMap) field.ErrorList {
			errs, size := validateDataKeys(c.Data, func(v string) int { return len(v) }, field.NewPath("data"))
			more, binary := validateDataKeys(c.BinaryData, func(v []byte) int { return len(v) }, field.NewPath("binaryData"))
			errs = append(errs, more...)
			for key := range inOrder(c.BinaryData) {
				if _, both := c.Data[key]; both {
					errs = append(errs, field.Invalid(field.NewPath("data").Key(key), key, "duplicate of key present in binaryData"))
				}
			}
			return append(errs, validateTotal(size+binary, field.NewPath(""))...)
		}),
		ValidateUpdate: checkPair(func(c, old *corev1.ConfigMap) field.ErrorList {
			return validateImmutableData(c.Immutable, old.Immutable, equal(c.Data, old.Data), equal(c.BinaryData, old.BinaryData))
		}),
		Columns: []metav1.TableColumnDefinition{nameColumn(), column("Data", "Number of entries", 0), ageColumn()},
		Row: row(func(c *corev1.ConfigMap) []any {
			return []any{c.Name, int64(len(c.Data) + len(c.BinaryData)), c.CreationTimestamp}
		}),
	}
}
