package runtime_test

import (
	"context"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pintle/pintle/runtime"
	"github.com/pintle/pintle/runtime/csi/csitest"
	"github.com/pintle/pintle/runtime/runtimetest"
)

const testDriver = "test.csi.example"

func TestAPodHasADriversVolumeUntilItsContainersEnded(t *testing.T) {
	dir, err := os.MkdirTemp("", "csi") // sockets' paths are short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	no := false
	client, engine := fake.NewClientset(&storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: testDriver}, Spec: storagev1.CSIDriverSpec{AttachRequired: &no}}), runtimetest.NewFakeEngine("", "img")
	n := start(t, client, engine, dir)
	n.claim("a", "", true)
	pv, err := client.CoreV1().PersistentVolumes().Get(t.Context(), "pv-a", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pv = pv.DeepCopy()
	pv.Spec.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("2Gi")}
	pv.Spec.PersistentVolumeSource = corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: testDriver, VolumeHandle: "h"}}
	if _, err := client.CoreV1().PersistentVolumes().Update(t.Context(), pv, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	n.create(claimPod("p", "a"))
	n.eventually("the driver is waited for", n.said("FailedMount", "driver name "+testDriver+" not found in the list of registered CSI drivers"))
	d := &csitest.Driver{Name: testDriver, NodeID: "id", Dir: filepath.Join(dir, "kubelet"), Registered: "/var/lib/kubelet/plugins/" + testDriver + "/csi.sock"}
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Stop)
	n.eventually("ready", func() bool { return condition(n.get("p"), corev1.PodReady) })
	spec, _ := engine.Spec("uid-p-c-0")
	target := filepath.Join(dir, "kubelet/pods/uid-p/volumes/kubernetes.io~csi/pv-a/mount")
	if !slices.ContainsFunc(spec.Mounts, func(m runtime.Mount) bool { return m.ContainerPath == "/data" && m.HostPath == target }) {
		t.Fatalf("mounts %+v", spec.Mounts)
	}
	// The filesystem grows where the pod is, over a restart of the agent, too.
	n.stop()
	n = start(t, client, engine, dir)
	c, err := client.CoreV1().PersistentVolumeClaims("default").Get(t.Context(), "a", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.Status.Conditions = []corev1.PersistentVolumeClaimCondition{{Type: corev1.PersistentVolumeClaimFileSystemResizePending, Status: corev1.ConditionTrue}}
	if _, err := client.CoreV1().PersistentVolumeClaims("default").UpdateStatus(t.Context(), c, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	n.eventually("grown", func() bool {
		c, err := client.CoreV1().PersistentVolumeClaims("default").Get(context.Background(), "a", metav1.GetOptions{})
		q := c.Status.Capacity[corev1.ResourceStorage]
		return err == nil && q.String() == "2Gi" && len(c.Status.Conditions) == 0
	})
	n.remove("p")
	n.eventually("pod is deleted", func() bool { return n.get("p") == nil })
	calls := strings.Join(d.Calls(), ", ")
	if !strings.HasSuffix(calls, "NodeExpandVolume h, NodeUnpublishVolume h, NodeUnstageVolume h") {
		t.Fatalf("calls %s", calls)
	}
	if c, err := client.StorageV1().CSINodes().Get(t.Context(), "n1", metav1.GetOptions{}); err != nil || len(c.Spec.Drivers) != 1 {
		t.Fatalf("CSINode %+v, %v", c, err)
	}
}

func TestAClaimsFolderIsMadeMeasuredAndRemoved(t *testing.T) {
	class := "local-path"
	client := fake.NewClientset(&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: class}, Provisioner: "pintle.dev/local-path"})
	registry := prometheus.NewRegistry()
	dir := t.TempDir()
	a, err := runtime.New(runtime.Config{Client: client, NodeName: "n1", DataDir: dir, Engines: []runtime.Engine{runtimetest.NewFakeEngine("", "img")}, Metrics: registry})
	if err != nil {
		t.Fatal(err)
	}
	n := run(t, a, client, nil, dir)
	claims := client.CoreV1().PersistentVolumeClaims("default")
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a", UID: "u", Annotations: map[string]string{"volume.kubernetes.io/selected-node": "n1"}},
		Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: &class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Mi")}}}}
	if c, err = claims.Create(t.Context(), c, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	volume := func() *corev1.PersistentVolume {
		v, err := client.CoreV1().PersistentVolumes().Get(context.Background(), "pvc-u", metav1.GetOptions{})
		if err != nil {
			return nil
		}
		return v.DeepCopy()
	}
	n.eventually("provisioned", func() bool { return volume() != nil })
	path := volume().Spec.Local.Path
	if path != filepath.Join(dir, "volumes", "pvc-u") {
		t.Fatal(path)
	}
	c = c.DeepCopy()
	c.Spec.VolumeName, c.Status.Phase = "pvc-u", corev1.ClaimBound
	if _, err := claims.Update(t.Context(), c, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path, "f"), make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	n.create(claimPod("p", "a"))
	n.eventually("ready", func() bool { return condition(n.get("p"), corev1.PodReady) })
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "kubelet_volume_stats_") {
			got[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	if got["kubelet_volume_stats_used_bytes"] != 1000 || got["kubelet_volume_stats_capacity_bytes"] != 1<<20 || len(got) != 6 {
		t.Fatalf("metrics %v", got)
	}
	rec := httptest.NewRecorder()
	a.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/stats/summary", nil))
	if b, _ := io.ReadAll(rec.Body); !strings.Contains(string(b), `"pvcRef":{"name":"a","namespace":"default"}`) {
		t.Fatalf("summary %s", b)
	}
	// Somebody deletes pod and claim in one breath: the folder goes when the pod has.
	if err := claims.Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	v := volume()
	v.Status.Phase = corev1.VolumeReleased
	if _, err := client.CoreV1().PersistentVolumes().Update(t.Context(), v, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	n.eventually("said", n.said("VolumeFailedDelete", "still used by a pod of this node"))
	n.remove("p")
	n.eventually("gone", func() bool { _, err := os.Stat(path); return os.IsNotExist(err) && volume() == nil })
}
