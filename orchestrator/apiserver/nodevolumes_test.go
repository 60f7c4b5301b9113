package apiserver_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/orchestrator/apiserver/authn"
)

func TestANodeWritesItsOwnVolumesAlone(t *testing.T) {
	c := start(t, options{nodes: true})
	ctx := t.Context()
	size := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	modes := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	local := func(name, host string) *corev1.PersistentVolume {
		return &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PersistentVolumeSpec{Capacity: size, AccessModes: modes,
			PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: "/v"}},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{
				{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{host}}}}}}}}}
	}
	csi := func(name, driver string) *corev1.PersistentVolume {
		return &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PersistentVolumeSpec{Capacity: size, AccessModes: modes,
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: name}}}}
	}
	claim := func(name, node string) *corev1.PersistentVolumeClaim {
		return &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{"volume.kubernetes.io/selected-node": node}},
			Spec: corev1.PersistentVolumeClaimSpec{AccessModes: modes, Resources: corev1.VolumeResourceRequirements{Requests: size}}}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	admin := c.admin().CoreV1()
	_, err := admin.PersistentVolumes().Create(ctx, local("theirs", "n2"), metav1.CreateOptions{})
	must(err)
	_, err = admin.PersistentVolumeClaims("default").Create(ctx, claim("theirs", "n2"), metav1.CreateOptions{})
	must(err)
	_, err = admin.PersistentVolumeClaims("default").Create(ctx, claim("mine", "n1"), metav1.CreateOptions{})
	must(err)
	node := c.clientset(c.configAs(&authn.User{Name: "system:node:n1", Groups: []string{authn.GroupNodes, authn.GroupAuthenticated}}))
	core := node.CoreV1()

	refused := func(what string, err error) {
		t.Helper()
		if !apierrors.IsForbidden(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	label := []byte(`{"metadata":{"labels":{"a":"b"}}}`)
	phase := []byte(`{"status":{"phase":"Bound"}}`)
	_, err = core.PersistentVolumes().Create(ctx, local("new", "n2"), metav1.CreateOptions{})
	refused("a volume of another node", err)
	_, err = core.PersistentVolumes().Create(ctx, csi("new", "d.x"), metav1.CreateOptions{})
	refused("a volume of a driver that isn't there", err)
	_, err = core.PersistentVolumes().Patch(ctx, "theirs", types.MergePatchType, label, metav1.PatchOptions{})
	refused("a change of another's volume", err)
	_, err = core.PersistentVolumes().Patch(ctx, "theirs", types.MergePatchType, phase, metav1.PatchOptions{}, "status")
	refused("the status of another's volume", err)
	refused("the end of another's volume", core.PersistentVolumes().Delete(ctx, "theirs", metav1.DeleteOptions{}))
	_, err = core.PersistentVolumeClaims("default").Patch(ctx, "theirs", types.MergePatchType, label, metav1.PatchOptions{})
	refused("a change of another's claim", err)
	_, err = core.PersistentVolumeClaims("default").Patch(ctx, "theirs", types.MergePatchType, phase, metav1.PatchOptions{}, "status")
	refused("the status of another's claim", err)
	refused("the end of a claim", core.PersistentVolumeClaims("default").Delete(ctx, "mine", metav1.DeleteOptions{}))
	_, err = node.StorageV1().CSINodes().Create(ctx, &storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: "n2"}}, metav1.CreateOptions{})
	refused("another's CSINode", err)

	_, err = core.PersistentVolumes().Create(ctx, local("mine", "n1"), metav1.CreateOptions{})
	must(err)
	_, err = core.PersistentVolumes().Patch(ctx, "mine", types.MergePatchType, label, metav1.PatchOptions{})
	must(err)
	_, err = core.PersistentVolumeClaims("default").Patch(ctx, "mine", types.MergePatchType, label, metav1.PatchOptions{})
	must(err)
	_, err = core.PersistentVolumeClaims("default").Patch(ctx, "mine", types.MergePatchType, phase, metav1.PatchOptions{}, "status")
	must(err)
	must(core.PersistentVolumes().Delete(ctx, "mine", metav1.DeleteOptions{}))
	_, err = node.StorageV1().CSINodes().Create(ctx, &storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: storagev1.CSINodeSpec{Drivers: []storagev1.CSINodeDriver{{Name: "d.x", NodeID: "n1"}}}}, metav1.CreateOptions{})
	must(err)
	_, err = core.PersistentVolumes().Create(ctx, csi("new", "d.x"), metav1.CreateOptions{})
	must(err)
	spy := csi("spy", "d.x")
	spy.Spec.CSI.ControllerPublishSecretRef = &corev1.SecretReference{Namespace: "kube-system", Name: "any"}
	_, err = core.PersistentVolumes().Create(ctx, spy, metav1.CreateOptions{})
	refused("a volume with a secret that no class names", err)
	_, err = core.PersistentVolumes().Patch(ctx, "new", types.MergePatchType,
		[]byte(`{"metadata":{"annotations":{"volume.kubernetes.io/provisioner-deletion-secret-name":"any","volume.kubernetes.io/provisioner-deletion-secret-namespace":"kube-system"}}}`), metav1.PatchOptions{})
	refused("a secret for a volume that is there", err)
	_, err = c.admin().StorageV1().StorageClasses().Create(ctx, &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "x"}, Provisioner: "d.x",
		Parameters: map[string]string{"csi.storage.k8s.io/node-stage-secret-name": "${pvc.name}", "csi.storage.k8s.io/node-stage-secret-namespace": "${pvc.namespace}"}}, metav1.CreateOptions{})
	must(err)
	x := "x"
	wanted := claim("secured", "n1")
	wanted.Spec.StorageClassName = &x
	wanted, err = admin.PersistentVolumeClaims("default").Create(ctx, wanted, metav1.CreateOptions{})
	must(err)
	secured := csi("pvc-"+string(wanted.UID), "d.x")
	secured.Spec.StorageClassName = x
	secured.Spec.CSI.NodeStageSecretRef = &corev1.SecretReference{Namespace: "default", Name: "secured"}
	secured.Spec.ClaimRef = &corev1.ObjectReference{Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: "default", Name: "secured", UID: wanted.UID}
	_, err = core.PersistentVolumes().Create(ctx, secured, metav1.CreateOptions{})
	must(err)
	if list, err := core.PersistentVolumeClaims("").List(ctx, metav1.ListOptions{}); err != nil || len(list.Items) != 3 {
		t.Errorf("%v %v", list, err)
	}
}
