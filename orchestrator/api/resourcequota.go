package api

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func resourceQuotaKind() *Kind {
	return &Kind{
		GroupVersionKind: corev1.SchemeGroupVersion.WithKind("ResourceQuota"),
		Resource:         "resourcequotas", Singular: "resourcequota", ShortNames: []string{"quota"}, Namespaced: true,
		New:           func() Object { return &corev1.ResourceQuota{} },
		NewList:       func() runtime.Object { return &corev1.ResourceQuotaList{} },
		PrepareCreate: of(func(q *corev1.ResourceQuota) { q.Status = corev1.ResourceQuotaStatus{} }),
		PrepareUpdate: pair(func(q, old *corev1.ResourceQuota) { q.Status = old.Status }),
		Validate:      check(validateResourceQuota),
		ValidateUpdate: checkPair(func(q, old *corev1.ResourceQuota) field.ErrorList {
			at := field.NewPath("spec")
			return append(immutable(q.Spec.Scopes, old.Spec.Scopes, at.Child("scopes")),
				immutable(q.Spec.ScopeSelector, old.Spec.ScopeSelector, at.Child("scopeSelector"))...)
		}),
		Status: &Status{
			PrepareUpdate: pair(func(q, old *corev1.ResourceQuota) { q.Spec = old.Spec }),
			ValidateUpdate: checkPair(func(q, _ *corev1.ResourceQuota) field.ErrorList {
				at := field.NewPath("status")
				return append(validateQuotaList(q.Status.Hard, at.Child("hard")), validateQuotaList(q.Status.Used, at.Child("used"))...)
			}),
		},
		Columns: []metav1.TableColumnDefinition{
			nameColumn(), column("Request", "Request represents a minimum amount of cpu/memory that a container may consume.", 0),
			column("Limit", "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node.", 0), ageColumn(),
		},
		Row: row(func(q *corev1.ResourceQuota) []any {
			var requests, limits []string
			for name, hard := range inOrder(q.Status.Hard) {
				used := q.Status.Used[name]
				text := string(name) + ": " + used.String() + "/" + hard.String()
				if strings.HasPrefix(string(name), "limits") {
					limits = append(limits, text)
				} else {
					requests = append(requests, text)
				}
			}
			return []any{q.Name, strings.Join(requests, ", "), strings.Join(limits, ", "), q.CreationTimestamp}
		}),
	}
}

// podQuotaResources are those without a prefix that pods count towards.
func podQuotaResources() []corev1.ResourceName {
	return []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage, corev1.ResourceRequestsCPU,
		corev1.ResourceRequestsMemory, corev1.ResourceRequestsEphemeralStorage, corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory,
		corev1.ResourceLimitsEphemeralStorage, corev1.ResourcePods}
}

// objectQuotaResources are the counts that had names before "count/" was.
func objectQuotaResources() []corev1.ResourceName {
	return []corev1.ResourceName{corev1.ResourceServices, corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers,
		corev1.ResourceReplicationControllers, corev1.ResourceQuotas, corev1.ResourceSecrets, corev1.ResourceConfigMaps,
		corev1.ResourcePersistentVolumeClaims}
}

func validateQuotaList(list corev1.ResourceList, at *field.Path) (errs field.ErrorList) {
	for name, quantity := range inOrder(list) {
		p, plain := at.Key(string(name)), strings.TrimPrefix(string(name), corev1.DefaultResourceRequestsPrefix)
		errs = append(errs, invalid(validation.IsQualifiedName(string(name)), p, string(name))...)
		counted := slices.Contains(objectQuotaResources(), name) || name == corev1.ResourcePods || strings.Contains(string(name), "/") && !strings.HasSuffix(string(name), "/"+string(corev1.ResourceRequestsStorage))
		switch {
		case strings.Contains(string(name), "/"), strings.HasPrefix(plain, corev1.ResourceHugePagesPrefix):
		case !counted && name != corev1.ResourceRequestsStorage && !slices.Contains(podQuotaResources(), name):
			errs = append(errs, field.Invalid(p, string(name), "must be a standard resource for quota"))
		}
		switch {
		case quantity.Sign() < 0:
			errs = append(errs, field.Invalid(p, quantity.String(), "must be greater than or equal to 0"))
		case counted && quantity.MilliValue()%1000 != 0:
			errs = append(errs, field.Invalid(p, quantity.String(), "must be an integer"))
		}
	}
	return errs
}

