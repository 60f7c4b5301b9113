// Package rollback decides, for every kind of workload alike, when an update has failed, to which revision to return,
// and what is said about it. Everything here is pure: the controllers of Deployments, StatefulSets and DaemonSets look up
// what it asks about, and write what it answers. controllers/DESIGN.md has the questions and answers.
package rollback

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/api"
)

// Reasons of the RolledBack condition.
const (
	ReasonDeadline  = "ProgressDeadlineExceeded" // the update missed its deadline
	ReasonCrashLoop = "NewPodsCrashing"          // the update's pods crash repeatedly
	ReasonNoTarget  = "NoRevisionToReturnTo"     // it failed, and no earlier revision was ever available
)

// Record is the value of api.AnnotationRolledBackFrom.
type Record struct {
	Revision     string `json:"revision"`
	TemplateHash string `json:"templateHash"`
	ToRevision   string `json:"toRevision"`
	ToHash       string `json:"toTemplateHash"`
	Reason       string `json:"reason"`
	Detail       string `json:"detail"`
}

// Read returns what the annotations of a workload say of its last rollback.
func Read(annotations map[string]string) (r Record, ok bool) {
	err := json.Unmarshal([]byte(annotations[api.AnnotationRolledBackFrom]), &r)
	return r, err == nil
}

// Write records a rollback on a workload: together with the template that came back, in one write.
func Write(o api.Object, r Record) {
	b, _ := json.Marshal(r)
	set(o, api.AnnotationRolledBackFrom, string(b))
}

// Brought reports whether the revision of that hash is what the last automatic rollback brought back.
func Brought(annotations map[string]string, hash string) bool {
	r, ok := Read(annotations)
	return ok && hash != "" && r.ToHash == hash
}

// Update is a workload's present update.
type Update struct {
	Annotations map[string]string // the workload's
	Off         bool              // no failure counts: it is paused, being deleted, or scaled to nothing
	Hash        string            // names the newest revision; "" while there is none
	Completed   bool              // its rollout completed once
	Probation   time.Duration     // and for so much longer its pods may still be found to crash
	TimedOut    string            // says how long there was no progress; "" before the deadline
	Pods        []*corev1.Pod     // of the newest revision
}

// Failed says why an update has failed: "" if it has not, or if automatic rollback doesn't apply. What a rollback brought
// back is never rolled back.
func Failed(u Update) (reason, detail string) {
	if u.Hash == "" || u.Off || u.Annotations[api.AnnotationAutoRollback] == "false" || Brought(u.Annotations, u.Hash) ||
		u.Completed && u.Probation == 0 {
		return "", ""
	}
	if s := CrashingOne(u.Pods); s != "" {
		return ReasonCrashLoop, s
	}
	if u.TimedOut != "" && !u.Completed {
		return ReasonDeadline, u.TimedOut
	}
	return "", ""
}

// CrashingOne says how one of the pods crashes repeatedly; "" if none does.
func CrashingOne(pods []*corev1.Pod) string {
	for _, p := range pods {
		if s := Crashing(p); s != "" {
			return s
		}
	}
	return ""
}

// Crashing says how the pod crashes repeatedly: a container restarted 3 times, or one that is in CrashLoopBackOff after 2.
func Crashing(p *corev1.Pod) string {
	if p.DeletionTimestamp != nil {
		return ""
	}
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for _, c := range list {
			if c.RestartCount >= 3 || c.RestartCount >= 2 && c.State.Waiting != nil && c.State.Waiting.Reason == "CrashLoopBackOff" {
				return fmt.Sprintf("container %q of pod %q restarted %d times", c.Name, p.Name, c.RestartCount)
			}
		}
	}
	return ""
}

// Target is the one of the old revisions that was fully available last; none is the zero T.
func Target[T api.Object](old []T, revision func(T) int64) (best T, ok bool) {
	var at time.Time
	for _, r := range old {
		t, err := time.Parse(time.RFC3339Nano, r.GetAnnotations()[api.AnnotationAvailableSince])
		if err != nil || r.GetDeletionTimestamp() != nil {
			continue
		}
		if !ok || t.After(at) || t.Equal(at) && revision(r) > revision(best) {
			best, at, ok = r, t, true
		}
	}
	return best, ok
}

