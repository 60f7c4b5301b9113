package csi

import (
	"slices"
	"strings"
	"testing"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/runtime/csi/csitest"
)

func TestPathsAreTheDriversOwnView(t *testing.T) {
	p := paths{"/data/kubelet"}
	for _, tc := range []struct{ path, endpoint, want string }{
		{"/data/kubelet/pods/x", "/var/lib/kubelet/plugins/d/csi.sock", "/var/lib/kubelet/pods/x"},
		{"/data/kubelet/pods/x", "/run/d.sock", "/data/kubelet/pods/x"},
		{"/data/kubelet/pods/x", "/data/kubelet/plugins/d/csi.sock", "/data/kubelet/pods/x"},
	} {
		if got := p.view(tc.path, tc.endpoint); got != tc.want {
			t.Errorf("%s for %s: %s", tc.path, tc.endpoint, got)
		}
	}
	if got := p.host("/var/lib/kubelet/plugins/d/csi.sock"); got != "/data/kubelet/plugins/d/csi.sock" {
		t.Error(got)
	}
	if got := p.host("/var/lib/kubelets/x"); got != "/var/lib/kubelets/x" {
		t.Error(got)
	}
}

func csiNode(name string, drivers ...string) *storagev1.CSINode {
	c := &storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: name}}
	for _, d := range drivers {
		setDriver(c, storagev1.CSINodeDriver{Name: d, NodeID: "id-" + name, TopologyKeys: []string{"zone"}}, true)
	}
	return c
}

func TestWhoMakesACall(t *testing.T) {
	nodes := map[string]*storagev1.CSINode{"a": csiNode("a", "d"), "b": csiNode("b", "d"), "c": csiNode("c")}
	for _, tc := range []struct {
		me, about string
		ready     string
		want      bool
	}{
		{"a", "", "a b c", true}, {"b", "", "a b c", false}, // the first does
		{"b", "", "b c", true},                                // the first that is ready
		{"b", "b", "a b c", true}, {"a", "b", "a b c", false}, // whom it is about
		{"a", "b", "a c", true},                               // who is away can't
		{"a", "c", "a b c", true}, {"b", "c", "a b c", false}, // c has no controller
	} {
		v := &view{node: tc.me, csiNodes: nodes, ready: map[string]bool{}}
		for _, n := range strings.Fields(tc.ready) {
			v.ready[n] = true
		}
		if got := v.mine("d", tc.about); got != tc.want {
			t.Errorf("%+v: %v", tc, got)
		}
	}
}

func TestSidecarsAreKnownByTheirImagesAndTheSocketTheyMount(t *testing.T) {
	p := &corev1.Pod{Spec: corev1.PodSpec{
		Volumes:    []corev1.Volume{{Name: "s", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/var/lib/kubelet/plugins/d/"}}}},
		Containers: []corev1.Container{{Image: "registry.k8s.io/sig-storage/csi-provisioner:v5.2.0@sha256:1", VolumeMounts: []corev1.VolumeMount{{Name: "s"}}}}}}
	if !sidecars([]*corev1.Pod{p}, "/var/lib/kubelet/plugins/d") {
		t.Error("not seen")
	}
	if sidecars([]*corev1.Pod{p}, "/var/lib/kubelet/plugins/other") {
		t.Error("another driver's")
	}
	p.Spec.Containers[0].Image = "registry.k8s.io/sig-storage/csi-node-driver-registrar:v2"
	if sidecars([]*corev1.Pod{p}, "/var/lib/kubelet/plugins/d") {
		t.Error("a registrar makes no controller's calls")
	}
}

func TestSecretsAreNamedByClasses(t *testing.T) {
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "claim", Annotations: map[string]string{"team": "red"}}}
	class := func(kv ...string) *storagev1.StorageClass {
		s := &storagev1.StorageClass{Parameters: map[string]string{}}
		for i := 0; i < len(kv); i += 2 {
			s.Parameters[kv[i]] = kv[i+1]
		}
		return s
	}
	p, err := parametersOf(class("type", "fast", paramPrefix+"node-stage-secret-name", "${pvc.name}-${pvc.annotations['team']}", paramPrefix+"node-stage-secret-namespace", "${pvc.namespace}", paramPrefix+"fstype", "xfs"))
	if err != nil || len(p.driver) != 1 || p.own["fstype"] != "xfs" {
		t.Fatalf("%+v, %v", p, err)
	}
	ref, err := p.secretRef("node-stage", c, "pv")
	if err != nil || ref.Name != "claim-red" || ref.Namespace != "ns" {
		t.Fatalf("%+v, %v", ref, err)
	}
	if ref, err := p.secretRef("node-publish", c, "pv"); ref != nil || err != nil {
		t.Fatalf("%+v, %v", ref, err)
	}
	for _, bad := range []*storagev1.StorageClass{class(paramPrefix+"nonsense", "x"), class(paramPrefix+"provisioner-secret-name", "x"),
		class(paramPrefix+"provisioner-secret-name", "${pvc.annotations['none']}", paramPrefix+"provisioner-secret-namespace", "x"),
		class(paramPrefix+"provisioner-secret-name", "x", paramPrefix+"provisioner-secret-namespace", "${pvc.name}")} {
		p, err := parametersOf(bad)
		if err == nil {
			_, err = p.secretRef("provisioner", c, "pv")
		}
		if err == nil {
			t.Errorf("%v is taken", bad.Parameters)
		}
	}
}

