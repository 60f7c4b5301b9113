package appliance_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/pintle/pintle/runtime/csi/csitest"
	"github.com/pintle/pintle/runtime/wasm/wasmtest"
)

// counter adds a line to a file of the volume.
const counter = `package main

import (
	"fmt"
	"os"
)

func main() {
	f, err := os.OpenFile("/data/lines", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = fmt.Fprintln(f, os.Getenv("POD"))
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
`

// The whole way of a claim: class by default, scheduler, this node's folder, binder, WASI pods one after the other, growth, and
// the end with the claim; a restart of everything in the middle.
func TestAClaimsDataOutlivesItsPodsAndAStart(t *testing.T) {
	module, err := wasmtest.Module(t.Context(), counter)
	if err != nil {
		t.Fatal(err)
	}
	archive, err := wasmtest.Archive("example.com/counter:1", module, wasmtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	a := newAppliance(t, embedded(dir))
	client, stop := start(t, a)
	if err := a.ImportImages(t.Context(), bytes.NewReader(archive)); err != nil {
		t.Fatal(err)
	}
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data"}, Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Mi")}}}}
	if _, err := client.CoreV1().PersistentVolumeClaims("default").Create(t.Context(), claim, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	write := func(name string) { t.Helper(); runCounter(t, client, name, "data") }
	write("first")
	stop()
	a = newAppliance(t, embedded(dir))
	client, stop = start(t, a)
	defer func() { stop() }()
	write("second")
	c, err := client.CoreV1().PersistentVolumeClaims("default").Get(t.Context(), "data", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(dir, "node", "volumes", c.Spec.VolumeName)
	if b, err := os.ReadFile(filepath.Join(folder, "lines")); err != nil || string(b) != "first\nsecond\n" {
		t.Fatalf("%q, %v", b, err)
	}
	c = c.DeepCopy()
	c.Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("2Mi")
	if _, err := client.CoreV1().PersistentVolumeClaims("default").Update(t.Context(), c, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := eventually("the claim has grown", func() error {
		c, err := client.CoreV1().PersistentVolumeClaims("default").Get(t.Context(), "data", metav1.GetOptions{})
		if q := c.Status.Capacity[corev1.ResourceStorage]; err == nil && (q.String() != "2Mi" || len(c.Status.Conditions) > 0) {
			err = fmt.Errorf("%+v", c.Status)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := client.CoreV1().PersistentVolumeClaims("default").Delete(t.Context(), "data", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := eventually("folder and volume are gone", func() error {
		if _, err := client.CoreV1().PersistentVolumes().Get(t.Context(), c.Spec.VolumeName, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("the volume: %v", err)
		}
		if _, err := os.Stat(folder); !os.IsNotExist(err) {
			return fmt.Errorf("the folder: %v", err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// runCounter runs a pod that writes its name into a claim's volume, and deletes it.
func runCounter(t *testing.T, client kubernetes.Interface, name, claim string) {
	t.Helper()
	pods := client.CoreV1().Pods("default")
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever,
		Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim}}}},
		Containers: []corev1.Container{{Name: "c", Image: "example.com/counter:1", Env: []corev1.EnvVar{{Name: "POD", Value: name}},
			VolumeMounts: []corev1.VolumeMount{{Name: "v", MountPath: "/data"}}}}}}
	if _, err := pods.Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := eventually("the pod has written", func() error {
		p, err := pods.Get(t.Context(), name, metav1.GetOptions{})
		if err != nil || p.Status.Phase == corev1.PodSucceeded {
			return err
		}
		said := ""
		if l, err := client.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{}); err == nil {
			for _, e := range l.Items {
				said += "\n" + e.InvolvedObject.Name + " " + e.Reason + ": " + e.Message
			}
		}
		return fmt.Errorf("phase %s%s", p.Status.Phase, said)
	}); err != nil {
		t.Fatal(err)
	}
	if err := pods.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// The same way with a storage driver, which has its controller on this node: made, attached by the control plane's wish,
// used, detached, deleted, all with a node's rights.
func TestAStorageDriverServesClaimsWithANodesRights(t *testing.T) {
	module, err := wasmtest.Module(t.Context(), counter)
	if err != nil {
		t.Fatal(err)
	}
	archive, err := wasmtest.Archive("example.com/counter:1", module, wasmtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "csi") // sockets' paths are short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	a := newAppliance(t, embedded(dir))
	client, stop := start(t, a)
	defer stop()
	if err := a.ImportImages(t.Context(), bytes.NewReader(archive)); err != nil {
		t.Fatal(err)
	}
	const driver = "test.csi.example"
	d := &csitest.Driver{Name: driver, NodeID: "id", Controller: true, Dir: filepath.Join(dir, "node", "kubelet"), Registered: "/var/lib/kubelet/plugins/" + driver + "/csi.sock"}
	d.Unbind = os.RemoveAll // its volumes are the folders at their targets
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	defer d.Stop()
	class := driver
	mode := storagev1.VolumeBindingWaitForFirstConsumer
	if _, err := client.StorageV1().StorageClasses().Create(t.Context(), &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: class}, Provisioner: driver,
		VolumeBindingMode: &mode}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	claims := client.CoreV1().PersistentVolumeClaims("default")
	if _, err := claims.Create(t.Context(), &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "d"}, Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: &class,
		Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	runCounter(t, client, "user", "d")
	if err := claims.Delete(t.Context(), "d", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := eventually("detached and deleted", func() error {
		l, err := client.StorageV1().VolumeAttachments().List(t.Context(), metav1.ListOptions{})
		if err == nil && len(l.Items)+len(d.Volumes()) > 0 {
			err = fmt.Errorf("%d attachments, volumes %v", len(l.Items), d.Volumes())
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var calls []string
	for _, c := range d.Calls() {
		method, _, _ := strings.Cut(c, " ")
		calls = append(calls, method)
	}
	if want := []string{"CreateVolume", "ControllerPublishVolume", "NodeStageVolume", "NodePublishVolume", "NodeUnpublishVolume", "NodeUnstageVolume", "ControllerUnpublishVolume",
		"DeleteVolume"}; !slices.Equal(slices.Compact(calls), want) {
		t.Fatalf("calls %q", calls)
	}
}
