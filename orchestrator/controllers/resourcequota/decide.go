package resourcequota

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"github.com/pintle/pintle/orchestrator/api"
)

const (
	// resync is when everything is counted again, whatever was seen: pods' grace periods end unseen.
	resync = 5 * time.Minute
	// A quota is counted at most once in pauseMin, and one of many objects takes at most one part in pauseShare of the time.
	pauseMin   = 100 * time.Millisecond
	pauseMax   = 10 * time.Second
	pauseShare = 20
)

// decide is the status that the quota should have; false: it has it.
func decide(q *corev1.ResourceQuota, used corev1.ResourceList) (corev1.ResourceQuotaStatus, bool) {
	s := corev1.ResourceQuotaStatus{Hard: q.Spec.Hard, Used: used}
	return s, !apiequality.Semantic.DeepEqual(s, q.Status)
}

// pause is how long a quota is left alone after it took that long to count.
func pause(took time.Duration) time.Duration { return min(max(took*pauseShare, pauseMin), pauseMax) }

// concerns says whether a change may matter to the quotas of the object's namespace: most of what is
// written of pods is about how they are, not about what they take.
func concerns(k *api.Kind, now, old api.Object, at time.Time) bool {
	if old == nil || now.GetDeletionTimestamp() != nil {
		return true
	}
	gr := k.GVR().GroupResource()
	if !apiequality.Semantic.DeepEqual(api.QuotaUsage(gr, now, at), api.QuotaUsage(gr, old, at)) {
		return true
	}
	was, isPod := old.(*corev1.Pod)
	if !isPod {
		return false
	}
	return !apiequality.Semantic.DeepEqual(was.Spec.ActiveDeadlineSeconds, now.(*corev1.Pod).Spec.ActiveDeadlineSeconds) // another scope
}
