package ttlafterfinished

import (
	"time"

	batchv1 "k8s.io/api/batch/v1"

	"github.com/pintle/pintle/orchestrator/api"
)

// decide says whether the Job's time is over, or when to look again; 0: never.
func decide(j *batchv1.Job, now time.Time) (expired bool, again time.Duration) {
	end := api.JobFinished(j)
	if j.Spec.TTLSecondsAfterFinished == nil || j.DeletionTimestamp != nil || end == nil || end.LastTransitionTime.IsZero() {
		return false, 0
	}
	left := end.LastTransitionTime.Add(time.Duration(*j.Spec.TTLSecondsAfterFinished) * time.Second).Sub(now)
	return left <= 0, max(left, 0)
}
