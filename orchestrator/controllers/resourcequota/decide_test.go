package resourcequota

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/reconciletest"
)

func TestWhatIsNoLongerTakenIsGivenBack(t *testing.T) {
	clock := clocktesting.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	fake := reconciletest.New(clock.Now)
	meta := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "n", Name: name} }
	make := func(o api.Object) {
		t.Helper()
		gvr := reconcile.Pods()
		if _, ok := o.(*corev1.ResourceQuota); ok {
			gvr = reconcile.ResourceQuotas()
		}
		if _, err := fake.Create(t.Context(), gvr, o); err != nil {
			t.Fatal(err)
		}
	}
	make(&corev1.ResourceQuota{ObjectMeta: meta("q"), Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"pods": resource.MustParse("9"), "services": resource.MustParse("3")}}})
	make(&corev1.Pod{ObjectMeta: meta("a")})
	make(&corev1.Pod{ObjectMeta: meta("b")})
	c := New(reconcile.Env{Client: fake, Clock: clock}, api.All())
	key := reconcile.Key{Namespace: "n", Name: "q"}
	run := func(pods int64) {
		t.Helper()
		if _, err := c.Reconcile(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		q, err := reconcile.Get[*corev1.ResourceQuota](t.Context(), fake, reconcile.ResourceQuotas(), "n", "q")
		if err != nil {
			t.Fatal(err)
		}
		if got := q.Status.Used.Pods().Value(); got != pods || q.Status.Hard.Pods().Value() != 9 || len(q.Status.Used) != 2 {
			t.Errorf("%d pods used, want %d: %v", got, pods, q.Status)
		}
	}
	run(2)
	if err := fake.Delete(t.Context(), reconcile.Pods(), "n", "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	run(2) // too soon: a namespace of many objects isn't counted after each of their changes
	clock.Step(pauseMin)
	run(1)
	writes := fake.Writes()
	clock.Step(time.Hour)
	run(1)
	if fake.Writes() != writes {
		t.Error("a quota that is right was written again")
	}
}

func TestOnlyWhatChangesUsageConcernsQuotas(t *testing.T) {
	pods := api.ByGVR(api.All(), reconcile.Pods())
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	running := &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodRunning}}
	ready, ended, ends := running.DeepCopy(), running.DeepCopy(), running.DeepCopy()
	ready.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	ended.Status.Phase = corev1.PodSucceeded
	ends.Spec.ActiveDeadlineSeconds = new(int64)
	for name, c := range map[string]struct {
		now  *corev1.Pod
		want bool
	}{"ready": {ready, false}, "ended": {ended, true}, "a deadline, another scope": {ends, true}} {
		if got := concerns(pods, c.now, running, now); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if !concerns(pods, running, nil, now) {
		t.Error("a new pod doesn't concern quotas")
	}
}
