package ephemeralvolume

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/api/volumes"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// problem is why a pod can't have the claim of one of its volumes.
type problem struct {
	volume string
	err    error
}

// decide returns the claims that the pod lacks, and why it can't have some of them. find finds claims of its namespace.
func decide(pod *corev1.Pod, find func(name string) *corev1.PersistentVolumeClaim) (create []*corev1.PersistentVolumeClaim, problems []problem) {
	if !reconcile.PodActive(pod) {
		return nil, nil
	}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Ephemeral == nil || v.Ephemeral.VolumeClaimTemplate == nil {
			continue
		}
		name := api.EphemeralClaimName(pod.Name, v.Name)
		if have := find(name); have != nil {
			if err := volumes.MadeFor(pod, have); err != nil {
				problems = append(problems, problem{v.Name, err})
			}
			continue
		}
		t := v.Ephemeral.VolumeClaimTemplate
		owner := reconcile.ControllerRef(pod, corev1.SchemeGroupVersion.WithKind("Pod"))
		owner.BlockOwnerDeletion = ptr.To(true)
		create = append(create, &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: name, Labels: maps.Clone(t.Labels), Annotations: maps.Clone(t.Annotations), OwnerReferences: []metav1.OwnerReference{owner}},
			Spec:       *t.Spec.DeepCopy(),
		})
	}
	return create, problems
}
