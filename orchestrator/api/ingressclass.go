package api

import (
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func ingressClassKind() *Kind {
	return &Kind{
		GroupVersionKind: networkingv1.SchemeGroupVersion.WithKind("IngressClass"),
		Resource:         "ingressclasses", Singular: "ingressclass",
		New:     func() Object { return &networkingv1.IngressClass{} },
		NewList: func() runtime.Object { return &networkingv1.IngressClassList{} },
		Default: of(func(c *networkingv1.IngressClass) {
			if c.Spec.Parameters != nil {
				setDefault(&c.Spec.Parameters.Scope, networkingv1.IngressClassParametersReferenceScopeCluster)
			}
		}),
		PrepareCreate: of(func(c *networkingv1.IngressClass) { c.Generation = 1 }),
		PrepareUpdate: pair(func(c, old *networkingv1.IngressClass) { bump(c, old, c.Spec, old.Spec) }),
		Validate: check(func(c *networkingv1.IngressClass) (errs field.ErrorList) {
			path := field.NewPath("spec")
			if len(c.Spec.Controller) > 250 {
				errs = append(errs, field.TooLong(path.Child("controller"), "", 250))
			}
			errs = append(errs, validation.IsDomainPrefixedPath(path.Child("controller"), c.Spec.Controller)...)
			if c.Spec.Parameters != nil {
				errs = append(errs, unsupported(path.Child("parameters"), "the ingress has no parameters"))
			}
			return errs
		}),
		ValidateUpdate: checkPair(func(c, old *networkingv1.IngressClass) field.ErrorList {
			return immutable(c.Spec.Controller, old.Spec.Controller, field.NewPath("spec", "controller"))
		}),
		Columns: []metav1.TableColumnDefinition{
			nameColumn(), column("Controller", "The controller that handles this class", 0),
			column("Parameters", "A reference to a resource with additional parameters", 0), ageColumn(),
		},
		Row: row(func(c *networkingv1.IngressClass) []any {
			parameters := "<none>"
			if p := c.Spec.Parameters; p != nil {
				parameters = p.Kind
				if p.APIGroup != nil {
					parameters += "." + *p.APIGroup
				}
				parameters += "/" + p.Name
			}
			return []any{c.Name, c.Spec.Controller, parameters, c.CreationTimestamp}
		}),
	}
}
