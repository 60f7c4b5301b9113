package registry

import (
	"errors"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/pintle/pintle/orchestrator/api"
)

// admitClaim gives a new claim that names no class the default one, where there is one. Claims that come before it get it
// from their controller.
func (r *Registry) admitClaim(obj api.Object) {
	c, ok := obj.(*corev1.PersistentVolumeClaim)
	if !ok || api.HasClaimClass(c) {
		return
	}
	if class := api.DefaultStorageClass(r.storageClasses()); class != nil {
		c.Spec.StorageClassName = &class.Name
	}
}

// admitResize refuses that a claim asks for more where its class doesn't let volumes grow.
func (r *Registry) admitResize(k *kindRef, obj, was api.Object) error {
	c, ok := obj.(*corev1.PersistentVolumeClaim)
	old, too := was.(*corev1.PersistentVolumeClaim)
	if !ok || !too {
		return nil
	}
	now, before := c.Spec.Resources.Requests[corev1.ResourceStorage], old.Spec.Resources.Requests[corev1.ResourceStorage]
	if now.Cmp(before) <= 0 {
		return nil
	}
	if old.Status.Phase != corev1.ClaimBound {
		return apierrors.NewForbidden(groupResource(k.kind), c.Name, errors.New("Only bound persistent volume claims can be expanded"))
	}
	if name := api.ClaimClass(c); name != "" {
		for _, class := range r.storageClasses() {
			if class.Name == name && class.AllowVolumeExpansion != nil && *class.AllowVolumeExpansion {
				return nil
			}
		}
	}
	return apierrors.NewForbidden(groupResource(k.kind), c.Name, errors.New("only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"))
}

func (r *Registry) storageClasses() (classes []*storagev1.StorageClass) {
	if c := r.resources[storagev1.SchemeGroupVersion.WithResource("storageclasses")]; c != nil {
		entries, _, _ := c.snapshot("")
		for _, e := range entries {
			classes = append(classes, e.obj.(*storagev1.StorageClass))
		}
	}
	return classes
}
