package registry_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/registry"
)

func TestAClaimGetsTheDefaultClass(t *testing.T) {
	r := open(t)
	claims, classes := corev1.SchemeGroupVersion.WithResource("persistentvolumeclaims"), storagev1.SchemeGroupVersion.WithResource("storageclasses")
	claim := func(name string, class *string) *corev1.PersistentVolumeClaim {
		return &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: class,
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}}}}
	}
	if c := create(t, r, claims, claim("before", nil)); c.Spec.StorageClassName != nil {
		t.Errorf("%v", *c.Spec.StorageClassName)
	}
	create(t, r, classes, api.LocalPath())
	if c := create(t, r, claims, claim("after", nil)); c.Spec.StorageClassName == nil || *c.Spec.StorageClassName != api.LocalPathClass || c.Finalizers[0] != api.PersistentVolumeClaimProtection {
		t.Errorf("%+v", c)
	}
	none := ""
	if c := create(t, r, claims, claim("none", &none)); *c.Spec.StorageClassName != "" {
		t.Errorf("%v", *c.Spec.StorageClassName)
	}
}

func TestAClaimGrowsWhereItsClassLetsIt(t *testing.T) {
	r := open(t)
	claims, classes := corev1.SchemeGroupVersion.WithResource("persistentvolumeclaims"), storagev1.SchemeGroupVersion.WithResource("storageclasses")
	create(t, r, classes, api.LocalPath())
	fixed := api.LocalPath()
	fixed.Name, fixed.AllowVolumeExpansion = "fixed", nil
	create(t, r, classes, fixed)
	size := func(q string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(q)}
	}
	for _, class := range []string{"local-path", "fixed", ""} {
		c := create(t, r, claims, &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "c" + class}, Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: &class,
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, VolumeName: "v", Resources: corev1.VolumeResourceRequirements{Requests: size("1Gi")}}}).DeepCopy()
		grow := func() error {
			m := c.DeepCopy()
			m.Spec.Resources.Requests = size("2Gi")
			_, err := r.Update(t.Context(), claims, "", m, registry.UpdateOptions{})
			return err
		}
		refused(t, grow(), apierrors.IsForbidden, "Only bound persistent volume claims can be expanded")
		c.Status.Phase, c.Status.Capacity = corev1.ClaimBound, size("1Gi")
		c = update(t, r, claims, "status", c).DeepCopy()
		if class == "local-path" {
			if err := grow(); err != nil {
				t.Error(err)
			}
			shrunk := c.DeepCopy()
			shrunk.ResourceVersion = ""
			shrunk.Spec.Resources.Requests = size("1Gi")
			_, err := r.Update(t.Context(), claims, "", shrunk, registry.UpdateOptions{})
			refused(t, err, apierrors.IsInvalid, "field can not be less than status.capacity")
			continue
		}
		refused(t, grow(), apierrors.IsForbidden, "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize")
	}
}
