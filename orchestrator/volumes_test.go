package orchestrator_test

import (
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/pintle/pintle/orchestrator/orchestratortest"
)

// provision does once what a node's provisioner does, as that node: it makes volumes for the claims that have it selected, makes
// those larger whose claims ask for it, and removes those that are released.
func provision(ctx context.Context, client kubernetes.Interface, node string) error {
	claims, err := client.CoreV1().PersistentVolumeClaims("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, c := range claims.Items {
		size := c.Spec.Resources.Requests[corev1.ResourceStorage]
		switch {
		case c.Spec.VolumeName == "" && c.Annotations["volume.kubernetes.io/selected-node"] == node && c.Annotations["volume.kubernetes.io/storage-provisioner"] == "pintle.dev/local-path":
			v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pvc-" + string(c.UID), Annotations: map[string]string{"pv.kubernetes.io/provisioned-by": "pintle.dev/local-path"}},
				Spec: corev1.PersistentVolumeSpec{Capacity: corev1.ResourceList{corev1.ResourceStorage: size}, AccessModes: c.Spec.AccessModes, StorageClassName: *c.Spec.StorageClassName,
					PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimDelete,
					ClaimRef:                      &corev1.ObjectReference{Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: c.Namespace, Name: c.Name, UID: c.UID},
					PersistentVolumeSource:        corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: "/volumes/" + string(c.UID)}},
					NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{
						{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}}}}}}}}
			if _, err := client.CoreV1().PersistentVolumes().Create(ctx, v, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
				return err
			}
		case c.Status.Phase == corev1.ClaimBound:
			v, err := client.CoreV1().PersistentVolumes().Get(ctx, c.Spec.VolumeName, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if have := v.Spec.Capacity[corev1.ResourceStorage]; have.Cmp(size) < 0 {
				v.Spec.Capacity = corev1.ResourceList{corev1.ResourceStorage: size}
				if _, err := client.CoreV1().PersistentVolumes().Update(ctx, v, metav1.UpdateOptions{}); err != nil && !apierrors.IsConflict(err) {
					return err
				}
			}
		}
	}
	all, err := client.CoreV1().PersistentVolumes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, v := range all.Items {
		if v.Status.Phase == corev1.VolumeReleased {
			if err := client.CoreV1().PersistentVolumes().Delete(ctx, v.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				return err
			}
		}
	}
	return nil
}

// A claim's life with the control plane and a node that makes volumes: it waits for a pod, is bound, grows, outlives its being
// deleted while the pod has it, and goes with its volume; what the pod brings along goes with the pod.
func TestAVolumesLife(t *testing.T) {
	cluster := orchestratortest.Start(t)
	cluster.AddNode(t, "one")
	ctx, client := t.Context(), cluster.Client
	node, err := kubernetes.NewForConfig(cluster.Orchestrator.RESTConfigAs("system:node:one", "system:nodes", "system:authenticated"))
	if err != nil {
		t.Fatal(err)
	}
	eventually := func(what string, is func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("never: ", what)
			}
			if err := provision(ctx, node, "one"); err != nil {
				t.Fatal(err)
			}
		}
	}
	claim := func(name string) *corev1.PersistentVolumeClaim {
		c, err := client.CoreV1().PersistentVolumeClaims("default").Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return nil
		}
		return c
	}
	if _, err := client.CoreV1().PersistentVolumeClaims("default").Create(ctx, object[corev1.PersistentVolumeClaim](t,
		`{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}`), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually("the claim says what it waits for", func() bool {
		events, err := client.CoreV1().Events("default").List(ctx, metav1.ListOptions{FieldSelector: "reason=WaitForFirstConsumer"})
		return err == nil && len(events.Items) > 0 && events.Items[0].Message == "waiting for first consumer to be created before binding"
	})
	if c := claim("data"); *c.Spec.StorageClassName != "local-path" || c.Status.Phase != corev1.ClaimPending {
		t.Errorf("%+v", c)
	}
	if _, err := client.CoreV1().Pods("default").Create(ctx, object[corev1.Pod](t, `{metadata: {name: p}, spec: {containers: [{name: c, image: i, volumeMounts: [{name: data, mountPath: /data}, {name: scratch, mountPath: /scratch}]}],
		volumes: [{name: data, persistentVolumeClaim: {claimName: data}}, {name: scratch, ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 2Gi}}}}}}]}}`), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually("the pod is on the node", func() bool {
		p, err := client.CoreV1().Pods("default").Get(ctx, "p", metav1.GetOptions{})
		return err == nil && p.Spec.NodeName == "one"
	})
	for name, size := range map[string]string{"data": "1Gi", "p-scratch": "2Gi"} {
		c := claim(name)
		have := c.Status.Capacity[corev1.ResourceStorage]
		if c.Status.Phase != corev1.ClaimBound || have.String() != size || c.Spec.VolumeName != "pvc-"+string(c.UID) {
			t.Errorf("%+v", c)
		}
	}
	if _, err := client.CoreV1().PersistentVolumeClaims("default").Patch(ctx, "data", types.MergePatchType, []byte(`{"spec":{"resources":{"requests":{"storage":"5Gi"}}}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually("the claim has grown", func() bool {
		have := claim("data").Status.Capacity[corev1.ResourceStorage]
		return have.Cmp(resource.MustParse("5Gi")) == 0 && len(claim("data").Status.Conditions) == 0
	})
	_, err = client.CoreV1().PersistentVolumeClaims("default").Patch(ctx, "data", types.MergePatchType, []byte(`{"spec":{"resources":{"requests":{"storage":"1Gi"}}}}`), metav1.PatchOptions{})
	if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "field can not be less than status.capacity") {
		t.Errorf("it shrinks: %v", err)
	}
	if err := client.CoreV1().PersistentVolumeClaims("default").Delete(ctx, "data", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if c := claim("data"); c == nil || c.DeletionTimestamp == nil {
		t.Fatalf("a claim in use is gone, or not to go: %v", c)
	}
	zero := int64(0)
	if err := client.CoreV1().Pods("default").Delete(ctx, "p", metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	eventually("claims and volumes are gone", func() bool {
		volumes, err := client.CoreV1().PersistentVolumes().List(ctx, metav1.ListOptions{})
		return err == nil && len(volumes.Items) == 0 && claim("data") == nil && claim("p-scratch") == nil
	})
}
