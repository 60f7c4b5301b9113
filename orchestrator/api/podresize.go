package api

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// resizable are the resources of a container that can change while its pod lives.
func resizable() []corev1.ResourceName {
	return []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory}
}

// preparePodResize takes the containers' resources over into what is stored, and nothing else of p.
func preparePodResize(p, old *corev1.Pod) {
	wanted := map[string]*corev1.Container{}
	eachContainer(&p.Spec, func(c *corev1.Container, _ *field.Path, _ bool) { wanted[c.Name] = c })
	spec := old.Spec.DeepCopy()
	defaultResizePolicies(spec)
	eachContainer(spec, func(c *corev1.Container, _ *field.Path, _ bool) {
		if w := wanted[c.Name]; w != nil {
			c.Resources, c.ResizePolicy = *w.Resources.DeepCopy(), w.ResizePolicy
		}
	})
	p.Spec, p.Status = *spec, old.Status
	bump(p, old, p.Spec, old.Spec)
}

// validatePodResize lets cpu and memory of containers and sidecars change, as long as the pod's quality-of-service
// class stays what it is and nothing that was set is taken away.
func validatePodResize(p, old *corev1.Pod) (errs field.ErrorList) {
	spec := field.NewPath("spec")
	if old.Annotations[corev1.MirrorPodAnnotationKey] != "" {
		return field.ErrorList{field.Forbidden(spec, "static pods cannot be resized")}
	}
	if was := PodQOS(old); was != PodQOS(p) {
		errs = append(errs, field.Invalid(spec, was, "Pod QOS Class may not change as a result of resizing"))
	}
	before := map[string]*corev1.Container{}
	was := old.Spec.DeepCopy()
	defaultResizePolicies(was)
	eachContainer(was, func(c *corev1.Container, _ *field.Path, _ bool) { before[c.Name] = c })
	eachContainer(&p.Spec, func(c *corev1.Container, at *field.Path, fixed bool) {
		if o := before[c.Name]; o != nil {
			errs = append(errs, validateContainerResize(c, o, fixed, at)...)
		}
	})
	return errs
}

// validateContainerResize compares a container with what it was; fixed: it is an init container that ends.
func validateContainerResize(c, old *corev1.Container, fixed bool, at *field.Path) (errs field.ErrorList) {
	resources := at.Child("resources")
	if fixed && !equal(c.Resources, old.Resources) {
		return field.ErrorList{field.Forbidden(resources, "resources of non-sidecar init containers are immutable")}
	}
	rest := c.Resources.DeepCopy()
	for _, l := range []struct {
		what     string
		now, was corev1.ResourceList
		rest     *corev1.ResourceList
	}{{"limits", c.Resources.Limits, old.Resources.Limits, &rest.Limits}, {"requests", c.Resources.Requests, old.Resources.Requests, &rest.Requests}} {
		for _, name := range resizable() {
			amount, had := l.was[name]
			if _, has := l.now[name]; had && !has {
				errs = append(errs, field.Forbidden(resources.Child(l.what), fmt.Sprintf("resource %s cannot be removed", l.what)))
				break
			}
			delete(*l.rest, name)
			if had {
				if *l.rest == nil {
					*l.rest = corev1.ResourceList{}
				}
				(*l.rest)[name] = amount
			}
		}
	}
	if len(errs) == 0 && !equal(*rest, old.Resources) {
		errs = append(errs, field.Forbidden(resources, "only cpu and memory resources are mutable"))
	}
	for i, o := range old.ResizePolicy { // one for a resource that wasn't there before may come
		if i >= len(c.ResizePolicy) || c.ResizePolicy[i] != o {
			return append(errs, field.Forbidden(at.Child("resizePolicy"), "only cpu and memory resources are mutable"))
		}
	}
	return errs
}

// eachContainer visits containers and init containers with their paths; fixed ones are init containers that end.
func eachContainer(s *corev1.PodSpec, visit func(c *corev1.Container, at *field.Path, fixed bool)) {
	for i := range s.Containers {
		visit(&s.Containers[i], field.NewPath("spec", "containers").Index(i), false)
	}
	for i := range s.InitContainers {
		visit(&s.InitContainers[i], field.NewPath("spec", "initContainers").Index(i), !Sidecar(&s.InitContainers[i]))
	}
}

// refuseResources says of resources that an ordinary update changes how they can be, and takes that change out of
// spec, so that it is told once.
func refuseResources(p, old *corev1.Pod, spec *corev1.PodSpec) (errs field.ErrorList) {
	before := map[string]*corev1.Container{}
	eachContainer(&old.Spec, func(c *corev1.Container, _ *field.Path, _ bool) { before[c.Name] = c })
	eachContainer(spec, func(c *corev1.Container, at *field.Path, _ bool) {
		o := before[c.Name]
		if o == nil || equal(c.Resources, o.Resources) {
			return
		}
		errs = append(errs, field.Forbidden(at.Child("resources"), fmt.Sprintf("cpu and memory change through the resize subresource alone: "+
			"kubectl patch pod %s --subresource resize", p.Name)))
		c.Resources, c.ResizePolicy = o.Resources, o.ResizePolicy
	})
	return errs
}

// defaultResizePolicies is what defaultPod gives a pod's containers.
func defaultResizePolicies(s *corev1.PodSpec) {
	eachContainer(s, func(c *corev1.Container, _ *field.Path, fixed bool) {
		if !fixed {
			defaultResizePolicy(c)
		}
	})
}

// defaultResizePolicy lets each resource that the container names change without a restart.
func defaultResizePolicy(c *corev1.Container) {
	for _, name := range resizable() {
		_, requested := c.Resources.Requests[name]
		_, limited := c.Resources.Limits[name]
		said := false
		for _, p := range c.ResizePolicy {
			said = said || p.ResourceName == name
		}
		if (requested || limited) && !said {
			c.ResizePolicy = append(c.ResizePolicy, corev1.ContainerResizePolicy{ResourceName: name, RestartPolicy: corev1.NotRequired})
		}
	}
}

func validateResizePolicy(policies []corev1.ContainerResizePolicy, restart corev1.RestartPolicy, at *field.Path) (errs field.ErrorList) {
	seen := map[corev1.ResourceName]bool{}
	for i, p := range policies {
		here := at.Index(i)
		if seen[p.ResourceName] {
			errs = append(errs, field.Duplicate(here.Child("resourceName"), p.ResourceName))
		}
		seen[p.ResourceName] = true
		errs = append(errs, requiredOneOf(p.ResourceName, resizable(), here.Child("resourceName"))...)
		errs = append(errs, requiredOneOf(p.RestartPolicy, []corev1.ResourceResizeRestartPolicy{corev1.NotRequired, corev1.RestartContainer}, here.Child("restartPolicy"))...)
		if restart == corev1.RestartPolicyNever && p.RestartPolicy == corev1.RestartContainer {
			errs = append(errs, field.Invalid(here.Child("restartPolicy"), p.RestartPolicy, "must be 'NotRequired' when `restartPolicy` is 'Never'"))
		}
	}
	return errs
}

func requiredOneOf[T ~string](v T, known []T, at *field.Path) field.ErrorList {
	if v == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	return oneOf(v, known, at)
}
