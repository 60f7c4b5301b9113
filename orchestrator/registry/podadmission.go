package registry

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/pintle/pintle/orchestrator/api"
)

// tolerationSeconds is how long a pod outlives its node's silence unless it says otherwise.
const tolerationSeconds = 300

// admitPod is the admission of new pods that a Kubernetes cluster always has: service account, priority,
// runtime class and default tolerations.
func (r *Registry) admitPod(ctx context.Context, k *kindRef, obj api.Object) error {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return nil
	}
	if err := r.account(ctx, k, pod); err != nil {
		return err
	}
	var classes []*schedulingv1.PriorityClass
	if c := r.resources[schedulingv1.SchemeGroupVersion.WithResource("priorityclasses")]; c != nil {
		entries, _, _ := c.snapshot("")
		for _, e := range entries {
			classes = append(classes, e.obj.(*schedulingv1.PriorityClass))
		}
	}
	err := prioritize(pod, classes)
	if err == nil {
		var class *nodev1.RuntimeClass
		if name := pod.Spec.RuntimeClassName; name != nil && *name != "" {
			if c := r.resources[nodev1.SchemeGroupVersion.WithResource("runtimeclasses")]; c != nil {
				e := c.get(*name)
				if e == nil {
					return apierrors.NewForbidden(groupResource(k.kind), pod.Name, fmt.Errorf("pod rejected: RuntimeClass %q not found", *name))
				}
				class = e.obj.(*nodev1.RuntimeClass)
			}
		}
		err = useRuntimeClass(pod, class)
	}
	if err != nil {
		return apierrors.NewForbidden(groupResource(k.kind), pod.Name, err)
	}
	tolerate(pod)
	return nil
}

// systemPriority is the value of the two classes that exist without being stored, 0 for others.
func systemPriority(class string) int32 {
	switch class {
	case "system-cluster-critical":
		return 2000000000
	case "system-node-critical":
		return 2000001000
	}
	return 0
}

// prioritize resolves the pod's priority class.
func prioritize(pod *corev1.Pod, classes []*schedulingv1.PriorityClass) error {
	var class *schedulingv1.PriorityClass
	for _, c := range classes {
		if c.Name == pod.Spec.PriorityClassName {
			class = c
		}
		// Of several defaults the lowest counts, as in Kubernetes.
		if pod.Spec.PriorityClassName == "" && c.GlobalDefault && (class == nil || c.Value < class.Value) {
			class = c
		}
	}
	value, policy := int32(0), corev1.PreemptLowerPriority
	switch {
	case class != nil:
		pod.Spec.PriorityClassName, value = class.Name, class.Value
		if class.PreemptionPolicy != nil {
			policy = *class.PreemptionPolicy
		}
	case systemPriority(pod.Spec.PriorityClassName) != 0:
		value = systemPriority(pod.Spec.PriorityClassName)
	case pod.Spec.PriorityClassName != "":
		return fmt.Errorf("no PriorityClass with name %s was found", pod.Spec.PriorityClassName)
	}
	const computed = "must not be provided in pod spec; priority admission controller computed"
	if p := pod.Spec.Priority; p != nil && *p != value {
		return fmt.Errorf("the integer value of priority (%d) %s %d from the given PriorityClass name", *p, computed, value)
	}
	if p := pod.Spec.PreemptionPolicy; p != nil && *p != policy {
		return fmt.Errorf("the string value of PreemptionPolicy (%s) %s %s from the given PriorityClass name", *p, computed, policy)
	}
	pod.Spec.Priority, pod.Spec.PreemptionPolicy = &value, &policy
	return nil
}

// useRuntimeClass adds the class's overhead and scheduling; class is nil when the pod names none.
func useRuntimeClass(pod *corev1.Pod, class *nodev1.RuntimeClass) error {
	if class == nil || class.Overhead == nil {
		if len(pod.Spec.Overhead) > 0 {
			return errors.New("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
		}
	} else {
		if pod.Spec.Overhead != nil && !sameQuantities(pod.Spec.Overhead, class.Overhead.PodFixed) {
			return errors.New("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
		}
		pod.Spec.Overhead = class.Overhead.PodFixed.DeepCopy()
	}
	if class == nil || class.Scheduling == nil {
		return nil
	}
	for key, value := range class.Scheduling.NodeSelector {
		if has, ok := pod.Spec.NodeSelector[key]; ok && has != value {
			return fmt.Errorf("conflict: runtimeClass.scheduling.nodeSelector[%s] = %s; pod.spec.nodeSelector[%s] = %s", key, value, key, has)
		}
		if pod.Spec.NodeSelector == nil {
			pod.Spec.NodeSelector = map[string]string{}
		}
		pod.Spec.NodeSelector[key] = value
	}
	for n := range class.Scheduling.Tolerations {
		pod.Spec.Tolerations = append(pod.Spec.Tolerations, *class.Scheduling.Tolerations[n].DeepCopy())
	}
	return nil
}

func sameQuantities(a, b corev1.ResourceList) bool {
	if len(a) != len(b) {
		return false
	}
	for name, v := range a {
		if w, ok := b[name]; !ok || v.Cmp(w) != 0 {
			return false
		}
	}
	return true
}

// tolerate lets a pod outlive its node's silence for five minutes, unless it says otherwise.
func tolerate(pod *corev1.Pod) {
next:
	for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		for _, t := range pod.Spec.Tolerations {
			if (t.Key == key || t.Key == "") && (t.Effect == corev1.TaintEffectNoExecute || t.Effect == "") {
				continue next
			}
		}
		seconds := int64(tolerationSeconds)
		pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists,
			Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds})
	}
}
