// Package claims decides what the persistent volumes of a pod are on one node. It is pure: who asks has read the objects, and
// acts on the answer. The rules and most of the words are the kubelet's.
package claims

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// Waiting is an error about something that somebody else is expected to do yet.
type Waiting struct{ Message string }

func (w *Waiting) Error() string { return w.Message }

func waiting(format string, args ...any) error { return &Waiting{fmt.Sprintf(format, args...)} }

// Of returns the claim that a pod's volume names: one of its own, or that of a generic ephemeral volume. ok is false for
// volumes that need no claim.
func Of(pod *corev1.Pod, v *corev1.Volume) (name string, readOnly, ok bool) {
	switch {
	case v.PersistentVolumeClaim != nil:
		return v.PersistentVolumeClaim.ClaimName, v.PersistentVolumeClaim.ReadOnly, true
	case v.Ephemeral != nil:
		return pod.Name + "-" + v.Name, false, true
	}
	return "", false, false
}

// Names returns the claims of a pod.
func Names(pod *corev1.Pod) (names []string) {
	for i := range pod.Spec.Volumes {
		if name, _, ok := Of(pod, &pod.Spec.Volumes[i]); ok {
			names = append(names, name)
		}
	}
	return names
}

// Claimed says whether the pod may use the claim yet. A pod that ran before may go on with a claim that is being deleted.
func Claimed(pod *corev1.Pod, v *corev1.Volume, claim *corev1.PersistentVolumeClaim, ran bool) error {
	id := claim.Namespace + "/" + claim.Name
	switch {
	case v.Ephemeral != nil && !metav1.IsControlledBy(claim, pod):
		return fmt.Errorf("PVC %s was not created for pod %s/%s (pod is not owner)", id, pod.Namespace, pod.Name)
	case claim.DeletionTimestamp != nil && !ran:
		return fmt.Errorf("error processing PVC %s: PVC is being deleted", id)
	case claim.Status.Phase == corev1.ClaimLost:
		return fmt.Errorf("error processing PVC %s: the claim has lost its volume %s", id, claim.Spec.VolumeName)
	case claim.Spec.VolumeName == "" || claim.Status.Phase != corev1.ClaimBound:
		return waiting("error processing PVC %s: PVC is not bound", id)
	}
	return nil
}

// Mount is what a persistent volume is on the node. Exactly one of Path and CSI is set.
type Mount struct {
	Path     string               // a folder of this machine
	HostPath *corev1.HostPathType // to be checked; only for hostPath
	CSI      *corev1.CSIPersistentVolumeSource
	ReadOnly bool
	// Shared is true if others than claims may use the folder: its owner and its rights stay what they are.
	Shared bool
}

// Decide says what the claim's volume is on the node, whose labels are given, or why the pod can't have it here.
func Decide(pod *corev1.Pod, v *corev1.Volume, claim *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume, node *corev1.Node) (Mount, error) {
	var none Mount
	ref := pv.Spec.ClaimRef
	switch {
	case ref == nil:
		return none, waiting("found PV object %s but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim", pv.Name)
	case ref.UID != claim.UID:
		return none, fmt.Errorf("found PV object %s but its pv.Spec.ClaimRef.UID %s does not point to claim.UID %s", pv.Name, ref.UID, claim.UID)
	}
	if err := mode(pod, v.Name, pv); err != nil {
		return none, err
	}
	if a := pv.Spec.NodeAffinity; a != nil && a.Required != nil && node != nil {
		s, err := nodeaffinity.NewNodeSelector(a.Required)
		if err != nil {
			return none, fmt.Errorf("MountVolume.NodeAffinity check failed for volume %q : %w", pv.Name, err)
		}
		if !s.Match(node) {
			return none, fmt.Errorf("MountVolume.NodeAffinity check failed for volume %q : no matching NodeSelectorTerms", pv.Name)
		}
	}
	_, readOnly, _ := Of(pod, v)
	m := Mount{ReadOnly: readOnly}
	switch {
	case pv.Spec.Local != nil:
		m.Path = pv.Spec.Local.Path
	case pv.Spec.HostPath != nil:
		m.Path, m.HostPath, m.Shared = pv.Spec.HostPath.Path, pv.Spec.HostPath.Type, true
		if m.HostPath == nil {
			unset := corev1.HostPathUnset
			m.HostPath = &unset
		}
	case pv.Spec.CSI != nil:
		m.CSI = pv.Spec.CSI
		m.ReadOnly = m.ReadOnly || m.CSI.ReadOnly
		return m, nil
	default:
		return none, fmt.Errorf("PersistentVolume %s is of a kind that this node doesn't support: it supports local, hostPath and csi", pv.Name)
	}
	if len(pv.Spec.MountOptions) > 0 {
		return none, fmt.Errorf("mount options of PersistentVolume %s are not supported: local and hostPath volumes are used as they are mounted", pv.Name)
	}
	return m, nil
}

// mode refuses raw block devices, and a volume that a container asks for in the other mode.
func mode(pod *corev1.Pod, volume string, pv *corev1.PersistentVolume) error {
	block := pv.Spec.VolumeMode != nil && *pv.Spec.VolumeMode == corev1.PersistentVolumeBlock
	for _, l := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range l {
			for _, d := range l[i].VolumeDevices {
				if d.Name == volume && !block {
					return fmt.Errorf("volume %s has volumeMode Filesystem, but is specified in volumeDevices", volume)
				}
			}
			for _, m := range l[i].VolumeMounts {
				if m.Name == volume && block {
					return fmt.Errorf("volume %s has volumeMode Block, but is specified in volumeMounts", volume)
				}
			}
		}
	}
	if block {
		return fmt.Errorf("PersistentVolume %s has volumeMode Block, which this node doesn't support: give containers a Filesystem volume", pv.Name)
	}
	return nil
}

// Exclusive reports whether one pod alone may use the claim.
func Exclusive(claim *corev1.PersistentVolumeClaim) bool {
	for _, m := range claim.Spec.AccessModes {
		if m == corev1.ReadWriteOncePod {
			return true
		}
	}
	return false
}
