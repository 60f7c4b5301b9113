package api

import (
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func controllerRevisionKind() *Kind {
	return &Kind{
		GroupVersionKind: appsv1.SchemeGroupVersion.WithKind("ControllerRevision"),
		Resource:         "controllerrevisions", Singular: "controllerrevision", Namespaced: true,
		New:     func() Object { return &appsv1.ControllerRevision{} },
		NewList: func() runtime.Object { return &appsv1.ControllerRevisionList{} },
		Validate: check(func(c *appsv1.ControllerRevision) field.ErrorList {
			errs := nonNegative(c.Revision, field.NewPath("revision"))
			if len(c.Data.Raw) == 0 && c.Data.Object == nil {
				errs = append(errs, field.Required(field.NewPath("data"), "data is mandatory"))
			}
			return errs
		}),
		ValidateUpdate: checkPair(func(c, old *appsv1.ControllerRevision) field.ErrorList {
			return immutable(c.Data, old.Data, field.NewPath("data"))
		}),
		Columns: []metav1.TableColumnDefinition{nameColumn(), column("Controller", "Controller of the object", 0), column("Revision", "Revision number", 0), ageColumn()},
		Row: row(func(c *appsv1.ControllerRevision) []any {
			controller := "<none>"
			if ref := metav1.GetControllerOf(c); ref != nil {
				gv, _ := schema.ParseGroupVersion(ref.APIVersion)
				controller = fmt.Sprintf("%s/%s", strings.ToLower(schema.GroupKind{Group: gv.Group, Kind: ref.Kind}.String()), ref.Name)
			}
			return []any{c.Name, controller, c.Revision, c.CreationTimestamp}
		}),
	}
}
