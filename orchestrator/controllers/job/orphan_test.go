package job

import (
	"slices"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// Whose pods are whose: each is created in a namespace with the Job j, which selects app=j, and looked at.
func TestPodsThatNobodyControlsAreAdoptedOrLetGo(t *testing.T) {
	labels := map[string]string{"app": "j"}
	ref := func(kind, name string, uid types.UID) []metav1.OwnerReference {
		return []metav1.OwnerReference{{APIVersion: "batch/v1", Kind: kind, Name: name, UID: uid, Controller: ptr.To(true)}}
	}
	held := []string{batchv1.JobTrackingFinalizer}
	for name, c := range map[string]struct {
		pod     corev1.Pod
		manual  bool // whether the Job's selector is its user's
		owner   types.UID
		tracked bool
	}{
		"the Job's own":                 {corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: labels, OwnerReferences: ref("Job", "j", "job-uid"), Finalizers: held}}, false, "job-uid", true},
		"one that it selects":           {corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: labels}}, false, "job-uid", true},
		"one that a manual one selects": {corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: labels}}, true, "job-uid", true},
		"another controller's":          {corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: labels, OwnerReferences: ref("ReplicaSet", "r", "r-uid")}}, true, "r-uid", false},
		"nobody's, not selected":        {corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "x"}}}, false, "", false},
		"of a Job that is gone":         {corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "x"}, OwnerReferences: ref("Job", "gone", "gone-uid"), Finalizers: held}}, false, "gone-uid", false},
		"of a Job that came again":      {corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: labels, OwnerReferences: ref("Job", "j", "old-uid"), Finalizers: held}}, false, "old-uid", false},
		"orphaned, not selected":        {corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "x"}, Finalizers: held}}, false, "", false},
		"its own, no longer selected":   {corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "x"}, OwnerReferences: ref("Job", "j", "job-uid"), Finalizers: held}}, false, "", false},
	} {
		w := newWorld(t, newJob(func(j *batchv1.Job) { j.Spec.ManualSelector = &c.manual }))
		c.pod.Namespace, c.pod.Name = "default", "p"
		if _, err := w.fake.Create(t.Context(), reconcile.Pods(), &c.pod); err != nil {
			t.Fatal(err)
		}
		s := &shell{env: reconcile.Env{Client: w.fake, Clock: w.clock}.WithDefaults()}
		var keys []reconcile.Key
		get := func() *corev1.Pod {
			p, err := reconcile.Get[*corev1.Pod](t.Context(), w.fake, reconcile.Pods(), "default", "p")
			if err != nil || p == nil {
				t.Fatalf("%s: %v", name, err)
			}
			return p
		}
		if err := s.fromPod(t.Context(), reconcile.Event{Type: "ADDED", Object: get()}, func(k reconcile.Key) { keys = append(keys, k) }); err != nil {
			t.Fatal(err)
		}
		if c.manual { // the Job looks for itself
			keys = append(keys, reconcile.Key{Namespace: "default", Name: "j"})
		}
		for _, k := range keys {
			if _, err := s.reconcile(t.Context(), k); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		owner := types.UID("")
		if r := metav1.GetControllerOf(get()); r != nil {
			owner = r.UID
		}
		if owner != c.owner || slices.Contains(get().Finalizers, batchv1.JobTrackingFinalizer) != c.tracked {
			t.Errorf("%s: owner %q, finalizers %v", name, owner, get().Finalizers)
		}
	}
}
