package api

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The priority classes that every cluster has, and the most that a user's may have.
const (
	HighestUserPriority       int32 = 1_000_000_000
	SystemClusterCritical           = "system-cluster-critical"
	SystemNodeCritical              = "system-node-critical"
	systemClusterCriticalSize int32 = 2 * HighestUserPriority
	systemNodeCriticalSize    int32 = systemClusterCriticalSize + 1000
)

// SystemPriorityClasses returns the classes that a cluster starts with.
func SystemPriorityClasses() []*schedulingv1.PriorityClass {
	return []*schedulingv1.PriorityClass{
		{
			ObjectMeta:  metav1.ObjectMeta{Name: SystemNodeCritical},
			Value:       systemNodeCriticalSize,
			Description: "Used for system critical pods that must not be moved from their current node.",
		},
		{
			ObjectMeta:  metav1.ObjectMeta{Name: SystemClusterCritical},
			Value:       systemClusterCriticalSize,
			Description: "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
		},
	}
}

func priorityClassKind() *Kind {
	return &Kind{
		GroupVersionKind: schedulingv1.SchemeGroupVersion.WithKind("PriorityClass"),
		Resource:         "priorityclasses", Singular: "priorityclass", ShortNames: []string{"pc"},
		New:     func() Object { return &schedulingv1.PriorityClass{} },
		NewList: func() runtime.Object { return &schedulingv1.PriorityClassList{} },
		Default: of(func(c *schedulingv1.PriorityClass) {
			setDefault(&c.PreemptionPolicy, corev1.PreemptLowerPriority)
		}),
		PrepareCreate: of(func(c *schedulingv1.PriorityClass) { c.Generation = 1 }),
		PrepareUpdate: pair(func(c, old *schedulingv1.PriorityClass) { c.Generation = old.Generation }),
		Validate:      check(validatePriorityClass),
		ValidateUpdate: checkPair(func(c, old *schedulingv1.PriorityClass) (errs field.ErrorList) {
			if c.Value != old.Value {
				errs = append(errs, field.Forbidden(field.NewPath("value"), "may not be changed in an update."))
			}
			return append(errs, immutable(c.PreemptionPolicy, old.PreemptionPolicy, field.NewPath("preemptionPolicy"))...)
		}),
		Columns: []metav1.TableColumnDefinition{
			nameColumn(), typed(column("Value", "Priority value", 0), "integer"), typed(column("Global-Default", "Whether pods without a class get this one", 0), "boolean"),
			ageColumn(), column("PreemptionPolicy", "Whether pods of this class displace others", 0),
		},
		Row: row(func(c *schedulingv1.PriorityClass) []any {
			policy := ""
			if c.PreemptionPolicy != nil {
				policy = string(*c.PreemptionPolicy)
			}
			return []any{c.Name, int64(c.Value), c.GlobalDefault, c.CreationTimestamp, policy}
		}),
	}
}

func validatePriorityClass(c *schedulingv1.PriorityClass) (errs field.ErrorList) {
	if strings.HasPrefix(c.Name, "system-") {
		known := false
		for _, s := range SystemPriorityClasses() {
			known = known || s.Name == c.Name && s.Value == c.Value && s.GlobalDefault == c.GlobalDefault
		}
		if !known {
			errs = append(errs, field.Forbidden(field.NewPath("metadata", "name"), "priority class names with 'system-' prefix are reserved for system use only"))
		}
	} else if c.Value > HighestUserPriority {
		errs = append(errs, field.Forbidden(field.NewPath("value"), fmt.Sprintf("maximum allowed value of a user defined priority is %v", HighestUserPriority)))
	}
	if c.PreemptionPolicy != nil {
		errs = append(errs, oneOf(*c.PreemptionPolicy, []corev1.PreemptionPolicy{corev1.PreemptLowerPriority, corev1.PreemptNever}, field.NewPath("preemptionPolicy"))...)
	}
	return errs
}
