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
		Default: of(defaultPod),
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
			errs := validateDeletionCost(p.Annotations, field.NewPath("metadata", "annotations"))
			errs = append(errs, validateEphemeralNames(p, field.NewPath("spec", "volumes"))...)
			return append(errs, validatePodSpec(&p.Spec, field.NewPath("spec"))...)
		}),
		ValidateUpdate: checkPair(validatePodUpdate),
		Status: &Status{PrepareUpdate: pair(func(p, old *corev1.Pod) {
			p.Spec, p.Generation, p.DeletionTimestamp = old.Spec, old.Generation, old.DeletionTimestamp
			p.Status.QOSClass = old.Status.QOSClass
		})},
		Resize:       &Resize{PrepareUpdate: pair(preparePodResize), ValidateUpdate: checkPair(validatePodResize)},
		Subresources: []string{"binding", "eviction", "log", "exec", "attach", "portforward", "scheduling"},
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
