package api

import corev1 "k8s.io/api/core/v1"

// PodRequests is what a pod needs of its node: the sum over its containers and sidecars, or, where that
// is more, what an init container needs beside the sidecars that started before it; plus the overhead of
// its runtime class. The result is the caller's.
func PodRequests(p *corev1.Pod) corev1.ResourceList {
	total := podTotal(p, func(r *corev1.ResourceRequirements) corev1.ResourceList { return r.Requests })
	addResources(total, p.Spec.Overhead)
	return total
}

// PodLimits is the most that a pod may use, counted like PodRequests, of the resources that any of its containers limits.
// The result is the caller's.
func PodLimits(p *corev1.Pod) corev1.ResourceList {
	total := podTotal(p, func(r *corev1.ResourceRequirements) corev1.ResourceList { return r.Limits })
	for name, quantity := range p.Spec.Overhead {
		if have, ok := total[name]; ok && !have.IsZero() {
			have.Add(quantity)
			total[name] = have
		}
	}
	return total
}

func podTotal(p *corev1.Pod, of func(*corev1.ResourceRequirements) corev1.ResourceList) corev1.ResourceList {
	s := &p.Spec
	total, sidecars, starting := corev1.ResourceList{}, corev1.ResourceList{}, corev1.ResourceList{}
	for i := range s.Containers {
		addResources(total, of(&s.Containers[i].Resources))
	}
	for i := range s.InitContainers {
		c := &s.InitContainers[i]
		peak := corev1.ResourceList{}
		addResources(peak, of(&c.Resources))
		addResources(peak, sidecars)
		maxResources(starting, peak)
		if Sidecar(c) {
			addResources(total, of(&c.Resources))
			addResources(sidecars, of(&c.Resources))
		}
	}
	maxResources(total, starting)
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
