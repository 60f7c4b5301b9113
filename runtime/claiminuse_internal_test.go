package runtime

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// A StatefulSet's new claim has the name of the old one, whose folder is to go though the new one is in use.
func TestALaterClaimOfTheSameNameKeepsNoFolderInUse(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "web-0", UID: "u"}, Spec: corev1.PodSpec{Volumes: []corev1.Volume{{Name: "data",
		VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data-web-0"}}}}}}
	w := &worker{uid: pod.UID, namespace: "d", name: "web-0", desired: pod, box: &Sandbox{}}
	a := &Agent{workers: map[types.UID]*worker{pod.UID: w}}
	w.a = a
	if !a.claimInUse("d/data-web-0", "old") {
		t.Error("until it is known which volume the pod has, it may be the old one")
	}
	w.provided.mounted = map[string]mountedVolume{"data": {claim: "data-web-0", volume: "new"}}
	if a.claimInUse("d/data-web-0", "old") || !a.claimInUse("d/data-web-0", "new") || a.claimInUse("d/other", "new") {
		t.Error("the pod has the new volume, and no other")
	}
}