// Available reports whether o, which holds a revision, is marked as one whose present rollout completed.
func Available(o api.Object, revision string) bool {
	v := o.GetAnnotations()[api.AnnotationAvailableRevision]
	return v != "" && v == revision
}

// Probation is how much longer, of a window, the marked o may still be found to have failed: programs without a readiness
// probe count as ready until they crash.
func Probation(o api.Object, revision string, window time.Duration, now time.Time) time.Duration {
	since, err := time.Parse(time.RFC3339Nano, o.GetAnnotations()[api.AnnotationAvailableSince])
	if err != nil || !Available(o, revision) {
		return 0
	}
	return max(0, window-now.Sub(since))
}

// Mark says on o that its revision is fully available.
func Mark(o api.Object, revision string, now time.Time) {
	set(o, api.AnnotationAvailableSince, now.UTC().Format(time.RFC3339Nano))
	set(o, api.AnnotationAvailableRevision, revision)
}

// Unmark takes that back: the revision has failed after all, and must not be what another rollback returns to.
func Unmark(o api.Object) {
	a := o.GetAnnotations()
	delete(a, api.AnnotationAvailableSince)
	delete(a, api.AnnotationAvailableRevision)
}

func set(o api.Object, key, value string) {
	a := o.GetAnnotations()
	if a == nil {
		a = map[string]string{}
	}
	a[key] = value
	o.SetAnnotations(a)
}

// Story is what the condition and the event are about.
type Story struct {
	Kind        string            // "Deployment": the event is DeploymentRolledBack
	HashLabel   string            // how people find the pods of a revision
	Annotations map[string]string // the workload's
	Name        string            // of the object that holds the newest revision; "" while there is none
	Revision    string            // its number
	Hash        string
	Completed   bool
	Reason      string // what Failed said; with a target there is nothing to tell yet
	Detail      string
	Before      *metav1.Condition // the RolledBack condition as it is
}

// Told is what becomes of the RolledBack condition. The event goes with the change of the condition, so whoever writes the
// status sends it, before or after a restart.
type Told struct {
	Set   *metav1.Condition // without times; nil: as it was
	Drop  bool
	Event *Event
}

// Event is to be emitted about the workload.
type Event struct{ Type, Reason, Message string }

// Tell works out the RolledBack condition from the stored record.
func Tell(s Story) Told {
	const name = string(api.ConditionRolledBack)
	switch before := s.Before; {
	case Brought(s.Annotations, s.Hash):
		r, _ := Read(s.Annotations)
		msg := fmt.Sprintf("Rolled back from revision %s (%s %s) to the template of revision %s (%s %s): %s",
			r.Revision, s.HashLabel, r.TemplateHash, r.ToRevision, s.HashLabel, r.ToHash, r.Detail)
		if before != nil && before.Message == msg && before.Status == metav1.ConditionTrue && before.Reason == r.Reason {
			return Told{}
		}
		told := Told{Set: &metav1.Condition{Type: name, Status: metav1.ConditionTrue, Reason: r.Reason, Message: msg}}
		if before == nil || before.Message != msg {
			told.Event = &Event{corev1.EventTypeWarning, s.Kind + "RolledBack", msg}
		}
		return told
	case s.Reason != "": // failed, and there was no target
		if before != nil && before.Status == metav1.ConditionFalse && strings.Contains(before.Message, s.Name) {
			return Told{}
		}
		msg := fmt.Sprintf("Revision %s (%s) failed: %s; no earlier revision was ever fully available, so there is nothing to return to", s.Revision, s.Name, s.Detail)
		return Told{Set: &metav1.Condition{Type: name, Status: metav1.ConditionFalse, Reason: ReasonNoTarget, Message: msg},
			Event: &Event{corev1.EventTypeWarning, s.Kind + "RollbackImpossible", msg}}
	case before != nil && (before.Status == metav1.ConditionTrue || s.Name == "" || s.Completed || !strings.Contains(before.Message, s.Name)):
		return Told{Drop: true}
	}
	return Told{}
}
