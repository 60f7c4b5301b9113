package volumes

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// BindVolume returns the volume as it names the claim; nil: it does already.
func BindVolume(v *corev1.PersistentVolume, c *corev1.PersistentVolumeClaim) *corev1.PersistentVolume {
	ref := v.Spec.ClaimRef
	if BoundTo(v, c) && ref.UID == c.UID {
		return nil
	}
	out := v.DeepCopy()
	if !BoundTo(v, c) {
		metav1.SetMetaDataAnnotation(&out.ObjectMeta, BoundByController, yes)
	}
	out.Spec.ClaimRef = &corev1.ObjectReference{Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: c.Namespace, Name: c.Name, UID: c.UID, ResourceVersion: c.ResourceVersion}
	return out
}

// UnbindVolume returns the volume free again: a claim that a person named in it keeps its name there.
func UnbindVolume(v *corev1.PersistentVolume) *corev1.PersistentVolume {
	out := v.DeepCopy()
	if _, ours := out.Annotations[BoundByController]; ours {
		delete(out.Annotations, BoundByController)
		out.Spec.ClaimRef = nil
	} else if out.Spec.ClaimRef != nil {
		out.Spec.ClaimRef.UID, out.Spec.ClaimRef.ResourceVersion = "", ""
	}
	return out
}

// BindClaim returns the claim as it names the volume; nil: it does already.
func BindClaim(c *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume) *corev1.PersistentVolumeClaim {
	_, complete := c.Annotations[BindCompleted]
	if complete && c.Spec.VolumeName == v.Name {
		return nil
	}
	out := c.DeepCopy()
	if out.Spec.VolumeName != v.Name {
		out.Spec.VolumeName = v.Name
		metav1.SetMetaDataAnnotation(&out.ObjectMeta, BoundByController, yes)
	}
	metav1.SetMetaDataAnnotation(&out.ObjectMeta, BindCompleted, yes)
	return out
}

// Complete says whether claim and volume name each other, and both say that they are bound.
func Complete(c *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume) bool {
	_, done := c.Annotations[BindCompleted]
	return done && c.Spec.VolumeName == v.Name && BoundTo(v, c) && v.Spec.ClaimRef.UID == c.UID
}
