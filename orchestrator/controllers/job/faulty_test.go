package job

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/reconciletest"
)

// The whole loop on an API that answers slowly, with conflicts and errors, loses answers, and shows what others write late:
// every index is run once, the failures are counted as they were, and there are never more pods than are allowed.
func TestAJobConvergesOnAnAPIThatMisbehaves(t *testing.T) {
	for seed := range uint64(4) {
		synctest.Test(t, func(t *testing.T) {
			fake := reconciletest.New(nil)
			client := fake.Faulty(reconciletest.Faults{Conflict: 0.15, Error: 0.1, Lost: 0.15, Stale: 0.3, StaleFor: 300 * time.Millisecond, Slow: 0.2, Delay: 50 * time.Millisecond, Closed: 0.02}, seed)
			c := New(reconcile.Env{Client: client}, nil, 2)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- c.Run(ctx, reconcile.Env{Client: client}, nil) }()
			const parallelism, completions = 4, 12
			if _, err := fake.Create(ctx, reconcile.Jobs(), newJob(indexed(parallelism, completions, func(j *batchv1.Job) { j.Spec.BackoffLimit = ptr.To[int32](99) }))); err != nil {
				t.Fatal(err)
			}
			failures := map[int]bool{}
			var j *batchv1.Job
			for range 2000 {
				time.Sleep(time.Second)
				synctest.Wait()
				pods, _ := reconcile.List[*corev1.Pod](ctx, fake, reconcile.Pods(), "default", nil)
				active := 0
				for _, p := range pods {
					if !reconcile.PodActive(p) {
						continue
					}
					active++
					n := p.DeepCopy()
					n.Status.Phase = corev1.PodSucceeded
					if i := indexOf(p); i%5 == 0 && !failures[i] { // fails once
						failures[i], n.Status.Phase = true, corev1.PodFailed
					}
					n.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}}}
					if _, err := fake.Update(ctx, reconcile.Pods(), "status", n); err != nil {
						t.Fatal(err)
					}
				}
				if active > parallelism {
					t.Fatalf("seed %d: %d pods at once", seed, active)
				}
				if j, _ = reconcile.Get[*batchv1.Job](ctx, fake, reconcile.Jobs(), "default", "j"); api.JobFinished(j) != nil {
					break
				}
			}
			time.Sleep(10 * time.Minute) // nothing more comes
			if got := fake.Creates("pods"); got != completions+len(failures) || j.Status.Succeeded != completions || int(j.Status.Failed) != len(failures) ||
				api.JobCondition(j, batchv1.JobComplete) == nil {
				t.Errorf("seed %d: %d pods were made, %d succeeded, %d failed: %v", seed, got, j.Status.Succeeded, j.Status.Failed, conditionsOf(j))
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}
