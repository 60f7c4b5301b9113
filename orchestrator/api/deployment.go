package api

import (
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func deploymentKind() *Kind {
	return &Kind{
		GroupVersionKind: appsv1.SchemeGroupVersion.WithKind("Deployment"),
		Resource:         "deployments", Singular: "deployment", ShortNames: []string{"deploy"}, Categories: []string{"all"}, Namespaced: true,
		New:     func() Object { return &appsv1.Deployment{} },
		NewList: func() runtime.Object { return &appsv1.DeploymentList{} },
		Default: of(defaultDeployment),
		PrepareCreate: of(func(d *appsv1.Deployment) {
			d.Status, d.Generation = appsv1.DeploymentStatus{}, 1
		}),
		PrepareUpdate: pair(func(d, old *appsv1.Deployment) {
			d.Status = old.Status
			bump(d, old, d.Spec, old.Spec)
		}),
		Validate: check(validateDeployment),
		ValidateUpdate: checkPair(func(d, old *appsv1.Deployment) field.ErrorList {
			return immutable(d.Spec.Selector, old.Spec.Selector, field.NewPath("spec", "selector"))
		}),
		Status: &Status{PrepareUpdate: pair(func(d, old *appsv1.Deployment) {
			d.Spec, d.Labels, d.Generation = old.Spec, old.Labels, old.Generation
		})},
		Scale: &Scale{
			SpecReplicas:   func(o Object) int32 { return replicas(o.(*appsv1.Deployment).Spec.Replicas) },
			StatusReplicas: func(o Object) int32 { return o.(*appsv1.Deployment).Status.Replicas },
			Selector:       func(o Object) string { return metav1.FormatLabelSelector(o.(*appsv1.Deployment).Spec.Selector) },
			SetReplicas:    func(o Object, n int32) { o.(*appsv1.Deployment).Spec.Replicas = &n },
		},
		Columns: []metav1.TableColumnDefinition{
			nameColumn(), column("Ready", "Number of the pod with ready state", 0), column("Up-to-date", "Replicas of the newest template", 0),
			column("Available", "Replicas that are available", 0), ageColumn(),
			column("Containers", "Names of each container in the template.", 1), column("Images", "Images referenced by each container in the template.", 1),
			column("Selector", "Label selector for pods.", 1),
		},
		Row: row(func(d *appsv1.Deployment) []any {
			names, images := containerCells(d.Spec.Template.Spec.Containers)
			return []any{d.Name, fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, replicas(d.Spec.Replicas)), int64(d.Status.UpdatedReplicas),
				int64(d.Status.AvailableReplicas), d.CreationTimestamp, names, images, metav1.FormatLabelSelector(d.Spec.Selector)}
		}),
	}
}

func replicas(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}

func containerCells(containers []corev1.Container) (names, images string) {
	var n, i []string
	for _, c := range containers {
		n, i = append(n, c.Name), append(i, c.Image)
	}
	return strings.Join(n, ","), strings.Join(i, ",")
}

func defaultDeployment(d *appsv1.Deployment) {
	setDefault(&d.Spec.Replicas, 1)
	setZero(&d.Spec.Strategy.Type, appsv1.RollingUpdateDeploymentStrategyType)
	if d.Spec.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType {
		if d.Spec.Strategy.RollingUpdate == nil {
			d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{}
		}
		setDefault(&d.Spec.Strategy.RollingUpdate.MaxUnavailable, intstr.FromString("25%"))
		setDefault(&d.Spec.Strategy.RollingUpdate.MaxSurge, intstr.FromString("25%"))
	}
	setDefault(&d.Spec.RevisionHistoryLimit, 10)
	setDefault(&d.Spec.ProgressDeadlineSeconds, 600)
	defaultPodSpec(&d.Spec.Template.Spec)
}

