package persistentvolume

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/reconciletest"
)

// The whole controller, with what its watches know: claims and volumes come in any order, each claim gets a volume, and what is
// freed is given to who waits; a default class comes after the claims that have none.
func TestClaimsAreBoundAsVolumesCome(t *testing.T) {
	fake := reconciletest.New(nil)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	env := reconcile.Env{Client: fake}
	go func() { ended <- New(env, nil, 4).Run(ctx, env, nil) }()
	defer func() { stop(); <-ended }()
	claim := func(name string) *corev1.PersistentVolumeClaim {
		c, _ := reconcile.Get[*corev1.PersistentVolumeClaim](ctx, fake, reconcile.PersistentVolumeClaims(), "ns", name)
		return c
	}
	eventually := func(what string, is func() bool) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("never: ", what)
			}
		}
	}
	const n = 20
	for i := range n {
		c := object[corev1.PersistentVolumeClaim](t, pvc("1Gi", `, storageClassName: manual`))
		c.Name, c.UID = fmt.Sprint("c", i), ""
		v := object[corev1.PersistentVolume](t, pv(fmt.Sprint("v", i), "1Gi", `, storageClassName: manual, persistentVolumeReclaimPolicy: Retain`))
		v.Status.Phase = corev1.VolumePending
		if i%2 == 0 {
			must(fake.Create(ctx, reconcile.PersistentVolumes(), v))
		}
		must(fake.Create(ctx, reconcile.PersistentVolumeClaims(), c))
		if i%2 == 1 && i < n-1 { // the last one has none
			must(fake.Create(ctx, reconcile.PersistentVolumes(), v))
		}
	}
	bound := func() (count int) {
		for i := range n {
			if claim(fmt.Sprint("c", i)).Status.Phase == corev1.ClaimBound {
				count++
			}
		}
		return count
	}
	eventually("all but one are bound", func() bool { return bound() == n-1 })
	// A person frees a volume: it is the waiting one's.
	var gone string
	for i := range n {
		if c := claim(fmt.Sprint("c", i)); c.Status.Phase == corev1.ClaimBound {
			gone = c.Spec.VolumeName
			if err := fake.Delete(ctx, reconcile.PersistentVolumeClaims(), "ns", c.Name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	volume := func() *corev1.PersistentVolume {
		v, _ := reconcile.Get[*corev1.PersistentVolume](ctx, fake, reconcile.PersistentVolumes(), "", gone)
		return v
	}
	eventually("it is released", func() bool { return volume().Status.Phase == corev1.VolumeReleased })
	freed := volume().DeepCopy()
	freed.Spec.ClaimRef = nil
	must(fake.Update(ctx, reconcile.PersistentVolumes(), "", freed))
	eventually("it is bound again", func() bool { return volume().Status.Phase == corev1.VolumeBound })

	late := object[corev1.PersistentVolumeClaim](t, pvc("1Gi", ""))
	late.Name, late.UID = "late", ""
	must(fake.Create(ctx, reconcile.PersistentVolumeClaims(), late))
	must(fake.Create(ctx, reconcile.StorageClasses(), object[storagev1.StorageClass](t,
		`{metadata: {name: standard, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}, provisioner: example.com/standard, volumeBindingMode: Immediate}`)))
	eventually("it has the default class, and a provisioner", func() bool {
		c := claim("late")
		return c.Spec.StorageClassName != nil && *c.Spec.StorageClassName == "standard" && c.Annotations["volume.kubernetes.io/storage-provisioner"] == "example.com/standard"
	})
}
