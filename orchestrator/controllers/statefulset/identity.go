package statefulset

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// ordinalOf is the ordinal in the name of a pod of the set; false: no pod of the set has such a name.
func ordinalOf(set *appsv1.StatefulSet, name string) (int, bool) {
	digits, ok := strings.CutPrefix(name, set.Name+"-")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != digits {
		return 0, false
	}
	return int(n), true
}

func podName(set *appsv1.StatefulSet, ordinal int) string {
	return set.Name + "-" + strconv.Itoa(ordinal)
}

// claimName is template-set-ordinal, as Kubernetes names claims.
func claimName(set *appsv1.StatefulSet, template *corev1.PersistentVolumeClaim, ordinal int) string {
	return template.Name + "-" + podName(set, ordinal)
}

func start(set *appsv1.StatefulSet) int {
	if o := set.Spec.Ordinals; o != nil {
		return int(o.Start)
	}
	return 0
}

func replicas(set *appsv1.StatefulSet) int {
	if set.Spec.Replicas == nil {
		return 1
	}
	return int(*set.Spec.Replicas)
}

// newPod is the pod of an ordinal, of a revision's template.
func newPod(set *appsv1.StatefulSet, template *corev1.PodTemplateSpec, revision string, ordinal int) *corev1.Pod {
	t := template.DeepCopy()
	p := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, Spec: t.Spec}
	p.Namespace, p.Name = set.Namespace, podName(set, ordinal)
	p.Labels, p.Annotations, p.Finalizers = t.Labels, t.Annotations, t.Finalizers
	p.OwnerReferences = []metav1.OwnerReference{reconcile.ControllerRef(set, kind())}
	p.Spec.Hostname, p.Spec.Subdomain = p.Name, set.Spec.ServiceName
	identify(set, p, ordinal)
	p.Labels[appsv1.ControllerRevisionHashLabelKey] = revision
	for i := range set.Spec.VolumeClaimTemplates {
		c := &set.Spec.VolumeClaimTemplates[i]
		p.Spec.Volumes = slices.DeleteFunc(p.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == c.Name })
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: c.Name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claimName(set, c, ordinal)}}})
	}
	return p
}

// identify sets the labels that name the pod, and reports whether one was missing.
func identify(set *appsv1.StatefulSet, p *corev1.Pod, ordinal int) (changed bool) {
	want := map[string]string{appsv1.StatefulSetPodNameLabel: podName(set, ordinal), appsv1.PodIndexLabel: strconv.Itoa(ordinal)}
	for k, v := range want {
		if p.Labels[k] == v {
			continue
		}
		if changed = true; p.Labels == nil {
			p.Labels = map[string]string{}
		}
		p.Labels[k] = v
	}
	return changed
}

// newClaim is the claim of an ordinal, of one of the set's templates.
func newClaim(set *appsv1.StatefulSet, template *corev1.PersistentVolumeClaim, ordinal int) *corev1.PersistentVolumeClaim {
	t := template.DeepCopy()
	c := &corev1.PersistentVolumeClaim{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"}, Spec: t.Spec}
	c.Namespace, c.Name = set.Namespace, claimName(set, template, ordinal)
	c.Annotations, c.Labels = t.Annotations, t.Labels
	if c.Labels == nil {
		c.Labels = map[string]string{}
	}
	if set.Spec.Selector != nil {
		maps.Copy(c.Labels, set.Spec.Selector.MatchLabels)
	}
	ownClaim(set, c, nil)
	return c
}

// ownClaim gives the claim the owners that the retention policy asks for, and reports whether they were others: the set
// itself where claims go with it, and the condemned pod (nil: none) where they go with a pod that is scaled away. A claim
// that somebody else controls stays as it is.
func ownClaim(set *appsv1.StatefulSet, c *corev1.PersistentVolumeClaim, condemned *corev1.Pod) (changed bool) {
	var want *metav1.OwnerReference
	if policy := set.Spec.PersistentVolumeClaimRetentionPolicy; policy != nil {
		const remove = appsv1.DeletePersistentVolumeClaimRetentionPolicyType
		switch {
		case condemned != nil && policy.WhenScaled == remove:
			r := reconcile.ControllerRef(condemned, corev1.SchemeGroupVersion.WithKind("Pod"))
			want = &r
		case policy.WhenDeleted == remove:
			r := reconcile.ControllerRef(set, kind())
			want = &r
		}
	}
	var refs []metav1.OwnerReference
	found := false
	for _, r := range c.OwnerReferences {
		_, ordinal := ordinalOf(set, r.Name)
		ours := r.UID == set.UID || r.Kind == "Pod" && r.APIVersion == "v1" && ordinal
		switch {
		case want != nil && r.UID == want.UID:
			found = true
		case ours:
			changed = true
			continue
		case r.Controller != nil && *r.Controller:
			return false
		}
		refs = append(refs, r)
	}
	if want != nil && !found {
		refs, changed = append(refs, *want), true
	}
	if changed {
		c.OwnerReferences = refs
	}
	return changed
}

// stale reports whether the claim goes with a pod that was scaled away: what it holds is not for the next one.
func stale(set *appsv1.StatefulSet, c *corev1.PersistentVolumeClaim) bool {
	return c.DeletionTimestamp != nil || slices.ContainsFunc(c.OwnerReferences, func(r metav1.OwnerReference) bool {
		_, ordinal := ordinalOf(set, r.Name)
		return r.Kind == "Pod" && r.APIVersion == "v1" && ordinal
	})
}
