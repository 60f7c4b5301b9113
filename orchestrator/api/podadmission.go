package api

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
)

// The steps of Kubernetes' own admission of a new pod, after defaults and before validation. They are pure:
// the caller looks up what they need. An error is for a 403 Forbidden of the pod.

// ServiceAccountMountPath is where client-go's InClusterConfig finds its token.
const ServiceAccountMountPath = "/var/run/secrets/kubernetes.io/serviceaccount"

// RootCAConfigMap is the ConfigMap in every namespace that holds the cluster's CA under "ca.crt".
const RootCAConfigMap = "kube-root-ca.crt"

// AdmitServiceAccount gives the pod its account (the caller has set serviceAccountName, "default" where it
// was empty, and found sa by it): its pull secrets, and unless the pod or the account declines, a volume with
// a token, the cluster's CA and the namespace, mounted in every container that has nothing at that path.
// The suffix makes the volume's name: five random letters, as Kubernetes does.
func AdmitServiceAccount(p *corev1.Pod, sa *corev1.ServiceAccount, suffix string) {
	if len(p.Spec.ImagePullSecrets) == 0 {
		p.Spec.ImagePullSecrets = slices.Clone(sa.ImagePullSecrets)
	}
	wanted := true
	if a := sa.AutomountServiceAccountToken; a != nil {
		wanted = *a
	}
	if a := p.Spec.AutomountServiceAccountToken; a != nil {
		wanted = *a
	}
	if !wanted {
		return
	}
	name := "kube-api-access-" + suffix
	mounted := false
	for _, containers := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range containers {
			c := &containers[i]
			if slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == ServiceAccountMountPath }) {
				continue
			}
			c.VolumeMounts = append(slices.Clip(c.VolumeMounts), corev1.VolumeMount{Name: name, ReadOnly: true, MountPath: ServiceAccountMountPath})
			mounted = true
		}
	}
	if !mounted {
		return
	}
	p.Spec.Volumes = append(slices.Clip(p.Spec.Volumes), corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		DefaultMode: ptr(int32(0o644)),
		Sources: []corev1.VolumeProjection{
			// 3607 s is Kubernetes' mark of a token that it mounts by itself, which clients may outlive.
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr(int64(3607))}},
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: RootCAConfigMap},
				Items: []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}}}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
				{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"}}}}},
		},
	}}})
}

// AdmitPriority resolves the pod's priority class among those that exist: the named one, else the global
// default, else priority 0. The two classes that every cluster has need not be among them.
func AdmitPriority(p *corev1.Pod, classes []*schedulingv1.PriorityClass) error {
	classes = append(slices.Clip(classes), SystemPriorityClasses()...)
	priority, preemption := int32(0), corev1.PreemptLowerPriority
	var found *schedulingv1.PriorityClass
	for _, c := range classes {
		switch {
		case p.Spec.PriorityClassName != "" && c.Name == p.Spec.PriorityClassName:
			found = c
		case p.Spec.PriorityClassName == "" && c.GlobalDefault && (found == nil || c.Value < found.Value):
			found = c
		}
	}
	if found == nil && p.Spec.PriorityClassName != "" {
		return fmt.Errorf("no PriorityClass with name %s was found", p.Spec.PriorityClassName)
	}
	if found != nil {
		p.Spec.PriorityClassName, priority = found.Name, found.Value
		if found.PreemptionPolicy != nil {
			preemption = *found.PreemptionPolicy
		}
	}
	if given := p.Spec.Priority; given != nil && *given != priority {
		return fmt.Errorf("the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from the given PriorityClass name", *given, priority)
	}
	if given := p.Spec.PreemptionPolicy; given != nil && *given != preemption {
		return fmt.Errorf("the string value of PreemptionPolicy (%s) must not be provided in pod spec; priority admission controller computed %s from the given PriorityClass name", *given, preemption)
	}
	p.Spec.Priority, p.Spec.PreemptionPolicy = &priority, &preemption
	return nil
}

// AdmitRuntimeClass applies the pod's RuntimeClass: its overhead, and where its pods may run. A nil class is
// one that was not found under the name that the pod has.
func AdmitRuntimeClass(p *corev1.Pod, class *nodev1.RuntimeClass) error {
	if p.Spec.RuntimeClassName == nil {
		if len(p.Spec.Overhead) > 0 {
			return fmt.Errorf("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
		}
		return nil
	}
	if class == nil {
		return fmt.Errorf("pod rejected: RuntimeClass %q not found", *p.Spec.RuntimeClassName)
	}
	var overhead corev1.ResourceList
	if class.Overhead != nil {
		overhead = class.Overhead.PodFixed
	}
	if len(p.Spec.Overhead) > 0 && !equal(p.Spec.Overhead, overhead) {
		return fmt.Errorf("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
	}
	p.Spec.Overhead = overhead.DeepCopy()
	if class.Scheduling == nil {
		return nil
	}
	selector := map[string]string{}
	for key, value := range p.Spec.NodeSelector {
		selector[key] = value
	}
	for key, value := range class.Scheduling.NodeSelector {
		if have, ok := selector[key]; ok && have != value {
			return fmt.Errorf("conflict: runtimeClass.scheduling.nodeSelector[%s] = %s; pod.spec.nodeSelector[%s] = %s", key, value, key, have)
		}
		selector[key] = value
	}
	if len(selector) > 0 {
		p.Spec.NodeSelector = selector
	}
	for _, t := range class.Scheduling.Tolerations {
		if !slices.ContainsFunc(p.Spec.Tolerations, func(have corev1.Toleration) bool { return equal(have, t) }) {
			p.Spec.Tolerations = append(slices.Clip(p.Spec.Tolerations), t)
		}
	}
	return nil
}

// AdmitTolerations lets a pod that says nothing of failing nodes stay on one for five minutes.
func AdmitTolerations(p *corev1.Pod) {
	for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		if slices.ContainsFunc(p.Spec.Tolerations, func(t corev1.Toleration) bool {
			return (t.Key == key || t.Key == "") && (t.Effect == corev1.TaintEffectNoExecute || t.Effect == "")
		}) {
			continue
		}
		p.Spec.Tolerations = append(slices.Clip(p.Spec.Tolerations), corev1.Toleration{
			Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr(int64(300))})
	}
}
