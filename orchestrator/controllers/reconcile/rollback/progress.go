package rollback

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/api"
)

// ConditionProgressing is the condition of StatefulSets and DaemonSets that remembers how an update goes, across restarts.
// Kubernetes gives it to Deployments alone; reasons and meaning are those.
const ConditionProgressing = "Progressing"

// Reasons of the Progressing condition.
const (
	ReasonCreated   = "NewRevisionCreated"   // an update to this revision has begun
	ReasonUpdating  = "RevisionUpdating"     // it goes on
	ReasonWaiting   = "RevisionWaiting"      // it is held up by what is none of its own: no time counts
	ReasonAvailable = "NewRevisionAvailable" // it has completed
)

// Rollout is an update of a StatefulSet or DaemonSet, counted now and as its status counted it last.
type Rollout struct {
	Revision string // name of the newest
	Pending  int32  // pods of other revisions that are still to be replaced
	Complete bool   // every pod that is wanted is of its revision, and available
	Excused  bool   // nothing is amiss with the pods of its revision: what holds the update up is elsewhere
	Now, Was Counts
	Deadline time.Duration
	Before   *metav1.Condition // Progressing as it is; one about another revision says nothing of this
}

// Counts of pods.
type Counts struct{ Updated, Ready, Available int32 }

// Deadline is how long an update of a StatefulSet or DaemonSet may make no progress.
func Deadline(annotations map[string]string) time.Duration {
	n, err := strconv.ParseInt(annotations[api.AnnotationProgressDeadline], 10, 32)
	if err != nil || n <= 0 {
		n = api.DefaultProgressDeadlineSeconds
	}
	return time.Duration(n) * time.Second
}

// about reports whether a condition speaks of a revision.
func about(c *metav1.Condition, revision string) bool {
	return c != nil && strings.Contains(c.Message, strconv.Quote(revision))
}

// Progress returns what the Progressing condition becomes (its time is that of the last progress; nil: as it was), and in
// how long to look again (0: nothing to wait for).
func Progress(r Rollout, now time.Time) (c *metav1.Condition, again time.Duration) {
	say := func(status metav1.ConditionStatus, reason, text string) *metav1.Condition {
		return &metav1.Condition{Type: ConditionProgressing, Status: status, Reason: reason, Message: fmt.Sprintf("Revision %q %s", r.Revision, text),
			LastTransitionTime: metav1.NewTime(now)}
	}
	known := about(r.Before, r.Revision)
	switch {
	case known && r.Before.Reason == ReasonAvailable && r.Pending == 0:
		return nil, 0 // what happens to its pods later is no failed update
	case r.Complete:
		return say(metav1.ConditionTrue, ReasonAvailable, "has successfully progressed."), 0
	case !known:
		return say(metav1.ConditionTrue, ReasonCreated, "is the newest."), r.Deadline
	case r.Before.Reason == ReasonAvailable || r.Now.Updated > r.Was.Updated || r.Now.Ready > r.Was.Ready || r.Now.Available > r.Was.Available:
		return say(metav1.ConditionTrue, ReasonUpdating, "is progressing."), r.Deadline
	case r.Before.Status == metav1.ConditionFalse:
		return nil, 0
	case r.Excused && r.Before.Reason == ReasonWaiting:
		return nil, 0
	case r.Excused:
		return say(metav1.ConditionTrue, ReasonWaiting, "waits for others: its own pods are available."), 0
	case r.Before.Reason == ReasonWaiting: // the clock starts afresh
		return say(metav1.ConditionTrue, ReasonUpdating, "is progressing."), r.Deadline
	}
	if left := r.Deadline - now.Sub(r.Before.LastTransitionTime.Time); left > 0 {
		return nil, left
	}
	return say(metav1.ConditionFalse, ReasonDeadline, "has timed out progressing."), 0
}

// Completed reports whether Progressing says that the revision's rollout completed once, and how much longer of the window
// its pods may still be found to crash.
func Completed(progressing *metav1.Condition, revision string, window time.Duration, now time.Time) (done bool, probation time.Duration) {
	if !about(progressing, revision) || progressing.Reason != ReasonAvailable {
		return false, 0
	}
	return true, max(0, window-now.Sub(progressing.LastTransitionTime.Time))
}

// TimedOut says how long the revision made no progress, once Progressing says that its deadline has passed.
func TimedOut(progressing *metav1.Condition, revision string, deadline time.Duration) string {
	if !about(progressing, revision) || progressing.Reason != ReasonDeadline {
		return ""
	}
	return fmt.Sprintf("it made no progress for %d seconds", int(deadline/time.Second))
}
