package api

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func limitRangeKind() *Kind {
	return &Kind{
		GroupVersionKind: corev1.SchemeGroupVersion.WithKind("LimitRange"),
		Resource:         "limitranges", Singular: "limitrange", ShortNames: []string{"limits"}, Namespaced: true,
		New:     func() Object { return &corev1.LimitRange{} },
		NewList: func() runtime.Object { return &corev1.LimitRangeList{} },
		Default: of(func(r *corev1.LimitRange) {
			for i := range r.Spec.Limits {
				defaultLimits(&r.Spec.Limits[i])
			}
		}),
		Validate: check(validateLimitRange),
		Columns:  []metav1.TableColumnDefinition{nameColumn(), column("Created At", "When the object was created.", 0)},
		Row: row(func(r *corev1.LimitRange) []any {
			return []any{r.Name, r.CreationTimestamp.UTC().Format(time.RFC3339)}
		}),
	}
}

// defaultLimits derives what containers get from what they may have: a limit from the maximum, a request from the
// limit or else from the minimum.
func defaultLimits(item *corev1.LimitRangeItem) {
	if item.Type != corev1.LimitTypeContainer {
		return
	}
	fill := func(to *corev1.ResourceList, from corev1.ResourceList) {
		for name, q := range from {
			if _, ok := (*to)[name]; !ok {
				if *to == nil {
					*to = corev1.ResourceList{}
				}
				(*to)[name] = q.DeepCopy()
			}
		}
	}
	fill(&item.Default, item.Max)
	fill(&item.DefaultRequest, item.Default)
	fill(&item.DefaultRequest, item.Min)
}

func validateLimitRange(r *corev1.LimitRange) (errs field.ErrorList) {
	seen := map[corev1.LimitType]bool{}
	for i := range r.Spec.Limits {
		item, at := &r.Spec.Limits[i], field.NewPath("spec", "limits").Index(i)
		if item.Type == "" {
			errs = append(errs, field.Required(at.Child("type"), ""))
		} else {
			errs = append(errs, invalid(validation.IsQualifiedName(string(item.Type)), at.Child("type"), item.Type)...)
		}
		if seen[item.Type] {
			errs = append(errs, field.Duplicate(at.Child("type"), item.Type))
		}
		seen[item.Type] = true
		errs = append(errs, validateLimitItem(item, at)...)
	}
	return errs
}

func validateLimitItem(item *corev1.LimitRangeItem, at *field.Path) (errs field.ErrorList) {
	names := map[corev1.ResourceName]bool{}
	for _, l := range []struct {
		list corev1.ResourceList
		path *field.Path
	}{{item.Max, at.Child("max")}, {item.Min, at.Child("min")}, {item.Default, at.Child("default")}, {item.DefaultRequest, at.Child("defaultRequest")},
		{item.MaxLimitRequestRatio, at.Child("maxLimitRequestRatio")}} {
		errs = append(errs, validateResourceList(l.list, l.path)...)
		for name := range l.list {
			names[name] = true
		}
	}
	if item.Type == corev1.LimitTypePod {
		if len(item.Default) > 0 {
			errs = append(errs, field.Forbidden(at.Child("default"), "may not be specified when `type` is 'Pod'"))
		}
		if len(item.DefaultRequest) > 0 {
			errs = append(errs, field.Forbidden(at.Child("defaultRequest"), "may not be specified when `type` is 'Pod'"))
		}
	}
	if item.Type == corev1.LimitTypePersistentVolumeClaim {
		_, least := item.Min[corev1.ResourceStorage]
		_, most := item.Max[corev1.ResourceStorage]
		if !least && !most {
			errs = append(errs, field.Required(at.Child("limits"), "either minimum or maximum storage value is required, but neither was provided"))
		}
	}
	for name := range inOrder(names) {
		key := string(name)
		least, hasMin := item.Min[name]
		most, hasMax := item.Max[name]
		limit, hasDefault := item.Default[name]
		request, hasRequest := item.DefaultRequest[name]
		ratio, hasRatio := item.MaxLimitRequestRatio[name]
		if hasMin && hasMax && least.Cmp(most) > 0 {
			errs = append(errs, field.Invalid(at.Child("min").Key(key), least.String(), "min value "+least.String()+" is greater than max value "+most.String()))
		}
		if hasRequest && hasMin && least.Cmp(request) > 0 {
			errs = append(errs, field.Invalid(at.Child("defaultRequest").Key(key), request.String(), "min value "+least.String()+" is greater than default request value "+request.String()))
		}
		if hasRequest && hasMax && request.Cmp(most) > 0 {
			errs = append(errs, field.Invalid(at.Child("defaultRequest").Key(key), request.String(), "default request value "+request.String()+" is greater than max value "+most.String()))
		}
		if hasRequest && hasDefault && request.Cmp(limit) > 0 {
			errs = append(errs, field.Invalid(at.Child("defaultRequest").Key(key), request.String(), "default request value "+request.String()+" is greater than default limit value "+limit.String()))
		}
		if hasDefault && hasMin && least.Cmp(limit) > 0 {
			errs = append(errs, field.Invalid(at.Child("default").Key(key), limit.String(), "min value "+least.String()+" is greater than default value "+limit.String()))
		}
		if hasDefault && hasMax && limit.Cmp(most) > 0 {
			errs = append(errs, field.Invalid(at.Child("default").Key(key), limit.String(), "default value "+limit.String()+" is greater than max value "+most.String()))
		}
		if hasRatio && ratio.Cmp(*one()) < 0 {
			errs = append(errs, field.Invalid(at.Child("maxLimitRequestRatio").Key(key), ratio.String(), "ratio "+ratio.String()+" is less than 1"))
		}
		if hasRatio && hasMin && hasMax && least.AsApproximateFloat64() > 0 && ratio.AsApproximateFloat64() > most.AsApproximateFloat64()/least.AsApproximateFloat64() {
			errs = append(errs, field.Invalid(at.Child("maxLimitRequestRatio").Key(key), ratio.String(), "ratio "+ratio.String()+" is greater than max/min"))
		}
	}
	return errs
}
