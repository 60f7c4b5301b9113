package api

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// PodCondition returns the pod's condition of that type, nil if it has none.
func PodCondition(p *corev1.Pod, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == t {
			return &p.Status.Conditions[i]
		}
	}
	return nil
}

// PodConditionTrue says whether the pod has that condition and it is True.
func PodConditionTrue(p *corev1.Pod, t corev1.PodConditionType) bool {
	c := PodCondition(p, t)
	return c != nil && c.Status == corev1.ConditionTrue
}

// PodReady says whether the pod may receive requests: its Ready condition, which counts readiness gates.
func PodReady(p *corev1.Pod) bool { return PodConditionTrue(p, corev1.PodReady) }

// PodAvailable says whether the pod has been ready for minReadySeconds at now, and if it is ready but not
// yet long enough, how long to wait until it is (0 otherwise).
func PodAvailable(p *corev1.Pod, minReadySeconds int32, now time.Time) (bool, time.Duration) {
	c := PodCondition(p, corev1.PodReady)
	if c == nil || c.Status != corev1.ConditionTrue {
		return false, 0
	}
	if minReadySeconds <= 0 {
		return true, 0
	}
	left := c.LastTransitionTime.Add(time.Duration(minReadySeconds) * time.Second).Sub(now)
	if c.LastTransitionTime.IsZero() || left > 0 {
		return false, max(left, 0)
	}
	return true, 0
}

// PodEnded says whether the pod's containers have all ended and will not run again.
func PodEnded(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// Sidecar says whether an init container runs beside the containers for the pod's life.
func Sidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}
