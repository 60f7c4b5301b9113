package registry

import (
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/pintle/pintle/orchestrator/api"
)

func (r *Registry) limitRanges(namespace string) (ranges []*corev1.LimitRange) {
	if c := r.resources[corev1.SchemeGroupVersion.WithResource("limitranges")]; c != nil {
		entries, _, _ := c.snapshot(namespace)
		for _, e := range entries {
			ranges = append(ranges, e.obj.(*corev1.LimitRange))
		}
	}
	return ranges
}

// checkLimits refuses pods and claims that their namespace's LimitRanges don't allow. A pod is asked about when it is
// new and when it is resized, a claim at every write.
func (r *Registry) checkLimits(k *kindRef, sub string, obj, old api.Object) error {
	switch obj.(type) {
	case *corev1.Pod:
		if old != nil && sub != "resize" {
			return nil
		}
	case *corev1.PersistentVolumeClaim:
		if sub != "" {
			return nil
		}
	default:
		return nil
	}
	if ranges := r.limitRanges(obj.GetNamespace()); len(ranges) > 0 {
		if err := api.CheckLimits(obj, ranges); err != nil {
			return apierrors.NewForbidden(groupResource(k.kind), obj.GetName(), err)
		}
	}
	return nil
}
