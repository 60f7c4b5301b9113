package framework

import (
	corev1 "k8s.io/api/core/v1"
	helpers "k8s.io/component-helpers/resource"
)

// Resource is an amount of everything a node has and pods ask for.
type Resource struct {
	MilliCPU         int64
	Memory           int64 // bytes
	EphemeralStorage int64 // bytes
	Pods             int64
	Scalar           map[corev1.ResourceName]int64 // extended resources and huge pages
}

// What kube-scheduler assumes for scoring of a container that asks for nothing, so that such
// pods spread as well (k8s.io/kubernetes documents 100m and 200Mi).
const (
	defaultMilliCPU = 100
	defaultMemory   = 200 << 20
)

// FromList converts a ResourceList.
func FromList(list corev1.ResourceList) Resource {
	var r Resource
	for name, quantity := range list {
		switch name {
		case corev1.ResourceCPU:
			r.MilliCPU = quantity.MilliValue()
		case corev1.ResourceMemory:
			r.Memory = quantity.Value()
		case corev1.ResourceEphemeralStorage:
			r.EphemeralStorage = quantity.Value()
		case corev1.ResourcePods:
			r.Pods = quantity.Value()
		default:
			if r.Scalar == nil {
				r.Scalar = map[corev1.ResourceName]int64{}
			}
			r.Scalar[name] = quantity.Value()
		}
	}
	return r
}

// Add adds o times sign (1 or -1).
func (r *Resource) Add(o Resource, sign int64) {
	r.MilliCPU += sign * o.MilliCPU
	r.Memory += sign * o.Memory
	r.EphemeralStorage += sign * o.EphemeralStorage
	r.Pods += sign * o.Pods
	for name, amount := range o.Scalar {
		if r.Scalar == nil {
			r.Scalar = map[corev1.ResourceName]int64{}
		}
		if now := r.Scalar[name] + sign*amount; now != 0 || sign > 0 {
			r.Scalar[name] = now
		} else {
			delete(r.Scalar, name) // no trace is left of those that pods have made up
		}
	}
}

// requestOf is what the scheduler reserves for a pod: its containers, the largest need of its init
// containers, and its overhead. While it is resized, the larger of what it asks for, was given and has.
func requestOf(pod *corev1.Pod) Resource {
	var r Resource
	if resizing(pod) {
		r = FromList(helpers.PodRequests(pod, helpers.PodResourcesOptions{UseStatusResources: true}))
	} else if spec := &pod.Spec; len(spec.InitContainers) == 0 && len(spec.Overhead) == 0 && spec.Resources == nil { // the usual pod
		for i := range spec.Containers {
			r.Add(FromList(spec.Containers[i].Resources.Requests), 1)
		}
	} else {
		r = FromList(helpers.PodRequests(pod, helpers.PodResourcesOptions{}))
	}
	r.Pods = 1
	return r
}

// resizing says whether a container of a pod on a node was given or has other resources than it asks for.
func resizing(pod *corev1.Pod) bool {
	if pod.Spec.NodeName == "" {
		return false
	}
	differ := func(containers []corev1.Container, statuses []corev1.ContainerStatus) bool {
		for i := range statuses {
			st := &statuses[i]
			if st.AllocatedResources == nil && st.Resources == nil {
				continue
			}
			for j := range containers {
				if containers[j].Name != st.Name {
					continue
				}
				for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
					want := containers[j].Resources.Requests[name]
					if given := st.AllocatedResources[name]; want.Cmp(given) != 0 {
						return true
					}
					if st.Resources == nil {
						continue
					}
					if has := st.Resources.Requests[name]; want.Cmp(has) != 0 {
						return true
					}
				}
			}
		}
		return false
	}
	return differ(pod.Spec.Containers, pod.Status.ContainerStatuses) || differ(pod.Spec.InitContainers, pod.Status.InitContainerStatuses)
}

// scoredRequestOf is requestOf with the defaults for containers that ask for nothing.
func scoredRequestOf(pod *corev1.Pod, request Resource) Resource {
	for i := range pod.Spec.Containers {
		requests := pod.Spec.Containers[i].Resources.Requests
		if _, ok := requests[corev1.ResourceCPU]; !ok {
			request.MilliCPU += defaultMilliCPU
		}
		if _, ok := requests[corev1.ResourceMemory]; !ok {
			request.Memory += defaultMemory
		}
	}
	return request
}

// Of is the amount of one resource: thousandths of cpu, else units.
func (r *Resource) Of(name corev1.ResourceName) int64 {
	switch name {
	case corev1.ResourceCPU:
		return r.MilliCPU
	case corev1.ResourceMemory:
		return r.Memory
	case corev1.ResourceEphemeralStorage:
		return r.EphemeralStorage
	case corev1.ResourcePods:
		return r.Pods
	}
	return r.Scalar[name]
}
