package api

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validatePodClaims checks which claims a pod has, and which of them its containers use.
func validatePodClaims(s *corev1.PodSpec, path *field.Path) (errs field.ErrorList) {
	names := sets.New[string]()
	for i := range s.ResourceClaims {
		c, at := &s.ResourceClaims[i], path.Child("resourceClaims").Index(i)
		errs = append(errs, validateName(c.Name, at.Child("name"), names)...)
		for child, name := range inOrder(map[string]*string{"resourceClaimName": c.ResourceClaimName, "resourceClaimTemplateName": c.ResourceClaimTemplateName}) {
			if name != nil {
				errs = append(errs, invalid(validation.IsDNS1123Subdomain(*name), at.Child(child), *name)...)
			}
		}
		switch {
		case c.ResourceClaimName != nil && c.ResourceClaimTemplateName != nil:
			errs = append(errs, field.Invalid(at, c.Name, "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"))
		case c.ResourceClaimName == nil && c.ResourceClaimTemplateName == nil:
			errs = append(errs, field.Invalid(at, c.Name, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"))
		}
	}
	check := func(containers []corev1.Container, at *field.Path) {
		for i := range containers {
			errs = append(errs, validateContainerClaims(containers[i].Resources.Claims, names, at.Index(i).Child("resources", "claims"))...)
		}
	}
	check(s.InitContainers, path.Child("initContainers"))
	check(s.Containers, path.Child("containers"))
	return errs
}

// validateContainerClaims checks entries of a container: none twice, nor a request of a claim that is there whole.
func validateContainerClaims(claims []corev1.ResourceClaim, names sets.Set[string], path *field.Path) (errs field.ErrorList) {
	seen := sets.New[corev1.ResourceClaim]()
	for i, c := range claims {
		at := path.Index(i)
		switch whole := (corev1.ResourceClaim{Name: c.Name}); {
		case c.Name == "":
			errs = append(errs, field.Required(at.Child("name"), ""))
			continue
		case seen.Has(c) || seen.Has(whole):
			errs = append(errs, field.Duplicate(at, c.Name))
		case c.Request == "":
			for other := range seen {
				if other.Name == c.Name {
					errs = append(errs, field.Duplicate(at, c.Name))
					break
				}
			}
		}
		seen.Insert(c)
		if !names.Has(c.Name) {
			errs = append(errs, field.NotFound(at.Child("name"), c.Name))
		}
		if c.Request != "" {
			errs = append(errs, invalid(validation.IsDNS1123Label(c.Request), at.Child("request"), c.Request)...)
		}
	}
	return errs
}
