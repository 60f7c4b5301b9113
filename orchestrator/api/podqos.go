package api

import corev1 "k8s.io/api/core/v1"

// PodQOS is the pod's quality-of-service class: Guaranteed when every container's cpu and memory requests
// equal its limits, BestEffort when none names either, Burstable otherwise.
func PodQOS(p *corev1.Pod) corev1.PodQOSClass {
	guaranteed, bestEffort := true, true
	judge := func(c *corev1.Container) {
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			request, limit := c.Resources.Requests[name], c.Resources.Limits[name]
			if !request.IsZero() || !limit.IsZero() {
				bestEffort = false
			}
			// A limit alone is its own request: defaulting fills it in.
			if limit.IsZero() || !request.IsZero() && request.Cmp(limit) != 0 {
				guaranteed = false
			}
		}
	}
	for i := range p.Spec.InitContainers {
		judge(&p.Spec.InitContainers[i])
	}
	for i := range p.Spec.Containers {
		judge(&p.Spec.Containers[i])
	}
	switch {
	case bestEffort:
		return corev1.PodQOSBestEffort
	case guaranteed:
		return corev1.PodQOSGuaranteed
	}
	return corev1.PodQOSBurstable
}