func TestAVolumeIsAskedForWhereItsPodGoes(t *testing.T) {
	nodes := map[string]*storagev1.CSINode{"a": csiNode("a", "d"), "b": csiNode("b", "d"), "c": csiNode("c", "d")}
	labels := map[string]map[string]string{"a": {"zone": "1"}, "b": {"zone": "2"}, "c": {"zone": "1"}}
	if r := requirements("d", "b", nodes, labels); len(r.GetRequisite()) != 1 || r.GetRequisite()[0].GetSegments()["zone"] != "2" {
		t.Errorf("%v", r)
	}
	if r := requirements("d", "", nodes, labels); len(r.GetRequisite()) != 2 {
		t.Errorf("%v", r)
	}
	if r := requirements("other", "b", nodes, labels); r != nil {
		t.Errorf("%v", r)
	}
	if a := affinity([]*csipb.Topology{{Segments: map[string]string{"zone": "2"}}}); a.Required.NodeSelectorTerms[0].MatchExpressions[0].Values[0] != "2" {
		t.Errorf("%v", a)
	}
}

func TestADriversVolumeIsMadeAttachedGrownAndDeleted(t *testing.T) {
	w := newWorld(t, func(d *csitest.Driver) {
		d.Controller, d.Topology = true, map[string]string{"topology.example/node": "n1"}
	})
	core, storage := w.client.CoreV1(), w.client.StorageV1()
	mode, grow, class := storagev1.VolumeBindingWaitForFirstConsumer, true, "fast"
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := storage.StorageClasses().Create(t.Context(), &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: class}, Provisioner: driverName, VolumeBindingMode: &mode,
		AllowVolumeExpansion: &grow, Parameters: map[string]string{"type": "ssd", paramPrefix + "provisioner-secret-name": "s", paramPrefix + "provisioner-secret-namespace": "default"}}, metav1.CreateOptions{})
	must(err)
	_, err = core.Secrets("default").Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "s"}, Data: map[string][]byte{"key": []byte("k")}}, metav1.CreateOptions{})
	must(err)
	c, err := core.PersistentVolumeClaims("default").Create(t.Context(), &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "c", UID: "c", Annotations: map[string]string{annotationProvisioner: driverName}},
		Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: &class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}}}}, metav1.CreateOptions{})
	must(err)
	c = c.DeepCopy()
	c.Annotations[annotationSelectedNode] = "n1" // the scheduler's
	c, err = core.PersistentVolumeClaims("default").Update(t.Context(), c, metav1.UpdateOptions{})
	must(err)
	get := func() *corev1.PersistentVolume {
		v, err := core.PersistentVolumes().Get(t.Context(), "pvc-c", metav1.GetOptions{})
		if err != nil {
			return nil
		}
		return v.DeepCopy()
	}
	w.eventually("made", func() bool { return get() != nil })
	v := get()
	if v.Spec.CSI.VolumeHandle != "vol-pvc-c" || v.Spec.CSI.VolumeAttributes["made"] != "yes" || v.Annotations[annotationProvisioned] != driverName ||
		v.Spec.NodeAffinity == nil || v.Annotations[annotationDeleteName] != "s" {
		t.Fatalf("%+v", v)
	}
	req := w.driver.Last("CreateVolume").(*csipb.CreateVolumeRequest)
	if req.Parameters["type"] != "ssd" || req.Secrets["key"] != "k" || len(req.Parameters) != 1 || len(req.GetAccessibilityRequirements().GetRequisite()) != 1 {
		t.Fatalf("%+v", req)
	}
	// The binder's and the attach-detach controller's.
	v.Status.Phase = corev1.VolumeBound
	_, err = core.PersistentVolumes().Update(t.Context(), v, metav1.UpdateOptions{})
	must(err)
	c = c.DeepCopy()
	c.Spec.VolumeName, c.Status.Phase = v.Name, corev1.ClaimBound
	c.Status.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	c, err = core.PersistentVolumeClaims("default").Update(t.Context(), c, metav1.UpdateOptions{})
	must(err)
	name := AttachmentName(driverName, "vol-pvc-c", "n1")
	_, err = storage.VolumeAttachments().Create(t.Context(), &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: name, UID: "va"},
		Spec: storagev1.VolumeAttachmentSpec{Attacher: driverName, NodeName: "n1", Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &v.Name}}}, metav1.CreateOptions{})
	must(err)
	attachment := func() *storagev1.VolumeAttachment {
		a, err := storage.VolumeAttachments().Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return nil
		}
		return a.DeepCopy()
	}
	w.eventually("attached", func() bool { return attachment().Status.Attached })
	if a := attachment(); a.Status.AttachmentMetadata["device"] != "/dev/vol-pvc-c" || !slices.Contains(a.Finalizers, attacherFinalizer(driverName)) {
		t.Fatalf("%+v", a)
	}
	if id := w.driver.Last("ControllerPublishVolume").(*csipb.ControllerPublishVolumeRequest).NodeId; id != "id-1" {
		t.Fatalf("node ID %q", id)
	}
	c = c.DeepCopy()
	c.Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("2Gi")
	_, err = core.PersistentVolumeClaims("default").Update(t.Context(), c, metav1.UpdateOptions{})
	must(err)
	w.eventually("grown, but for its filesystem", func() bool {
		c, err := core.PersistentVolumeClaims("default").Get(t.Context(), "c", metav1.GetOptions{})
		has, size := c.Status.Capacity[corev1.ResourceStorage], get().Spec.Capacity[corev1.ResourceStorage]
		return err == nil && len(c.Status.Conditions) == 1 && has.String() == "1Gi" && size.String() == "2Gi"
	})
	// A volume that is attached isn't deleted.
	must(core.PersistentVolumeClaims("default").Delete(t.Context(), "c", metav1.DeleteOptions{}))
	v = get()
	v.Status.Phase = corev1.VolumeReleased
	_, err = core.PersistentVolumes().Update(t.Context(), v, metav1.UpdateOptions{})
	must(err)
	a, now := attachment(), metav1.Now()
	a.DeletionTimestamp = &now
	_, err = storage.VolumeAttachments().Update(t.Context(), a, metav1.UpdateOptions{})
	must(err)
	w.eventually("detached", func() bool { return attachment() == nil || len(attachment().Finalizers) == 0 })
	if len(w.driver.Volumes()) != 1 {
		t.Fatal("deleted before it was detached")
	}
	if attachment() != nil {
		must(storage.VolumeAttachments().Delete(t.Context(), name, metav1.DeleteOptions{}))
	}
	w.eventually("deleted", func() bool { return get() == nil && len(w.driver.Volumes()) == 0 })
}
