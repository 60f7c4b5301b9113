package apiserver

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/api/volumes"
	"github.com/pintle/pintle/orchestrator/apiserver/authz"
)

// restrictVolumes refuses a node's change of a volume, claim or attachment that is none of its business: it makes, enlarges and
// deletes the volumes that are on it alone, and does the controller's part for the CSI drivers that run on it.
func (c *call) restrictVolumes(ctx context.Context) error {
	node, ok := authz.NodeName(c.user)
	if !ok || c.user.InGroup("system:masters") || c.name == "" || !slices.Contains([]string{"update", "patch", "delete"}, c.info.verb) {
		return nil
	}
	switch c.gvr {
	case corev1.SchemeGroupVersion.WithResource("persistentvolumes"), corev1.SchemeGroupVersion.WithResource("persistentvolumeclaims"),
		storagev1.SchemeGroupVersion.WithResource("volumeattachments"):
	default:
		return nil
	}
	entry, err := c.registry.Get(ctx, c.gvr, c.namespace, c.name)
	if apierrors.IsNotFound(err) {
		return nil // the call itself says so, or restrictNode judges what it would make
	}
	if err != nil {
		return err
	}
	drivers, err := c.driversOf(ctx, node)
	if err != nil {
		return err
	}
	mine := false
	switch o := entry.Object().(type) {
	case *corev1.PersistentVolume:
		mine = volumeOf(o, node, drivers)
	case *storagev1.VolumeAttachment:
		mine = o.Spec.NodeName == node || drivers[o.Spec.Attacher]
	case *corev1.PersistentVolumeClaim:
		if mine = o.Annotations[volumes.SelectedNode] == node || drivers[o.Annotations[volumes.StorageProvisioner]]; !mine && o.Spec.VolumeName != "" {
			bound, err := c.registry.Get(ctx, corev1.SchemeGroupVersion.WithResource("persistentvolumes"), "", o.Spec.VolumeName)
			if err != nil && !apierrors.IsNotFound(err) {
				return err
			}
			if err == nil {
				v, ok := bound.Object().(*corev1.PersistentVolume)
				mine = ok && volumes.BoundTo(v, o) && volumeOf(v, node, drivers)
			}
		}
	}
	if !mine {
		return c.notTheNodes(node)
	}
	return nil
}

func (c *call) notTheNodes(node string) error {
	return apierrors.NewForbidden(c.gvr.GroupResource(), c.name, fmt.Errorf("node %q can only change volumes that are on it alone, or of CSI drivers that run on it", node))
}

// restrictNewVolume is what restrictNode asks of a volume.
func (c *call) restrictNewVolume(ctx context.Context, node string, v *corev1.PersistentVolume) error {
	drivers, err := c.driversOf(ctx, node)
	switch {
	case err != nil:
		return err
	case !volumeOf(v, node, drivers):
		return c.notTheNodes(node)
	}
	return c.restrictSecrets(ctx, node, v)
}

// restrictSecrets refuses a node's new volume that names other secrets than its class does: nodes may read those that the volumes
// of their drivers name, and would choose any.
func (c *call) restrictSecrets(ctx context.Context, node string, v *corev1.PersistentVolume) error {
	named := secretsOf(v)
	if len(named) == 0 {
		return nil
	}
	refuse := apierrors.NewForbidden(c.gvr.GroupResource(), v.Name, fmt.Errorf("node %q can only make volumes with the secrets that their StorageClass names", node))
	entry, err := c.registry.Get(ctx, storagev1.SchemeGroupVersion.WithResource("storageclasses"), "", v.Spec.StorageClassName)
	if apierrors.IsNotFound(err) {
		return refuse
	}
	if err != nil {
		return err
	}
	class, ref := entry.Object().(*storagev1.StorageClass), v.Spec.ClaimRef
	if ref == nil || v.Spec.CSI == nil || class.Provisioner != v.Spec.CSI.Driver {
		return refuse
	}
	if entry, err = c.registry.Get(ctx, corev1.SchemeGroupVersion.WithResource("persistentvolumeclaims"), ref.Namespace, ref.Name); apierrors.IsNotFound(err) {
		return refuse
	}
	if err != nil {
		return err
	}
	claim := entry.Object().(*corev1.PersistentVolumeClaim)
	if api.ClaimClass(claim) != class.Name || v.Name != "pvc-"+string(claim.UID) {
		return refuse
	}
	names := []string{"${pvc.name}", claim.Name, "${pvc.namespace}", claim.Namespace, "${pv.name}", v.Name}
	for key, value := range claim.Annotations {
		names = append(names, "${pvc.annotations['"+key+"']}", value)
	}
	fill := strings.NewReplacer(names...)
	for purpose, has := range named {
		prefix := "csi.storage.k8s.io/" + purpose + "-secret-"
		if name := class.Parameters[prefix+"name"]; name == "" || has.Name != fill.Replace(name) || has.Namespace != fill.Replace(class.Parameters[prefix+"namespace"]) {
			return refuse
		}
	}
	return nil
}

