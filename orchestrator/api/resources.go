package api

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateResourceList(list corev1.ResourceList, at *field.Path) (errs field.ErrorList) {
	for name, quantity := range inOrder(list) {
		p := at.Key(string(name))
		errs = append(errs, invalid(validation.IsQualifiedName(string(name)), p, string(name))...)
		if quantity.Sign() < 0 {
			errs = append(errs, field.Invalid(p, quantity.String(), "must be greater than or equal to 0"))
		}
	}
	return errs
}

// standardResources are those that Kubernetes itself gives a meaning on containers.
func standardResources() []corev1.ResourceName {
	return []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage}
}

func validateRequirements(r *corev1.ResourceRequirements, at *field.Path) field.ErrorList {
	errs := append(validateResourceList(r.Limits, at.Child("limits")), validateResourceList(r.Requests, at.Child("requests"))...)
	for _, lists := range []struct {
		list corev1.ResourceList
		path *field.Path
	}{{r.Limits, at.Child("limits")}, {r.Requests, at.Child("requests")}} {
		for name, quantity := range inOrder(lists.list) {
			p := lists.path.Key(string(name))
			switch {
			case strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix):
				errs = append(errs, unsupported(p, "huge pages are not handed out"))
			case !strings.Contains(string(name), "/") && !contains(standardResources(), name):
				if !contains([]corev1.ResourceName{corev1.ResourcePods, corev1.ResourceStorage, corev1.ResourceRequestsCPU}, name) {
					errs = append(errs, field.Invalid(p, string(name), "must be a standard resource type or fully qualified"))
				}
				errs = append(errs, field.Invalid(p, string(name), "must be a standard resource for containers"))
			case strings.Contains(string(name), "/") && quantity.MilliValue()%1000 != 0:
				errs = append(errs, field.Invalid(p, quantity.String(), "must be an integer"))
			}
		}
	}
	for name, request := range inOrder(r.Requests) {
		limit, limited := r.Limits[name]
		p := at.Child("requests")
		extended := strings.Contains(string(name), "/")
		switch {
		case limited && request.Cmp(limit) > 0:
			errs = append(errs, field.Invalid(p, request.String(), "must be less than or equal to "+string(name)+" limit of "+limit.String()))
		case extended && !limited:
			errs = append(errs, field.Required(at.Child("limits"), "Limit must be set for non overcommitable resources"))
		case extended && request.Cmp(limit) != 0:
			errs = append(errs, field.Invalid(p, request.String(), "must be equal to "+string(name)+" limit of "+limit.String()))
		}
	}
	return errs
}

func contains[T comparable](list []T, v T) bool {
	for _, x := range list {
		if x == v {
			return true
		}
	}
	return false
}
