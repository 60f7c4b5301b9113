package csi

import (
	"encoding/json"
	"slices"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/types"
)

// AccessMode is the interface's mode for one of Kubernetes'. single says that the driver tells writers on one node apart.
func AccessMode(m corev1.PersistentVolumeAccessMode, single bool) csipb.VolumeCapability_AccessMode_Mode {
	switch m {
	case corev1.ReadOnlyMany:
		return csipb.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY
	case corev1.ReadWriteMany:
		return csipb.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
	case corev1.ReadWriteOncePod:
		if single {
			return csipb.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER
		}
	case corev1.ReadWriteOnce:
		if single {
			return csipb.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER
		}
	}
	return csipb.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
}

// capability says how a volume is used: as a filesystem.
func capability(mode csipb.VolumeCapability_AccessMode_Mode, fsType string, options []string, group string) *csipb.VolumeCapability {
	return &csipb.VolumeCapability{AccessMode: &csipb.VolumeCapability_AccessMode{Mode: mode},
		AccessType: &csipb.VolumeCapability_Mount{Mount: &csipb.VolumeCapability_MountVolume{FsType: fsType, MountFlags: options, VolumeMountGroup: group}}}
}

// driverSpec is a CSIDriver's spec with the API's defaults; nil is a driver without the object.
func driverSpec(d *storagev1.CSIDriver) storagev1.CSIDriverSpec {
	yes, no, policy := true, false, storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy
	s := storagev1.CSIDriverSpec{}
	if d != nil {
		s = *d.Spec.DeepCopy()
	}
	if s.AttachRequired == nil {
		s.AttachRequired = &yes
	}
	for _, b := range []**bool{&s.PodInfoOnMount, &s.RequiresRepublish, &s.ServiceAccountTokenInSecrets} {
		if *b == nil {
			*b = &no
		}
	}
	if s.FSGroupPolicy == nil {
		s.FSGroupPolicy = &policy
	}
	if len(s.VolumeLifecycleModes) == 0 {
		s.VolumeLifecycleModes = []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent}
	}
	return s
}

// ownsFiles reports whether a volume's files are given to a pod's fsGroup.
func ownsFiles(policy storagev1.FSGroupPolicy, fsType string, modes []corev1.PersistentVolumeAccessMode) bool {
	switch policy {
	case storagev1.FileFSGroupPolicy:
		return true
	case storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy:
		return fsType != "" && (slices.Contains(modes, corev1.ReadWriteOnce) || slices.Contains(modes, corev1.ReadWriteOncePod))
	}
	return false
}

// podInfo is what a driver with podInfoOnMount is told.
func podInfo(pod *corev1.Pod, ephemeral bool) map[string]string {
	account := pod.Spec.ServiceAccountName
	out := map[string]string{"csi.storage.k8s.io/pod.name": pod.Name, "csi.storage.k8s.io/pod.namespace": pod.Namespace,
		"csi.storage.k8s.io/pod.uid": string(pod.UID), "csi.storage.k8s.io/serviceAccount.name": account, "csi.storage.k8s.io/ephemeral": "false"}
	if ephemeral {
		out["csi.storage.k8s.io/ephemeral"] = "true"
	}
	return out
}

// tokensKey is where a driver finds the tokens that it asked for.
const tokensKey = "csi.storage.k8s.io/serviceAccount.tokens"

// tokenJSON writes tokens by audience.
func tokenJSON(tokens map[string]authv1.TokenRequestStatus) (string, error) {
	b, err := json.Marshal(tokens)
	return string(b), err
}

// inUse is the name of an attached volume in a Node's status.
func inUse(driver, handle string) corev1.UniqueVolumeName {
	return corev1.UniqueVolumeName("kubernetes.io/csi/" + driver + "^" + handle)
}

// inlineHandle is the identity of an inline volume of a pod.
func inlineHandle(uid types.UID, name string) string {
	return "csi-" + hash(string(uid)+name)
}
