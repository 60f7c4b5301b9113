package volumeprotection

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/reconciletest"
)

func object[T any](t testing.TB, text string) *T {
	t.Helper()
	o := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), o); err != nil {
		t.Fatalf("%s\n%v", text, err)
	}
	return o
}

func TestWhatUsesAClaim(t *testing.T) {
	const named = `volumes: [{name: v, persistentVolumeClaim: {claimName: c}}]`
	for name, tt := range map[string]struct {
		pod string
		use bool
	}{
		"a pod that runs":              {`{metadata: {name: p}, spec: {nodeName: n1, ` + named + `}, status: {phase: Running}}`, true},
		"a pod that ends":              {`{metadata: {name: p, deletionTimestamp: "2026-01-01T00:00:00Z"}, spec: {nodeName: n1, ` + named + `}, status: {phase: Running}}`, true},
		"a pod that has ended":         {`{metadata: {name: p}, spec: {nodeName: n1, ` + named + `}, status: {phase: Succeeded}}`, false},
		"a pod that waits for a node":  {`{metadata: {name: p}, spec: {` + named + `}, status: {phase: Pending}}`, false},
		"a pod with another claim":     {`{metadata: {name: p}, spec: {nodeName: n1, volumes: [{name: v, persistentVolumeClaim: {claimName: d}}]}}`, false},
		"the pod that it was made for": {`{metadata: {name: c, uid: u}, spec: {nodeName: n1, volumes: [{name: v, ephemeral: {}}]}}`, false}, // c-v
	} {
		if got := claimInUse(object[corev1.PersistentVolumeClaim](t, `{metadata: {name: c}}`), []*corev1.Pod{object[corev1.Pod](t, tt.pod)}); got != tt.use {
			t.Errorf("%s: %v", name, got)
		}
	}
	owned := object[corev1.PersistentVolumeClaim](t, `{metadata: {name: p-v, ownerReferences: [{apiVersion: v1, kind: Pod, name: p, uid: u, controller: true}]}}`)
	for uid, want := range map[string]bool{"u": true, "other": false} {
		if got := claimInUse(owned, []*corev1.Pod{object[corev1.Pod](t, `{metadata: {name: p, uid: `+uid+`}, spec: {nodeName: n1, volumes: [{name: v, ephemeral: {}}]}}`)}); got != want {
			t.Errorf("pod %s: %v", uid, got)
		}
	}
}

func TestWhatIsUsedStaysUntilItIsNot(t *testing.T) {
	fake, ctx := reconciletest.New(nil), t.Context()
	s := &shell{reconcile.Env{Client: fake}.WithDefaults()}
	create := func(gvr func() schema.GroupVersionResource, o api.Object) api.Object {
		t.Helper()
		out, err := fake.Create(ctx, gvr(), o)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	create(reconcile.PersistentVolumeClaims, object[corev1.PersistentVolumeClaim](t, `{metadata: {name: c, namespace: ns}}`))
	create(reconcile.PersistentVolumes, object[corev1.PersistentVolume](t, `{metadata: {name: v}, status: {phase: Bound}}`))
	pod := create(reconcile.Pods, object[corev1.Pod](t, `{metadata: {name: p, namespace: ns}, spec: {nodeName: n1, volumes: [{name: v, persistentVolumeClaim: {claimName: c}}]}}`)).(*corev1.Pod)
	claim := reconcile.Key{Resource: reconcile.PersistentVolumeClaims(), Namespace: "ns", Name: "c"}
	volume := reconcile.Key{Resource: reconcile.PersistentVolumes(), Name: "v"}
	there := func(k reconcile.Key) bool {
		t.Helper()
		if _, err := s.reconcile(ctx, k); err != nil {
			t.Fatal(err)
		}
		_, err := fake.Get(ctx, k.Resource, k.Namespace, k.Name)
		return !apierrors.IsNotFound(err)
	}
	for _, k := range []reconcile.Key{claim, volume} {
		if there(k); fake.Delete(ctx, k.Resource, k.Namespace, k.Name, metav1.DeleteOptions{}) != nil || !there(k) {
			t.Fatalf("%s is gone, and in use", k)
		}
	}
	ended := pod.DeepCopy()
	ended.Status.Phase = corev1.PodSucceeded
	if _, err := fake.Update(ctx, reconcile.Pods(), "status", ended); err != nil {
		t.Fatal(err)
	}
	if there(claim) {
		t.Error("the claim stays for ever")
	}
	v, _ := reconcile.Get[*corev1.PersistentVolume](ctx, fake, reconcile.PersistentVolumes(), "", "v")
	v = v.DeepCopy()
	v.Status.Phase = corev1.VolumeReleased
	if _, err := fake.Update(ctx, reconcile.PersistentVolumes(), "status", v); err != nil {
		t.Fatal(err)
	}
	if there(volume) {
		t.Error("the volume stays for ever")
	}
}
