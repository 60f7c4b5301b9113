package claims

import (
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

type objects struct {
	pod   *corev1.Pod
	v     *corev1.Volume
	claim *corev1.PersistentVolumeClaim
	pv    *corev1.PersistentVolume
	node  *corev1.Node
}

func bound() *objects {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web-0", UID: "pod"}, Spec: corev1.PodSpec{
		Containers: []corev1.Container{{Name: "c", VolumeMounts: []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}}},
		Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data-web-0"}}}}}}
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "data-web-0", UID: "claim"},
		Spec:   corev1.PersistentVolumeClaimSpec{VolumeName: "pv", AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}},
		Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound}}
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv"}, Spec: corev1.PersistentVolumeSpec{
		ClaimRef:               &corev1.ObjectReference{Namespace: "ns", Name: "data-web-0", UID: "claim"},
		PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: "/mnt/disks/ssd1"}},
		NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{"n1"}}}}}}}}}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{corev1.LabelHostname: "n1"}}}
	return &objects{pod, &pod.Spec.Volumes[0], claim, pv, node}
}

func TestWhatAClaimsVolumeIsOnANode(t *testing.T) {
	block := corev1.PersistentVolumeBlock
	now := metav1.Now()
	for name, tc := range map[string]struct {
		change  func(*objects)
		ran     bool
		path    string
		err     string // part of the error; "": none
		waiting bool
		look    func(Mount) bool
	}{
		"local": {path: "/mnt/disks/ssd1"},
		"read-only by the pod": {change: func(o *objects) {
			o.pod.Spec.Volumes[0].PersistentVolumeClaim.ReadOnly = true
		}, path: "/mnt/disks/ssd1", look: func(m Mount) bool { return m.ReadOnly }},
		"not bound yet": {change: func(o *objects) {
			o.claim.Status.Phase, o.claim.Spec.VolumeName = corev1.ClaimPending, ""
		}, err: "PVC is not bound", waiting: true},
		"half bound": {change: func(o *objects) {
			o.claim.Status.Phase = corev1.ClaimPending
		}, err: "PVC is not bound", waiting: true},
		"lost": {change: func(o *objects) {
			o.claim.Status.Phase = corev1.ClaimLost
		}, err: "lost its volume"},
		"being deleted": {change: func(o *objects) {
			o.claim.DeletionTimestamp = &now
		}, err: "PVC is being deleted"},
		"deleted while it runs": {change: func(o *objects) {
			o.claim.DeletionTimestamp = &now
		}, ran: true, path: "/mnt/disks/ssd1"},
		"volume not bound": {change: func(o *objects) {
			o.pv.Spec.ClaimRef = nil
		}, err: "nil pv.Spec.ClaimRef", waiting: true},
		"another's volume": {change: func(o *objects) {
			o.pv.Spec.ClaimRef.UID = "other"
		}, err: "does not point to claim.UID"},
		"another node's volume": {change: func(o *objects) {
			o.node.Labels = nil
		}, err: "no matching NodeSelectorTerms"},
		"block": {change: func(o *objects) {
			o.pv.Spec.VolumeMode = &block
			o.pod.Spec.Containers[0].VolumeMounts = nil
		}, err: "volumeMode Block"},
		"block, mounted": {change: func(o *objects) {
			o.pv.Spec.VolumeMode = &block
		}, err: "specified in volumeMounts"},
		"filesystem, as device": {change: func(o *objects) {
			o.pod.Spec.Containers[0].VolumeDevices = []corev1.VolumeDevice{{Name: "data", DevicePath: "/dev/x"}}
		}, err: "specified in volumeDevices"},
		"hostPath": {change: func(o *objects) {
			o.pv.Spec.PersistentVolumeSource = corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/data"}}
		}, path: "/data", look: func(m Mount) bool { return m.Shared && m.HostPath != nil }},
		"csi": {change: func(o *objects) {
			o.pv.Spec.PersistentVolumeSource = corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "d", VolumeHandle: "h", ReadOnly: true}}
		}, look: func(m Mount) bool { return m.CSI != nil && m.ReadOnly }},
		"nfs": {change: func(o *objects) {
			o.pv.Spec.PersistentVolumeSource = corev1.PersistentVolumeSource{NFS: &corev1.NFSVolumeSource{Server: "s", Path: "/"}}
		}, err: "it supports local, hostPath and csi"},
		"mount options": {change: func(o *objects) {
			o.pv.Spec.MountOptions = []string{"noatime"}
		}, err: "mount options"},
	} {
		t.Run(name, func(t *testing.T) {
			o := bound()
			if tc.change != nil {
				tc.change(o)
			}
			err := Claimed(o.pod, o.v, o.claim, tc.ran)
			var m Mount
			if err == nil {
				m, err = Decide(o.pod, o.v, o.claim, o.pv, o.node)
			}
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error %v, want %q", err, tc.err)
				}
				if errors.As(err, new(*Waiting)) != tc.waiting {
					t.Fatalf("%v: waiting is %v", err, !tc.waiting)
				}
				return
			}
			if err != nil || m.Path != tc.path || tc.look != nil && !tc.look(m) {
				t.Fatalf("%+v, %v", m, err)
			}
		})
	}
}

func TestAnEphemeralVolumesClaimIsThePods(t *testing.T) {
	o := bound()
	pod, v, claim := o.pod, o.v, o.claim
	v.VolumeSource = corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}
	if name, _, ok := Of(pod, v); !ok || name != "web-0-data" {
		t.Fatalf("claim %q", name)
	}
	if err := Claimed(pod, v, claim, false); err == nil || !strings.Contains(err.Error(), "pod is not owner") {
		t.Fatalf("somebody else's claim: %v", err)
	}
	yes := true
	claim.OwnerReferences = []metav1.OwnerReference{{Kind: "Pod", Name: "web-0", UID: "pod", Controller: &yes}}
	if err := Claimed(pod, v, claim, false); err != nil {
		t.Fatal(err)
	}
}
