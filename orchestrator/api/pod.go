package api

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func podKind() *Kind {
	return &Kind{
		GroupVersionKind: corev1.SchemeGroupVersion.WithKind("Pod"),
		Resource:         "pods", Singular: "pod", ShortNames: []string{"po"}, Categories: []string{"all"}, Namespaced: true,
		New:     func() Object { return &corev1.Pod{} },
		NewList: func() runtime.Object { return &corev1.PodList{} },
		Default: of(func(p *corev1.Pod) {
			defaultPodSpec(&p.Spec)
			setDefault(&p.Spec.EnableServiceLinks, true)
			if p.Spec.HostNetwork {
				for i := range p.Spec.Containers {
					for j := range p.Spec.Containers[i].Ports {
						setZero(&p.Spec.Containers[i].Ports[j].HostPort, p.Spec.Containers[i].Ports[j].ContainerPort)
					}
				}
			}
		}),
		PrepareCreate: of(func(p *corev1.Pod) {
			p.Generation = 1
			p.Status = corev1.PodStatus{Phase: corev1.PodPending, QOSClass: PodQOS(p)}
			if len(p.Spec.SchedulingGates) > 0 {
				p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse,
					Reason: corev1.PodReasonSchedulingGated, Message: "Scheduling is blocked due to non-empty scheduling gates"}}
			}
		}),
		PrepareUpdate: pair(func(p, old *corev1.Pod) {
			p.Status = old.Status
			bump(p, old, p.Spec, old.Spec)
		}),
		Validate: check(func(p *corev1.Pod) field.ErrorList {
			return validatePodSpec(&p.Spec, field.NewPath("spec"))
		}),
		ValidateUpdate: checkPair(validatePodUpdate),
		Status: &Status{PrepareUpdate: pair(func(p, old *corev1.Pod) {
			p.Spec, p.Generation, p.DeletionTimestamp = old.Spec, old.Generation, old.DeletionTimestamp
			p.Status.QOSClass = old.Status.QOSClass
		})},
		Subresources: []string{"binding", "eviction", "log", "exec", "attach", "portforward"},
		Columns:      podColumns(),
		Row:          row(podRow),
		Fields: func(o Object) fields.Set {
			p := o.(*corev1.Pod)
			return fields.Set{
				"spec.nodeName": p.Spec.NodeName, "spec.restartPolicy": string(p.Spec.RestartPolicy), "spec.schedulerName": p.Spec.SchedulerName,
				"spec.serviceAccountName": p.Spec.ServiceAccountName, "spec.hostNetwork": boolString(p.Spec.HostNetwork),
				"status.phase": string(p.Status.Phase), "status.podIP": p.Status.PodIP, "status.nominatedNodeName": p.Status.NominatedNodeName,
			}
		},
	}
}

func boolString(b bool) string {
	if b {
		return "true"
	}
	return "false"
}

// validatePodUpdate lets a pod's spec change only where Kubernetes does: images, activeDeadlineSeconds
// when it becomes stricter, further tolerations, fewer scheduling gates, a shorter grace period when negative.
func validatePodUpdate(p, old *corev1.Pod) field.ErrorList {
	spec := field.NewPath("spec")
	var errs field.ErrorList
	munged := p.Spec.DeepCopy()
	if len(munged.Containers) == len(old.Spec.Containers) {
		for i := range munged.Containers {
			munged.Containers[i].Image = old.Spec.Containers[i].Image
		}
	}
	if len(munged.InitContainers) == len(old.Spec.InitContainers) {
		for i := range munged.InitContainers {
			munged.InitContainers[i].Image = old.Spec.InitContainers[i].Image
		}
	}
	if now, before := p.Spec.ActiveDeadlineSeconds, old.Spec.ActiveDeadlineSeconds; now != nil {
		if before != nil && *now > *before {
			errs = append(errs, field.Invalid(spec.Child("activeDeadlineSeconds"), *now, "must be less than or equal to previous value"))
		}
		munged.ActiveDeadlineSeconds = before
	}
	if len(munged.Tolerations) >= len(old.Spec.Tolerations) && equal(munged.Tolerations[:len(old.Spec.Tolerations)], old.Spec.Tolerations) {
		munged.Tolerations = old.Spec.Tolerations
	}
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
	if old.Spec.TerminationGracePeriodSeconds != nil && *old.Spec.TerminationGracePeriodSeconds < 0 {
		munged.TerminationGracePeriodSeconds = old.Spec.TerminationGracePeriodSeconds
	}
	if len(old.Spec.SchedulingGates) > 0 { // a gated pod's node selection may still be narrowed
		munged.NodeSelector, munged.Affinity = old.Spec.NodeSelector, old.Spec.Affinity
	}
	if !equal(*munged, old.Spec) {
		errs = append(errs, field.Forbidden(spec, "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"+
			"`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"))
	}
	return errs
}
