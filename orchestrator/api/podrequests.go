package api

import corev1 "k8s.io/api/core/v1"

// PodRequests is what a pod needs of its node: the sum over its containers and sidecars, or, where that
// is more, what an init container needs beside the sidecars that started before it; plus the overhead of
// its runtime class. The result is the caller's.
func PodRequests(p *corev1.Pod) corev1.ResourceList {
	s := &p.Spec
	total, sidecars, starting := corev1.ResourceList{}, corev1.ResourceList{}, corev1.ResourceList{}
	for i := range s.Containers {
		addResources(total, s.Containers[i].Resources.Requests)
	}
	for i := range s.InitContainers {
		c := &s.InitContainers[i]
		peak := corev1.ResourceList{}
		addResources(peak, c.Resources.Requests)
		addResources(peak, sidecars)
		maxResources(starting, peak)
		if Sidecar(c) {
			addResources(total, c.Resources.Requests)
			addResources(sidecars, c.Resources.Requests)
		}
	}
	maxResources(total, starting)
	addResources(total, s.Overhead)
	return total
}

func addResources(to, more corev1.ResourceList) {
	for name, quantity := range more {
		sum := quantity.DeepCopy()
		if have, ok := to[name]; ok {
			sum.Add(have)
		}
		to[name] = sum
	}
}

func maxResources(to, other corev1.ResourceList) {
	for name, quantity := range other {
		if have, ok := to[name]; !ok || quantity.Cmp(have) > 0 {
			to[name] = quantity.DeepCopy()
		}
	}
}
