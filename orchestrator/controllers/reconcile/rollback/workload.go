package rollback

import (
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/history"
)

// Workload is what keeps its revisions in ControllerRevisions, a StatefulSet or a DaemonSet, at one moment.
type Workload struct {
	Object     api.Object
	Kind       string             // names events
	Conditions []metav1.Condition // of its status
	Off        bool               // nothing is wanted of it, or it is being deleted: no failure counts
	ByHand     bool               // updates are made by whoever deletes pods (OnDelete): they judge them, too
	Newest     *appsv1.ControllerRevision
	Revisions  []*appsv1.ControllerRevision
	Hash       func(*appsv1.ControllerRevision) string // a revision's value of the pods' label controller-revision-hash
	Pods       []*corev1.Pod
	Now        time.Time
}

// Number is a revision's number as annotations and messages hold it.
func Number(r *appsv1.ControllerRevision) string { return strconv.FormatInt(r.Revision, 10) }

func (w *Workload) condition(name string) *metav1.Condition {
	for i := range w.Conditions {
		if w.Conditions[i].Type == name {
			return &w.Conditions[i]
		}
	}
	return nil
}

func (w *Workload) deadline() time.Duration { return Deadline(w.Object.GetAnnotations()) }

func (w *Workload) completed() (bool, time.Duration) {
	return Completed(w.condition(ConditionProgressing), w.Newest.Name, w.deadline(), w.Now)
}

// Failed says why the update to the newest revision has failed: "" if it has not, or if automatic rollback doesn't apply.
func (w *Workload) Failed() (reason, detail string) {
	u := Update{Annotations: w.Object.GetAnnotations(), Off: w.Off || w.ByHand, Hash: w.Hash(w.Newest),
		TimedOut: TimedOut(w.condition(ConditionProgressing), w.Newest.Name, w.deadline())}
	u.Completed, u.Probation = w.completed()
	for _, p := range w.Pods {
		if p.Labels[appsv1.ControllerRevisionHashLabelKey] == u.Hash {
			u.Pods = append(u.Pods, p)
		}
	}
	return Failed(u)
}

// target is the revision that was fully available last, nil if none was.
func (w *Workload) target() *appsv1.ControllerRevision {
	old := slices.DeleteFunc(slices.Clone(w.Revisions), func(r *appsv1.ControllerRevision) bool { return r.Name == w.Newest.Name })
	r, _ := Target(old, func(r *appsv1.ControllerRevision) int64 { return r.Revision })
	return r
}

// Keeps reports whether a rollback might bring the revision back, so that history must keep it.
func (w *Workload) Keeps(r *appsv1.ControllerRevision) bool {
	if done, left := w.completed(); done && left == 0 {
		return false
	}
	to := w.target()
	return to != nil && to.Name == r.Name
}

// Return makes the template that comes back, and writes the record of it on n, a copy of the workload that is to get that
// template. failed is the newest revision without the marks of one that did well, nil where it has none. ok is false where
// there is nothing to return to.
func (w *Workload) Return(n api.Object, reason, detail string) (template *corev1.PodTemplateSpec, failed *appsv1.ControllerRevision, ok bool) {
	to := w.target()
	if to == nil {
		return nil, nil, false
	}
	template, err := history.Template(to)
	if err != nil {
		return nil, nil, false
	}
	Write(n, Record{Revision: Number(w.Newest), TemplateHash: w.Hash(w.Newest), ToRevision: Number(to), ToHash: w.Hash(to), Reason: reason, Detail: detail})
	if w.Newest.Annotations[api.AnnotationAvailableSince] != "" {
		failed = w.Newest.DeepCopy()
		Unmark(failed)
	}
	return template, failed, true
}

// Tell returns the conditions that follow from how the rollout goes and from what Failed said, the events that go with the
// change, and when to look again (0: nothing to wait for). Revision, deadline and condition of r are filled in.
func (w *Workload) Tell(r Rollout, reason, detail string) (conditions []metav1.Condition, events []Event, again time.Duration) {
	conditions = slices.Clone(w.Conditions)
	drop := func(name string) {
		conditions = slices.DeleteFunc(conditions, func(c metav1.Condition) bool { return c.Type == name })
	}
	if w.ByHand { // nobody knows when somebody will delete the next pod
		drop(ConditionProgressing)
	} else {
		r.Revision, r.Deadline, r.Before = w.Newest.Name, w.deadline(), w.condition(ConditionProgressing)
		c, in := Progress(r, w.Now)
		if c != nil {
			drop(c.Type)
			conditions = append(conditions, *c)
		}
		if again = in; c == nil {
			c = r.Before
		}
		if done, left := Completed(c, w.Newest.Name, r.Deadline, w.Now); done && left > 0 {
			again = left // then history may shrink
		}
	}
	done, _ := w.completed()
	told := Tell(Story{Kind: w.Kind, HashLabel: appsv1.ControllerRevisionHashLabelKey, Annotations: w.Object.GetAnnotations(), Name: w.Newest.Name,
		Revision: Number(w.Newest), Hash: w.Hash(w.Newest), Completed: done, Reason: reason, Detail: detail, Before: w.condition(string(api.ConditionRolledBack))})
	if told.Drop || told.Set != nil {
		drop(string(api.ConditionRolledBack))
	}
	if told.Set != nil {
		told.Set.LastTransitionTime = metav1.NewTime(w.Now)
		conditions = append(conditions, *told.Set)
	}
	if told.Event != nil {
		events = []Event{*told.Event}
	}
	return conditions, events, again
}

// Remember is what to note once all pods are of the newest revision and available: mark is the revision with the mark of it,
// nil where it has it; then forget asks to drop the record of an earlier rollback from the workload, since coming back
// to that same revision one day is an update like any other.
func (w *Workload) Remember() (mark *appsv1.ControllerRevision, forget bool) {
	if !Available(w.Newest, Number(w.Newest)) {
		mark = w.Newest.DeepCopy()
		Mark(mark, Number(mark), w.Now)
		return mark, false
	}
	_, ok := Read(w.Object.GetAnnotations())
	return nil, ok && !Brought(w.Object.GetAnnotations(), w.Hash(w.Newest))
}