func validateDeployment(d *appsv1.Deployment) field.ErrorList {
	spec := field.NewPath("spec")
	errs := validateSelectorAndTemplate(d.Spec.Selector, &d.Spec.Template, spec)
	errs = append(errs, nonNegative(int64(replicas(d.Spec.Replicas)), spec.Child("replicas"))...)
	errs = append(errs, nonNegative(int64(d.Spec.MinReadySeconds), spec.Child("minReadySeconds"))...)
	if h := d.Spec.RevisionHistoryLimit; h != nil {
		errs = append(errs, nonNegative(int64(*h), spec.Child("revisionHistoryLimit"))...)
	}
	if p := d.Spec.ProgressDeadlineSeconds; p != nil {
		errs = append(errs, nonNegative(int64(*p), spec.Child("progressDeadlineSeconds"))...)
		if *p <= d.Spec.MinReadySeconds {
			errs = append(errs, field.Invalid(spec.Child("progressDeadlineSeconds"), *p, "must be greater than minReadySeconds"))
		}
	}
	if value, ok := d.Annotations[AnnotationAutoRollback]; ok && value != "true" && value != "false" {
		errs = append(errs, field.NotSupported(field.NewPath("metadata", "annotations").Key(AnnotationAutoRollback), value, []string{"true", "false"}))
	}
	strategy := spec.Child("strategy")
	switch d.Spec.Strategy.Type {
	case appsv1.RecreateDeploymentStrategyType:
		if d.Spec.Strategy.RollingUpdate != nil {
			errs = append(errs, field.Forbidden(strategy.Child("rollingUpdate"), "may not be specified when strategy `type` is 'Recreate'"))
		}
	case appsv1.RollingUpdateDeploymentStrategyType:
		if r := d.Spec.Strategy.RollingUpdate; r != nil {
			at := strategy.Child("rollingUpdate")
			errs = append(errs, validateShare(r.MaxUnavailable, at.Child("maxUnavailable"))...)
			errs = append(errs, validateIntOrPercent(r.MaxSurge, at.Child("maxSurge"))...)
			if isZero(r.MaxUnavailable) && isZero(r.MaxSurge) {
				errs = append(errs, field.Invalid(at.Child("maxUnavailable"), r.MaxUnavailable, "may not be 0 when `maxSurge` is 0"))
			}
		}
	default:
		errs = append(errs, field.NotSupported(strategy.Child("type"), d.Spec.Strategy.Type,
			[]appsv1.DeploymentStrategyType{appsv1.RecreateDeploymentStrategyType, appsv1.RollingUpdateDeploymentStrategyType}))
	}
	return errs
}

func isZero(v *intstr.IntOrString) bool {
	if v == nil {
		return true
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(v, 100, true)
	return err == nil && n == 0
}

func validateIntOrPercent(v *intstr.IntOrString, path *field.Path) field.ErrorList {
	if v == nil {
		return nil
	}
	if v.Type == intstr.Int {
		return nonNegative(int64(v.IntVal), path)
	}
	if messages := validation.IsValidPercent(v.StrVal); len(messages) > 0 {
		return field.ErrorList{field.Invalid(path, v, messages[0])}
	}
	if _, err := intstr.GetScaledValueFromIntOrPercent(v, 100, true); err != nil {
		return field.ErrorList{field.Invalid(path, v, err.Error())}
	}
	return nil
}

// validateShare is validateIntOrPercent for a part of something, which can't be more than the whole.
func validateShare(v *intstr.IntOrString, path *field.Path) field.ErrorList {
	errs := validateIntOrPercent(v, path)
	if len(errs) > 0 || v == nil || v.Type != intstr.String {
		return errs
	}
	if n, err := intstr.GetScaledValueFromIntOrPercent(v, 100, true); err == nil && n > 100 {
		errs = append(errs, field.Invalid(path, v, "must not be greater than 100%"))
	}
	return errs
}

// validateSelectorAndTemplate checks what Deployments and ReplicaSets have in common.
func validateSelectorAndTemplate(selector *metav1.LabelSelector, template *corev1.PodTemplateSpec, spec *field.Path) field.ErrorList {
	var errs field.ErrorList
	path := spec.Child("selector")
	switch {
	case selector == nil:
		errs = append(errs, field.Required(path, ""),
			field.Invalid(spec.Child("template", "metadata", "labels"), template.Labels, "`selector` does not match template `labels`"))
	case len(selector.MatchLabels)+len(selector.MatchExpressions) == 0:
		errs = append(errs, field.Invalid(path, selector, "empty selector is invalid for deployment"))
	default:
		errs = append(errs, validateSelector(selector, path)...)
		if s, err := metav1.LabelSelectorAsSelector(selector); err == nil && !s.Matches(labels.Set(template.Labels)) {
			errs = append(errs, field.Invalid(spec.Child("template", "metadata", "labels"), template.Labels, "`selector` does not match template `labels`"))
		}
	}
	at := spec.Child("template", "spec")
	errs = append(errs, validateLabels(template.Labels, spec.Child("template", "metadata", "labels"))...)
	errs = append(errs, apivalidation.ValidateAnnotations(template.Annotations, spec.Child("template", "metadata", "annotations"))...)
	errs = append(errs, validateDeletionCost(template.Annotations, spec.Child("template", "metadata", "annotations"))...)
	errs = append(errs, validatePodSpec(&template.Spec, at)...)
	if template.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		errs = append(errs, field.NotSupported(at.Child("restartPolicy"), template.Spec.RestartPolicy, []corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	if template.Spec.ActiveDeadlineSeconds != nil {
		errs = append(errs, field.Forbidden(at.Child("activeDeadlineSeconds"), "activeDeadlineSeconds in ReplicaSet is not Supported"))
	}
	return errs
}

func validateLabels(l map[string]string, path *field.Path) (errs field.ErrorList) {
	for key, value := range inOrder(l) {
		for _, message := range validation.IsQualifiedName(key) {
			errs = append(errs, field.Invalid(path, key, message))
		}
		for _, message := range validation.IsValidLabelValue(value) {
			errs = append(errs, field.Invalid(path, value, message))
		}
	}
	return errs
}
