package cronjob

import (
	"errors"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/reconciletest"
)

// Three hours of a Job every ten minutes, with a control plane that is stopped after every single write, and that is down
// for a while: each time that is not missed is started once, and the history stays within its limits.
func TestEveryTimeIsStartedOnceWhereverTheControllerIsStopped(t *testing.T) {
	clock := clocktesting.NewFakeClock(at("08:00:00"))
	fake := reconciletest.New(clock.Now)
	if _, err := fake.Create(t.Context(), reconcile.CronJobs(), aCron("*/10 * * * *", policy(batchv1.ForbidConcurrent))); err != nil {
		t.Fatal(err)
	}
	stopped, allowed := errors.New("stopped"), 0
	fake.OnWrite(func(string, schema.GroupVersionResource, api.Object) error {
		if allowed--; allowed < 0 {
			return stopped
		}
		return nil
	})
	reconcileOnce := func(writes int) time.Duration {
		allowed = writes
		c := &shell{env: reconcile.Env{Client: fake, Clock: clock}.WithDefaults()}
		again, err := c.reconcile(t.Context(), reconcile.Key{Namespace: "default", Name: "c"})
		if err != nil && !errors.Is(err, stopped) {
			t.Fatal(err)
		}
		return again
	}
	for clock.Now().Before(at("11:00:00")) {
		for range 8 {
			reconcileOnce(1)
		}
		if again := reconcileOnce(9); again <= 0 || again > atLeast {
			t.Fatalf("again in %v", again)
		} else if clock.Now().Equal(at("09:00:00")) {
			clock.SetTime(at("09:35:00")) // 09:10 and 09:20 are missed, 09:30 is made up for
		} else {
			clock.Step(again)
		}
		allowed = 100
		jobs, err := reconcile.List[*batchv1.Job](t.Context(), fake, reconcile.Jobs(), "default", nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(jobs) > 4 {
			t.Fatalf("%d jobs are kept", len(jobs))
		}
		for _, j := range jobs {
			if api.JobFinished(j) == nil && clock.Now().Sub(j.CreationTimestamp.Time) >= 4*time.Minute {
				n := j.DeepCopy()
				now := metav1.NewTime(clock.Now())
				n.Status.CompletionTime = &now
				n.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue, LastTransitionTime: now}}
				if _, err := fake.Update(t.Context(), reconcile.Jobs(), "status", n); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	// 08:10 … 10:50 are 17 times; the first look at 11:00 comes after the loop.
	if got := fake.Creates("jobs"); got != 15 {
		t.Errorf("%d jobs were started, want 15", got)
	}
}
