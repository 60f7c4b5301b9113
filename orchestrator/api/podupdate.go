package api

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validatePodUpdate lets a pod's spec change only where Kubernetes does: images, activeDeadlineSeconds
// when it becomes stricter, further tolerations and the seconds of those there are, fewer scheduling
// gates, a narrower choice of nodes while gated, a grace period that was negative.
func validatePodUpdate(p, old *corev1.Pod) field.ErrorList {
	spec := field.NewPath("spec")
	var errs field.ErrorList
	for child, lengths := range inOrder(map[string][2]int{"containers": {len(p.Spec.Containers), len(old.Spec.Containers)},
		"initContainers": {len(p.Spec.InitContainers), len(old.Spec.InitContainers)}}) {
		if lengths[0] != lengths[1] {
			errs = append(errs, field.Forbidden(spec.Child(child), "pod updates may not add or remove containers"))
		}
	}
	if len(errs) > 0 {
		return errs
	}
	munged := p.Spec.DeepCopy()
	before := old
	if !equal(old.Spec, p.Spec) { // one that was stored before there were such defaults
		before = old.DeepCopy()
		defaultResizePolicies(&before.Spec)
		errs = append(errs, refuseResources(p, before, munged)...)
	}
	old = before
	for i := range munged.Containers {
		munged.Containers[i].Image = old.Spec.Containers[i].Image
	}
	for i := range munged.InitContainers {
		munged.InitContainers[i].Image = old.Spec.InitContainers[i].Image
	}
	switch now, before := p.Spec.ActiveDeadlineSeconds, old.Spec.ActiveDeadlineSeconds; {
	case now == nil && before != nil:
		errs = append(errs, field.Invalid(spec.Child("activeDeadlineSeconds"), now, "must not update from a positive integer to nil value"))
	case now != nil && before != nil && *now > *before:
		errs = append(errs, field.Invalid(spec.Child("activeDeadlineSeconds"), *now, "must be less than or equal to previous value"))
	}
	munged.ActiveDeadlineSeconds = old.Spec.ActiveDeadlineSeconds
	errs = append(errs, validateOnlyAddedTolerations(p.Spec.Tolerations, old.Spec.Tolerations, spec.Child("tolerations"))...)
	munged.Tolerations = old.Spec.Tolerations
	kept := map[string]bool{}
	for _, gate := range old.Spec.SchedulingGates {
		kept[gate.Name] = true
	}
	for i, gate := range munged.SchedulingGates {
		if !kept[gate.Name] {
			errs = append(errs, field.Forbidden(spec.Child("schedulingGates").Index(i), "only deletion is allowed, but found new scheduling gate '"+gate.Name+"'"))
		}
	}
	munged.SchedulingGates = old.Spec.SchedulingGates
	if g := old.Spec.TerminationGracePeriodSeconds; g != nil && *g < 0 && p.Spec.TerminationGracePeriodSeconds != nil && *p.Spec.TerminationGracePeriodSeconds == 1 {
		munged.TerminationGracePeriodSeconds = g
	}
	if len(old.Spec.SchedulingGates) > 0 { // a gated pod's choice of nodes may still be narrowed
		errs = append(errs, validateNarrowed(&p.Spec, &old.Spec, spec)...)
		munged.NodeSelector = old.Spec.NodeSelector
		if munged.Affinity != nil || old.Spec.Affinity != nil {
			munged.Affinity = withNodeAffinityOf(munged.Affinity, old.Spec.Affinity)
		}
	}
	if !equal(*munged, old.Spec) {
		errs = append(errs, field.Forbidden(spec, "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"+
			"`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"))
	}
	return errs
}

// validateOnlyAddedTolerations looks for each old toleration among the new ones; only its seconds may differ.
func validateOnlyAddedTolerations(now, old []corev1.Toleration, at *field.Path) field.ErrorList {
	for _, before := range old {
		before.TolerationSeconds = nil
		found := false
		for _, t := range now {
			t.TolerationSeconds = nil
			found = found || equal(t, before)
		}
		if !found {
			return field.ErrorList{field.Forbidden(at, "existing toleration can not be modified except its tolerationSeconds")}
		}
	}
	return nil
}

// withNodeAffinityOf returns a with old's node affinity, nil where that leaves nothing.
func withNodeAffinityOf(a, old *corev1.Affinity) *corev1.Affinity {
	out := &corev1.Affinity{}
	if a != nil {
		*out = *a
	}
	out.NodeAffinity = nil
	if old != nil {
		out.NodeAffinity = old.NodeAffinity
	}
	if old == nil && *out == (corev1.Affinity{}) {
		return nil
	}
	return out
}

// validateNarrowed lets the node selector of a gated pod gain keys, and its required node affinity gain
// conditions: whatever the pod may run on afterwards it could run on before.
func validateNarrowed(now, old *corev1.PodSpec, spec *field.Path) (errs field.ErrorList) {
	for key, value := range inOrder(old.NodeSelector) {
		if v, ok := now.NodeSelector[key]; !ok || v != value {
			errs = append(errs, field.Invalid(spec.Child("nodeSelector"), now.NodeSelector, "only additions to spec.nodeSelector are allowed (no mutations or deletions)"))
			break
		}
	}
	before, after := requiredTerms(old), requiredTerms(now)
	if len(before) == 0 {
		return errs
	}
	at := spec.Child("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")
	if len(before) != len(after) {
		return append(errs, field.Invalid(at, after, "no additions/deletions to non-empty NodeSelectorTerms list are allowed"))
	}
	starts := func(now, old []corev1.NodeSelectorRequirement) bool {
		return len(now) >= len(old) && equal(now[:len(old)], old)
	}
	for i := range before {
		if !starts(after[i].MatchExpressions, before[i].MatchExpressions) || !starts(after[i].MatchFields, before[i].MatchFields) {
			errs = append(errs, field.Invalid(at.Index(i), after[i], "only additions are allowed (no mutations or deletions)"))
		}
	}
	return errs
}

func requiredTerms(s *corev1.PodSpec) []corev1.NodeSelectorTerm {
	if s.Affinity == nil || s.Affinity.NodeAffinity == nil || s.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return nil
	}
	return s.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
}
