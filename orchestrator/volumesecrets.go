package orchestrator

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/api/volumes"
)

// The annotations by which a volume keeps the secret that it is deleted with, as provisioners of the ecosystem name them.
const (
	deletionSecretName      = "volume.kubernetes.io/provisioner-deletion-secret-name"
	deletionSecretNamespace = "volume.kubernetes.io/provisioner-deletion-secret-namespace"
)

// SecretOfVolume implements authz.VolumeSecrets.
func (o objects) SecretOfVolume(node, namespace, name string) (bool, error) {
	drivers, err := o.driversOn(node)
	if err != nil {
		return false, err
	}
	all, err := list[*corev1.PersistentVolume](o, corev1.SchemeGroupVersion.WithResource("persistentvolumes"), "", nil)
	if err != nil {
		return false, fmt.Errorf("list volumes: %w", err)
	}
	is := func(refs ...*corev1.SecretReference) bool {
		for _, r := range refs {
			if r != nil && r.Namespace == namespace && r.Name == name {
				return true
			}
		}
		return false
	}
	for _, v := range all {
		c := v.Spec.CSI
		if c == nil {
			continue
		}
		if drivers[c.Driver] && (is(c.ControllerPublishSecretRef, c.ControllerExpandSecretRef) || is(&corev1.SecretReference{Namespace: v.Annotations[deletionSecretNamespace], Name: v.Annotations[deletionSecretName]})) {
			return true, nil
		}
		if is(c.NodeStageSecretRef, c.NodePublishSecretRef, c.NodeExpandSecretRef) {
			if used, err := o.usedOn(node, v); err != nil || used {
				return used, err
			}
		}
	}
	if len(drivers) == 0 {
		return false, nil
	}
	return o.secretOfClass(drivers, namespace, name)
}

// driversOn are the CSI drivers that a node says run on it.
func (o objects) driversOn(node string) (map[string]bool, error) {
	n, err := get[*storagev1.CSINode](context.Background(), o, storagev1.SchemeGroupVersion.WithResource("csinodes"), "", node)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for _, d := range n.Spec.Drivers {
		out[d.Name] = true
	}
	return out, nil
}

// usedOn says whether a pod of the node uses the volume.
func (o objects) usedOn(node string, v *corev1.PersistentVolume) (bool, error) {
	ref := v.Spec.ClaimRef
	if ref == nil {
		return false, nil
	}
	pods, err := o.PodsOnNode(node)
	if err != nil {
		return false, fmt.Errorf("list pods of node %s: %w", node, err)
	}
	for _, p := range pods {
		for _, u := range volumes.Uses(p) {
			if p.Namespace == ref.Namespace && u.Claim == ref.Name {
				return true, nil
			}
		}
	}
	return false, nil
}

// secretOfClass says whether a class of one of the drivers names the secret for a claim that waits for its volume.
func (o objects) secretOfClass(drivers map[string]bool, namespace, name string) (bool, error) {
	classes, err := list[*storagev1.StorageClass](o, storagev1.SchemeGroupVersion.WithResource("storageclasses"), "", nil)
	if err != nil {
		return false, fmt.Errorf("list classes: %w", err)
	}
	for _, class := range classes {
		secret, where := class.Parameters["csi.storage.k8s.io/provisioner-secret-name"], class.Parameters["csi.storage.k8s.io/provisioner-secret-namespace"]
		if !drivers[class.Provisioner] || secret == "" {
			continue
		}
		if secret == name && where == namespace {
			return true, nil
		}
		claims, err := list[*corev1.PersistentVolumeClaim](o, corev1.SchemeGroupVersion.WithResource("persistentvolumeclaims"), "", nil)
		if err != nil {
			return false, fmt.Errorf("list claims: %w", err)
		}
		for _, c := range claims {
			if api.ClaimClass(c) != class.Name || c.Spec.VolumeName != "" {
				continue
			}
			fill := strings.NewReplacer("${pvc.name}", c.Name, "${pvc.namespace}", c.Namespace, "${pv.name}", "pvc-"+string(c.UID))
			if fill.Replace(secret) == name && fill.Replace(where) == namespace {
				return true, nil
			}
		}
	}
	return false, nil
}
