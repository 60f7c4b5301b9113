package ephemeralvolume

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/reconciletest"
)

// The documentation's my-app, with its scratch-volume.
const myApp = `{metadata: {name: my-app, namespace: ns}, spec: {containers: [{name: my-frontend, image: busybox}], volumes: [{name: scratch-volume, ephemeral: {volumeClaimTemplate: {
  metadata: {labels: {type: my-frontend-volume}}, spec: {accessModes: [ReadWriteOnce], storageClassName: scratch-storage-class, resources: {requests: {storage: 1Gi}}}}}}, {name: e, emptyDir: {}}]}}`

func pod(t *testing.T) *corev1.Pod {
	t.Helper()
	p := &corev1.Pod{}
	if err := yaml.UnmarshalStrict([]byte(myApp), p); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAPodGetsTheClaimsThatItBrings(t *testing.T) {
	fake, ctx := reconciletest.New(nil), t.Context()
	s := &shell{reconcile.Env{Client: fake}.WithDefaults(), nil}
	created, err := fake.Create(ctx, reconcile.Pods(), pod(t))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := s.reconcile(ctx, reconcile.KeyOf(created)); err != nil {
			t.Fatal(err)
		}
	}
	c, err := reconcile.Get[*corev1.PersistentVolumeClaim](ctx, fake, reconcile.PersistentVolumeClaims(), "ns", "my-app-scratch-volume")
	if err != nil || c == nil {
		t.Fatal(c, err)
	}
	if !metav1.IsControlledBy(c, created) || c.Labels["type"] != "my-frontend-volume" || *c.Spec.StorageClassName != "scratch-storage-class" || !*c.OwnerReferences[0].BlockOwnerDeletion {
		t.Errorf("%+v", c)
	}
	if n := fake.Creates("persistentvolumeclaims"); n != 1 {
		t.Errorf("%d claims were made", n)
	}
}

func TestAClaimOfThatNameIsNotThePods(t *testing.T) {
	fake, ctx := reconciletest.New(nil), t.Context()
	events := reconcile.NewRecorder(reconcile.Env{Client: fake})
	s := &shell{reconcile.Env{Client: fake}.WithDefaults(), events}
	created, _ := fake.Create(ctx, reconcile.Pods(), pod(t))
	if _, err := fake.Create(ctx, reconcile.PersistentVolumeClaims(), &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "my-app-scratch-volume"}}); err != nil {
		t.Fatal(err)
	}
	const want = "PVC ns/my-app-scratch-volume was not created for pod ns/my-app (pod is not owner)"
	if _, err := s.reconcile(ctx, reconcile.KeyOf(created)); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if got := said(ctx, events, fake); !strings.Contains(got, "Warning FailedBinding ephemeral volume scratch-volume: "+want) {
		t.Error(got)
	}
}

func said(ctx context.Context, events *reconcile.Recorder, fake *reconciletest.Fake) (out string) {
	events.Flush(ctx)
	all, _ := reconcile.List[*corev1.Event](ctx, fake, reconcile.Events(), "", nil)
	for _, e := range all {
		out += e.Type + " " + e.Reason + " " + e.Message + "\n"
	}
	return out
}

func TestAPodThatHasEndedGetsNone(t *testing.T) {
	p := pod(t)
	p.Status.Phase = corev1.PodFailed
	if create, problems := decide(p, func(string) *corev1.PersistentVolumeClaim { return nil }); create != nil || problems != nil {
		t.Error(create, problems)
	}
}