func quotaScopes() []corev1.ResourceQuotaScope {
	return []corev1.ResourceQuotaScope{corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopeBestEffort,
		corev1.ResourceQuotaScopeNotBestEffort, corev1.ResourceQuotaScopePriorityClass, corev1.ResourceQuotaScopeCrossNamespacePodAffinity,
		corev1.ResourceQuotaScopeVolumeAttributesClass}
}

func validateResourceQuota(q *corev1.ResourceQuota) field.ErrorList {
	at := field.NewPath("spec")
	errs := validateQuotaList(q.Spec.Hard, at.Child("hard"))
	var seen []corev1.ResourceQuotaScope
	scope := func(name corev1.ResourceQuotaScope, p *field.Path) {
		if !slices.Contains(quotaScopes(), name) {
			errs = append(errs, field.Invalid(p, name, "unsupported scope"))
			return
		}
		for resource := range inOrder(q.Spec.Hard) {
			if !scopeCovers(name, resource) {
				errs = append(errs, field.Invalid(p, name, "unsupported scope applied to resource"))
			}
		}
		for _, two := range [][2]corev1.ResourceQuotaScope{{corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort},
			{corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating}} {
			if name == two[0] && slices.Contains(seen, two[1]) || name == two[1] && slices.Contains(seen, two[0]) {
				errs = append(errs, field.Invalid(p, name, "conflicting scopes"))
			}
		}
		seen = append(seen, name)
	}
	for n, s := range q.Spec.Scopes {
		scope(s, at.Child("scopes").Index(n))
	}
	if q.Spec.ScopeSelector != nil {
		for n, e := range q.Spec.ScopeSelector.MatchExpressions {
			p := at.Child("scopeSelector", "matchExpressions").Index(n)
			scope(e.ScopeName, p.Child("scopeName"))
			errs = append(errs, validateScopeRequirement(e, p)...)
		}
	}
	return errs
}

func validateScopeRequirement(e corev1.ScopedResourceSelectorRequirement, p *field.Path) (errs field.ErrorList) {
	switch e.ScopeName {
	case corev1.ResourceQuotaScopePriorityClass, corev1.ResourceQuotaScopeVolumeAttributesClass:
	default:
		if e.Operator != corev1.ScopeSelectorOpExists {
			errs = append(errs, field.Invalid(p.Child("operator"), e.Operator,
				"must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"))
		}
	}
	switch e.Operator {
	case corev1.ScopeSelectorOpIn, corev1.ScopeSelectorOpNotIn:
		if len(e.Values) == 0 {
			errs = append(errs, field.Required(p.Child("values"), "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"))
		}
	case corev1.ScopeSelectorOpExists, corev1.ScopeSelectorOpDoesNotExist:
		if len(e.Values) > 0 {
			errs = append(errs, field.Invalid(p.Child("values"), e.Values, "must be no value when `operator` is 'Exists' or 'DoesNotExist' for scope selector"))
		}
	default:
		errs = append(errs, field.Invalid(p.Child("operator"), e.Operator, "not a valid selector operator"))
	}
	return errs
}

// scopeCovers says whether a quota with the scope may limit the resource: what the scope sorts counts towards it.
func scopeCovers(scope corev1.ResourceQuotaScope, resource corev1.ResourceName) bool {
	switch scope {
	case corev1.ResourceQuotaScopeBestEffort:
		return resource == corev1.ResourcePods
	case corev1.ResourceQuotaScopeVolumeAttributesClass:
		return resource == corev1.ResourceRequestsStorage || resource == corev1.ResourcePersistentVolumeClaims ||
			resource == "count/persistentvolumeclaims" || strings.Contains(string(resource), storageClassQuota)
	case corev1.ResourceQuotaScopePriorityClass, corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating,
		corev1.ResourceQuotaScopeNotBestEffort, corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		if slices.Contains(podQuotaResources(), resource) {
			return true
		}
		// Counts and claims are not those of pods; extended resources and huge pages are.
		return strings.HasPrefix(string(resource), corev1.DefaultResourceRequestsPrefix) && resource != corev1.ResourceRequestsStorage ||
			strings.HasPrefix(string(resource), corev1.ResourceHugePagesPrefix)
	}
	return true
}
