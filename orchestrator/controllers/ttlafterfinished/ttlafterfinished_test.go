package ttlafterfinished

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/reconciletest"
)

func now() time.Time { return time.Unix(1_700_000_000, 0) }

func finished(how batchv1.JobConditionType, ago time.Duration, ttl *int32) *batchv1.Job {
	return &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "j"}, Spec: batchv1.JobSpec{TTLSecondsAfterFinished: ttl},
		Status: batchv1.JobStatus{Conditions: []batchv1.JobCondition{{Type: how, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now().Add(-ago))}}}}
}

func TestDecideWhichJobsHaveBeenKeptLongEnough(t *testing.T) {
	for name, c := range map[string]struct {
		job     *batchv1.Job
		expired bool
		again   time.Duration
	}{
		"complete, its time over":     {finished(batchv1.JobComplete, 100*time.Second, ptr.To[int32](100)), true, 0},
		"failed, its time over":       {finished(batchv1.JobFailed, time.Hour, ptr.To[int32](100)), true, 0},
		"not yet":                     {finished(batchv1.JobFailed, 40*time.Second, ptr.To[int32](100)), false, time.Minute},
		"at once":                     {finished(batchv1.JobComplete, 0, ptr.To[int32](0)), true, 0},
		"kept":                        {finished(batchv1.JobComplete, time.Hour, nil), false, 0},
		"about to fail, not finished": {finished(batchv1.JobFailureTarget, time.Hour, ptr.To[int32](1)), false, 0},
		"ended in the future":         {finished(batchv1.JobComplete, -time.Hour, ptr.To[int32](60)), false, time.Hour + time.Minute},
	} {
		if expired, again := decide(c.job, now()); expired != c.expired || again != c.again {
			t.Errorf("%s: expired %v, again in %v", name, expired, again)
		}
	}
}

func TestAnEndedJobIsDeletedWhenItsTimeIsOver(t *testing.T) {
	clock := clocktesting.NewFakeClock(now())
	fake := reconciletest.New(clock.Now)
	if _, err := fake.Create(t.Context(), reconcile.Jobs(), finished(batchv1.JobComplete, 0, ptr.To[int32](60))); err != nil {
		t.Fatal(err)
	}
	c := &shell{reconcile.Env{Client: fake, Clock: clock}.WithDefaults()}
	deleted := func() bool {
		if _, err := c.reconcile(t.Context(), reconcile.Key{Namespace: "default", Name: "j"}); err != nil {
			t.Fatal(err)
		}
		j, err := reconcile.Get[*batchv1.Job](t.Context(), fake, reconcile.Jobs(), "default", "j")
		if err != nil {
			t.Fatal(err)
		}
		return j == nil || j.DeletionTimestamp != nil
	}
	if deleted() {
		t.Error("deleted too early")
	}
	clock.Step(time.Minute)
	if !deleted() {
		t.Error("kept for too long")
	}
}
