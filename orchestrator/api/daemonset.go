package api

import (
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func daemonSetKind() *Kind {
	return &Kind{
		GroupVersionKind: appsv1.SchemeGroupVersion.WithKind("DaemonSet"),
		Resource:         "daemonsets", Singular: "daemonset", ShortNames: []string{"ds"}, Categories: []string{"all"}, Namespaced: true,
		New:           func() Object { return &appsv1.DaemonSet{} },
		NewList:       func() runtime.Object { return &appsv1.DaemonSetList{} },
		Default:       of(defaultDaemonSet),
		PrepareCreate: of(func(d *appsv1.DaemonSet) { d.Status, d.Generation = appsv1.DaemonSetStatus{}, 1 }),
		PrepareUpdate: pair(func(d, old *appsv1.DaemonSet) {
			d.Status = old.Status
			bump(d, old, d.Spec, old.Spec)
		}),
		Validate: check(validateDaemonSet),
		ValidateUpdate: checkPair(func(d, old *appsv1.DaemonSet) field.ErrorList {
			return immutable(d.Spec.Selector, old.Spec.Selector, field.NewPath("spec", "selector"))
		}),
		Status: &Status{PrepareUpdate: pair(func(d, old *appsv1.DaemonSet) {
			d.Spec, d.Labels, d.Generation = old.Spec, old.Labels, old.Generation
		})},
		Columns: []metav1.TableColumnDefinition{
			nameColumn(), typed(column("Desired", "Nodes that should run the daemon pod", 0), "integer"), typed(column("Current", "Of those, nodes that have one", 0), "integer"),
			typed(column("Ready", "Of those, nodes where one is ready", 0), "integer"), typed(column("Up-to-date", "Nodes that have one of the newest template", 0), "integer"),
			typed(column("Available", "Nodes where one is available", 0), "integer"), column("Node Selector", "Node selector of the template", 0), ageColumn(),
			column("Containers", "Names of each container in the template.", 1), column("Images", "Images referenced by each container in the template.", 1),
			column("Selector", "Label selector for pods.", 1),
		},
		Row: row(func(d *appsv1.DaemonSet) []any {
			names, images := containerCells(d.Spec.Template.Spec.Containers)
			s := &d.Status
			nodes := "<none>"
			if sel := d.Spec.Template.Spec.NodeSelector; len(sel) > 0 {
				nodes = labels.FormatLabels(sel)
			}
			return []any{d.Name, int64(s.DesiredNumberScheduled), int64(s.CurrentNumberScheduled), int64(s.NumberReady), int64(s.UpdatedNumberScheduled),
				int64(s.NumberAvailable), nodes, d.CreationTimestamp, names, images, metav1.FormatLabelSelector(d.Spec.Selector)}
		}),
	}
}

func defaultDaemonSet(d *appsv1.DaemonSet) {
	setZero(&d.Spec.UpdateStrategy.Type, appsv1.RollingUpdateDaemonSetStrategyType)
	if d.Spec.UpdateStrategy.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		if d.Spec.UpdateStrategy.RollingUpdate == nil {
			d.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{}
		}
		setDefault(&d.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable, intstr.FromInt32(1))
		setDefault(&d.Spec.UpdateStrategy.RollingUpdate.MaxSurge, intstr.FromInt32(0))
	}
	setDefault(&d.Spec.RevisionHistoryLimit, 10)
	defaultPodSpec(&d.Spec.Template.Spec)
}

func validateDaemonSet(d *appsv1.DaemonSet) field.ErrorList {
	spec := field.NewPath("spec")
	errs := validateSelectorAndTemplate(d.Spec.Selector, &d.Spec.Template, spec)
	errs = append(errs, nonNegative(int64(d.Spec.MinReadySeconds), spec.Child("minReadySeconds"))...)
	if h := d.Spec.RevisionHistoryLimit; h != nil {
		errs = append(errs, nonNegative(int64(*h), spec.Child("revisionHistoryLimit"))...)
	}
	errs = append(errs, validateRollbackAnnotations(d.Annotations, d.Spec.MinReadySeconds)...)
	strategy := spec.Child("updateStrategy")
	switch d.Spec.UpdateStrategy.Type {
	case appsv1.OnDeleteDaemonSetStrategyType:
	case appsv1.RollingUpdateDaemonSetStrategyType:
		r, at := d.Spec.UpdateStrategy.RollingUpdate, strategy.Child("rollingUpdate")
		if r == nil {
			return append(errs, field.Required(at, ""))
		}
		problems := append(validateShare(r.MaxUnavailable, at.Child("maxUnavailable")), validateShare(r.MaxSurge, at.Child("maxSurge"))...)
		errs = append(errs, problems...)
		switch {
		case len(problems) > 0:
		case !isZero(r.MaxUnavailable) && !isZero(r.MaxSurge):
			errs = append(errs, field.Invalid(at.Child("maxSurge"), r.MaxSurge, "may not be set when maxUnavailable is non-zero"))
		case isZero(r.MaxUnavailable) && isZero(r.MaxSurge):
			errs = append(errs, field.Required(at.Child("maxUnavailable"), "cannot be 0 when maxSurge is 0"))
		}
	default:
		errs = append(errs, oneOf(d.Spec.UpdateStrategy.Type, []appsv1.DaemonSetUpdateStrategyType{appsv1.OnDeleteDaemonSetStrategyType,
			appsv1.RollingUpdateDaemonSetStrategyType}, strategy.Child("type"))...)
	}
	return errs
}
