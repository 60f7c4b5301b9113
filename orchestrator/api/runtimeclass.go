package api

import (
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func runtimeClassKind() *Kind {
	return &Kind{
		GroupVersionKind: nodev1.SchemeGroupVersion.WithKind("RuntimeClass"),
		Resource:         "runtimeclasses", Singular: "runtimeclass",
		MustNameVersion: true,
		New:             func() Object { return &nodev1.RuntimeClass{} },
		NewList:         func() runtime.Object { return &nodev1.RuntimeClassList{} },
		Default: of(func(c *nodev1.RuntimeClass) {
			if c.Scheduling != nil {
				defaultTolerations(c.Scheduling.Tolerations)
			}
		}),
		Validate: check(func(c *nodev1.RuntimeClass) (errs field.ErrorList) {
			errs = append(errs, invalid(validation.IsDNS1123Label(c.Handler), field.NewPath("handler"), c.Handler)...)
			if c.Overhead != nil {
				errs = append(errs, validateResourceList(c.Overhead.PodFixed, field.NewPath("overhead", "podFixed"))...)
			}
			if c.Scheduling != nil {
				path := field.NewPath("scheduling")
				errs = append(errs, validateLabels(c.Scheduling.NodeSelector, path.Child("nodeSelector"))...)
				errs = append(errs, validateTolerations(c.Scheduling.Tolerations, path.Child("tolerations"))...)
			}
			return errs
		}),
		ValidateUpdate: checkPair(func(c, old *nodev1.RuntimeClass) field.ErrorList {
			return immutable(c.Handler, old.Handler, field.NewPath("handler"))
		}),
		Columns: []metav1.TableColumnDefinition{nameColumn(), column("Handler", "What runs the containers of this class", 0), ageColumn()},
		Row: row(func(c *nodev1.RuntimeClass) []any {
			return []any{c.Name, c.Handler, c.CreationTimestamp}
		}),
	}
}
