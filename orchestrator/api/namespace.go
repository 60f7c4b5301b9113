package api

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
)

func namespaceKind() *Kind {
	return &Kind{
		GroupVersionKind: corev1.SchemeGroupVersion.WithKind("Namespace"),
		Resource:         "namespaces", Singular: "namespace", ShortNames: []string{"ns"},
		New:     func() Object { return &corev1.Namespace{} },
		NewList: func() runtime.Object { return &corev1.NamespaceList{} },
		Default: of(func(n *corev1.Namespace) {
			if n.Name != "" {
				metav1.SetMetaDataLabel(&n.ObjectMeta, corev1.LabelMetadataName, n.Name)
			}
			setZero(&n.Status.Phase, corev1.NamespaceActive)
		}),
		PrepareCreate: of(func(n *corev1.Namespace) {
			n.Status = corev1.NamespaceStatus{Phase: corev1.NamespaceActive}
			for _, f := range n.Spec.Finalizers {
				if f == corev1.FinalizerKubernetes {
					return
				}
			}
			n.Spec.Finalizers = append(n.Spec.Finalizers, corev1.FinalizerKubernetes)
		}),
		PrepareUpdate: pair(func(n, old *corev1.Namespace) {
			n.Spec.Finalizers, n.Status = old.Spec.Finalizers, old.Status
		}),
		ValidName: validation.IsDNS1123Label,
		Status: &Status{PrepareUpdate: pair(func(n, old *corev1.Namespace) {
			status := n.Status
			old.DeepCopyInto(n)
			n.Status = status
		})},
		Subresources: []string{"finalize"},
		Columns:      []metav1.TableColumnDefinition{nameColumn(), column("Status", "The status of the namespace", 0), ageColumn()},
		Row:          row(func(n *corev1.Namespace) []any { return []any{n.Name, string(n.Status.Phase), n.CreationTimestamp} }),
		Fields: func(o Object) fields.Set {
			return fields.Set{"status.phase": string(o.(*corev1.Namespace).Status.Phase)}
		},
	}
}