// secretsOf are the secrets that a volume of a driver names, by what a StorageClass calls their purpose.
func secretsOf(v *corev1.PersistentVolume) map[string]corev1.SecretReference {
	out := map[string]corev1.SecretReference{}
	put := func(purpose string, ref *corev1.SecretReference) {
		if ref != nil && *ref != (corev1.SecretReference{}) {
			out[purpose] = *ref
		}
	}
	put("provisioner", &corev1.SecretReference{Name: v.Annotations["volume.kubernetes.io/provisioner-deletion-secret-name"],
		Namespace: v.Annotations["volume.kubernetes.io/provisioner-deletion-secret-namespace"]})
	if s := v.Spec.CSI; s != nil {
		put("controller-publish", s.ControllerPublishSecretRef)
		put("node-stage", s.NodeStageSecretRef)
		put("node-publish", s.NodePublishSecretRef)
		put("controller-expand", s.ControllerExpandSecretRef)
		put("node-expand", s.NodeExpandSecretRef)
	}
	return out
}

// restrictSecretChange refuses that a node names other secrets in a volume that is there.
func (c *call) restrictSecretChange(obj, live api.Object) error {
	node, ok := authz.NodeName(c.user)
	now, is := obj.(*corev1.PersistentVolume)
	was, too := live.(*corev1.PersistentVolume)
	if !ok || !is || !too || c.user.InGroup("system:masters") || maps.Equal(secretsOf(now), secretsOf(was)) {
		return nil
	}
	return apierrors.NewForbidden(c.gvr.GroupResource(), c.name, fmt.Errorf("node %q cannot change the secrets that a volume names", node))
}

// driversOf are the CSI drivers that a node says run on it.
func (c *call) driversOf(ctx context.Context, node string) (map[string]bool, error) {
	entry, err := c.registry.Get(ctx, storagev1.SchemeGroupVersion.WithResource("csinodes"), "", node)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	if n, ok := entry.Object().(*storagev1.CSINode); ok {
		for _, d := range n.Spec.Drivers {
			out[d.Name] = true
		}
	}
	return out, nil
}

// volumeOf says whether a volume is a folder of the node alone, or of a driver that runs there.
func volumeOf(v *corev1.PersistentVolume, node string, drivers map[string]bool) bool {
	if v.Spec.CSI != nil {
		return drivers[v.Spec.CSI.Driver]
	}
	if v.Spec.Local == nil || v.Spec.NodeAffinity == nil || v.Spec.NodeAffinity.Required == nil || len(v.Spec.NodeAffinity.Required.NodeSelectorTerms) != 1 {
		return false
	}
	return slices.ContainsFunc(v.Spec.NodeAffinity.Required.NodeSelectorTerms[0].MatchExpressions, func(r corev1.NodeSelectorRequirement) bool {
		return r.Key == corev1.LabelHostname && r.Operator == corev1.NodeSelectorOpIn && len(r.Values) == 1 && r.Values[0] == node
	})
}
