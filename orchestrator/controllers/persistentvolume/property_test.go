package persistentvolume

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/orchestrator/api/volumes"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/reconciletest"
)

// Claims and volumes come and go, and are looked at in any order, by calls that fail, conflict, lose their answers and see old
// states: no volume is ever two claims', and once all is quiet, whoever can have a volume has one, and both say so.
func TestNoVolumeIsTwoClaims(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { t.Parallel(); bindInAnyOrder(t, seed) })
	}
}

func bindInAnyOrder(t *testing.T, seed uint64) {
	ctx := t.Context()
	rng := rand.New(rand.NewPCG(seed, 7))
	fake := reconciletest.New(nil)
	classes := []*storagev1.StorageClass{}
	for _, text := range []string{`{metadata: {name: manual}, provisioner: kubernetes.io/no-provisioner, volumeBindingMode: Immediate}`,
		`{metadata: {name: late}, provisioner: kubernetes.io/no-provisioner, volumeBindingMode: WaitForFirstConsumer}`} {
		classes = append(classes, object[storagev1.StorageClass](t, text))
	}
	for _, c := range classes {
		if _, err := fake.Create(ctx, reconcile.StorageClasses(), c); err != nil {
			t.Fatal(err)
		}
	}
	faulty := &shell{reconcile.Env{Client: fake.Faulty(reconciletest.Faults{Conflict: 0.1, Error: 0.05, Lost: 0.1, Stale: 0.3}, seed)}.WithDefaults(), nil, nil}
	sound := &shell{reconcile.Env{Client: fake}.WithDefaults(), nil, nil}
	owner := map[string]types.UID{} // by volume: the claim that was once completely bound to it

	check := func() {
		t.Helper()
		byVolume := map[string]string{}
		claims, _ := reconcile.List[*corev1.PersistentVolumeClaim](ctx, fake, reconcile.PersistentVolumeClaims(), "", nil)
		for _, c := range claims {
			if _, complete := c.Annotations[volumes.BindCompleted]; !complete {
				continue // what it names is a wish
			}
			if other := byVolume[c.Spec.VolumeName]; other != "" {
				t.Fatalf("volume %s is %s's and %s's", c.Spec.VolumeName, other, c.Name)
			}
			byVolume[c.Spec.VolumeName] = c.Name
		}
		all, _ := reconcile.List[*corev1.PersistentVolume](ctx, fake, reconcile.PersistentVolumes(), "", nil)
		for _, v := range all {
			if v.Status.Phase == corev1.VolumeBound && v.Spec.ClaimRef != nil && byVolume[v.Name] != "" {
				if had := owner[v.Name]; had != "" && had != v.Spec.ClaimRef.UID {
					t.Fatalf("volume %s went from one claim to another without anybody freeing it", v.Name)
				}
				owner[v.Name] = v.Spec.ClaimRef.UID
			}
		}
	}
	keys := func() (out []reconcile.Key) {
		for _, gvr := range []string{"claims", "volumes"} {
			if gvr == "claims" {
				objs, _ := fake.List(ctx, reconcile.PersistentVolumeClaims(), "", nil)
				for _, o := range objs {
					out = append(out, claimKey(o.GetNamespace(), o.GetName()))
				}
				continue
			}
			objs, _ := fake.List(ctx, reconcile.PersistentVolumes(), "", nil)
			for _, o := range objs {
				out = append(out, volumeKey(o.GetName()))
			}
		}
		rng.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
		return out
	}
	class := func() string { return []string{"", "manual", "late"}[rng.IntN(3)] }
	for step := range 120 {
		switch n := rng.IntN(10); {
		case n < 3:
			name := class()
			c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprintf("c%d", step)},
				Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: &name, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
					Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: *resource.NewQuantity(int64(1+rng.IntN(4)), resource.BinarySI)}}}}
			if rng.IntN(6) == 0 {
				c.Spec.VolumeName = fmt.Sprintf("v%d", rng.IntN(step+1))
			}
			must(fake.Create(ctx, reconcile.PersistentVolumeClaims(), c))
		case n < 6:
			v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("v%d", step)},
				Spec: corev1.PersistentVolumeSpec{StorageClassName: class(), AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
					PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
					Capacity:                      corev1.ResourceList{corev1.ResourceStorage: *resource.NewQuantity(int64(1+rng.IntN(5)), resource.BinarySI)}}}
			if rng.IntN(4) == 0 {
				v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "ns", Name: fmt.Sprintf("c%d", rng.IntN(step+1))}
			}
			must(fake.Create(ctx, reconcile.PersistentVolumes(), v))
		case n == 6:
			if all := must(fake.List(ctx, reconcile.PersistentVolumeClaims(), "", nil)); len(all) > 0 {
				if err := fake.Delete(ctx, reconcile.PersistentVolumeClaims(), "ns", all[rng.IntN(len(all))].GetName(), metav1.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, k := range keys()[:min(len(keys()), 4)] {
			_, _ = faulty.reconcile(ctx, k) // its fault is what is tested
			check()
		}
	}
	for range 20 {
		before := fake.Writes()
		for _, k := range keys() {
			if _, err := sound.reconcile(ctx, k); err != nil && !apierrors.IsConflict(err) {
				t.Fatal(err)
			}
			check()
		}
		if fake.Writes() == before {
			settled(t, ctx, fake)
			return
		}
	}
	t.Fatal("it never settles")
}

// settled checks the end: both halves agree, and no claim waits beside a volume that it may have.
func settled(t *testing.T, ctx context.Context, fake *reconciletest.Fake) {
	t.Helper()
	bound := 0
	claims, _ := reconcile.List[*corev1.PersistentVolumeClaim](ctx, fake, reconcile.PersistentVolumeClaims(), "", nil)
	all, _ := reconcile.List[*corev1.PersistentVolume](ctx, fake, reconcile.PersistentVolumes(), "", nil)
	byName := map[string]*corev1.PersistentVolume{}
	for _, v := range all {
		byName[v.Name] = v
	}
	for _, c := range claims {
		switch v := byName[c.Spec.VolumeName]; {
		case c.Status.Phase == corev1.ClaimBound:
			if bound++; v == nil || v.Spec.ClaimRef == nil || v.Spec.ClaimRef.UID != c.UID || v.Status.Phase != corev1.VolumeBound {
				t.Errorf("claim %s is bound to %+v", c.Name, v)
			}
		case c.Status.Phase == corev1.ClaimLost:
			t.Errorf("claim %s is lost, and no volume was deleted", c.Name)
		case c.Spec.VolumeName == "" && *c.Spec.StorageClassName != "late":
			for _, v := range all {
				have, want := v.Spec.Capacity[corev1.ResourceStorage], c.Spec.Resources.Requests[corev1.ResourceStorage]
				if v.Status.Phase == corev1.VolumeAvailable && v.Spec.ClaimRef == nil && v.Spec.StorageClassName == *c.Spec.StorageClassName && have.Cmp(want) >= 0 {
					t.Errorf("claim %s waits beside %s", c.Name, v.Name)
				}
			}
		}
	}
	if bound == 0 {
		t.Error(errors.New("no claim was ever bound: the test tests nothing"))
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
