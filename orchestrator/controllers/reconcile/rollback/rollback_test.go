package rollback

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/api"
)

func at(minutes int) time.Time {
	return time.Unix(1_700_000_000, 0).Add(time.Duration(minutes) * time.Minute)
}

func crashed(restarts int32, waiting string) []*corev1.Pod {
	c := corev1.ContainerStatus{Name: "c", RestartCount: restarts}
	if waiting != "" {
		c.State.Waiting = &corev1.ContainerStateWaiting{Reason: waiting}
	}
	return []*corev1.Pod{{}, {ObjectMeta: metav1.ObjectMeta{Name: "p"}, Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{c}}}}
}

func TestWhenAnUpdateHasFailed(t *testing.T) {
	set := &appsv1.StatefulSet{}
	Write(set, Record{ToHash: "h"})
	for name, c := range map[string]struct {
		u    Update
		want string
	}{
		"nothing is amiss":                       {Update{Hash: "h", Pods: crashed(1, "CrashLoopBackOff")}, ""},
		"a container restarted 3 times":          {Update{Hash: "h", Pods: crashed(3, "")}, ReasonCrashLoop},
		"2 times, and waits":                     {Update{Hash: "h", Pods: crashed(2, "CrashLoopBackOff")}, ReasonCrashLoop},
		"2 times, and waits for something else":  {Update{Hash: "h", Pods: crashed(2, "ContainerCreating")}, ""},
		"no progress":                            {Update{Hash: "h", TimedOut: "it made none"}, ReasonDeadline},
		"no progress after it had completed":     {Update{Hash: "h", Completed: true, Probation: time.Second, TimedOut: "it made none"}, ""},
		"a crash on probation":                   {Update{Hash: "h", Completed: true, Probation: time.Second, Pods: crashed(3, "")}, ReasonCrashLoop},
		"a crash after probation":                {Update{Hash: "h", Completed: true, Pods: crashed(3, "")}, ""},
		"off":                                    {Update{Hash: "h", Off: true, Pods: crashed(3, "")}, ""},
		"turned off":                             {Update{Hash: "h", Annotations: map[string]string{api.AnnotationAutoRollback: "false"}, Pods: crashed(3, "")}, ""},
		"what a rollback brought back":           {Update{Hash: "h", Annotations: set.Annotations, Pods: crashed(3, "")}, ""},
		"another than what it brought back":      {Update{Hash: "i", Annotations: set.Annotations, Pods: crashed(3, "")}, ReasonCrashLoop},
		"no revision yet":                        {Update{Pods: crashed(3, "")}, ""},
		"a record that is none counts as nobody": {Update{Hash: "h", Annotations: map[string]string{api.AnnotationRolledBackFrom: "{"}, Pods: crashed(3, "")}, ReasonCrashLoop},
	} {
		if reason, detail := Failed(c.u); reason != c.want || (detail == "") != (reason == "") {
			t.Errorf("%s: %q %q, want %q", name, reason, detail, c.want)
		}
	}
}

func TestTheTargetWasAvailableLast(t *testing.T) {
	revision := func(name string, number int64, since time.Time) *appsv1.ControllerRevision {
		r := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Name: name}, Revision: number}
		if !since.IsZero() {
			Mark(r, Number(r), since)
		}
		return r
	}
	number := func(r *appsv1.ControllerRevision) int64 { return r.Revision }
	gone := revision("gone", 9, at(9))
	gone.DeletionTimestamp = &metav1.Time{Time: at(9)}
	got, ok := Target([]*appsv1.ControllerRevision{revision("a", 1, at(5)), revision("b", 2, at(3)), revision("never", 3, time.Time{}), revision("c", 4, at(5)), gone}, number)
	if !ok || got.Name != "c" {
		t.Errorf("%v %v", got, ok)
	}
	if got, ok := Target([]*appsv1.ControllerRevision{revision("never", 3, time.Time{})}, number); ok || got != nil {
		t.Errorf("%v %v", got, ok)
	}
	r := revision("a", 1, at(0))
	if Probation(r, "1", 10*time.Minute, at(4)) != 6*time.Minute || Probation(r, "2", 10*time.Minute, at(4)) != 0 || Probation(r, "1", 10*time.Minute, at(11)) != 0 {
		t.Error("probation")
	}
	if Unmark(r); Available(r, "1") {
		t.Error("still marked")
	}
}

func TestHowARolloutProgresses(t *testing.T) {
	cond := func(status metav1.ConditionStatus, reason string, minutes int) *metav1.Condition {
		return &metav1.Condition{Type: ConditionProgressing, Status: status, Reason: reason, Message: `Revision "web-1" x`, LastTransitionTime: metav1.NewTime(at(minutes))}
	}
	other := cond("True", ReasonAvailable, 0)
	other.Message = `Revision "web-11" x`
	for name, c := range map[string]struct {
		r      Rollout
		reason string // "": as it was
		again  time.Duration
	}{
		"it begins":                          {Rollout{}, ReasonCreated, 10 * time.Minute},
		"another's verdict counts nothing":   {Rollout{Before: other}, ReasonCreated, 10 * time.Minute},
		"time passes":                        {Rollout{Before: cond("True", ReasonCreated, 0)}, "", 6 * time.Minute},
		"a pod more":                         {Rollout{Before: cond("True", ReasonCreated, 0), Now: Counts{Updated: 1}}, ReasonUpdating, 10 * time.Minute},
		"it is late":                         {Rollout{Before: cond("True", ReasonUpdating, -6)}, ReasonDeadline, 0},
		"it was late":                        {Rollout{Before: cond("False", ReasonDeadline, -6)}, "", 0},
		"late, but then it moves":            {Rollout{Before: cond("False", ReasonDeadline, -6), Now: Counts{Ready: 1}}, ReasonUpdating, 10 * time.Minute},
		"it is held up":                      {Rollout{Before: cond("True", ReasonUpdating, -6), Excused: true}, ReasonWaiting, 0},
		"for long":                           {Rollout{Before: cond("True", ReasonWaiting, -600), Excused: true}, "", 0},
		"no longer":                          {Rollout{Before: cond("True", ReasonWaiting, -600)}, ReasonUpdating, 10 * time.Minute},
		"it completes":                       {Rollout{Before: cond("True", ReasonUpdating, 0), Complete: true}, ReasonAvailable, 0},
		"it stays complete":                  {Rollout{Before: cond("True", ReasonAvailable, -600), Was: Counts{Ready: 3}}, "", 0},
		"until the partition lets it go on":  {Rollout{Before: cond("True", ReasonAvailable, -600), Pending: 2}, ReasonUpdating, 10 * time.Minute},
		"complete is better late than never": {Rollout{Before: cond("False", ReasonDeadline, -6), Complete: true}, ReasonAvailable, 0},
	} {
		c.r.Revision, c.r.Deadline = "web-1", 10*time.Minute
		got, again := Progress(c.r, at(4))
		reason := ""
		if got != nil {
			reason = got.Reason
			if !got.LastTransitionTime.Time.Equal(at(4)) || (got.Status == "False") != (reason == ReasonDeadline) {
				t.Errorf("%s: %+v", name, got)
			}
		}
		if reason != c.reason || again != c.again {
			t.Errorf("%s: %q in %v, want %q in %v", name, reason, again, c.reason, c.again)
		}
	}
}

func TestWhatIsTold(t *testing.T) {
	set := &appsv1.StatefulSet{}
	Write(set, Record{Revision: "2", TemplateHash: "bad", ToRevision: "1", ToHash: "good", Reason: ReasonCrashLoop, Detail: "it crashed"})
	story := Story{Kind: "StatefulSet", HashLabel: "hash", Annotations: set.Annotations, Name: "web-good", Revision: "3", Hash: "good"}
	told := Tell(story)
	const message = "Rolled back from revision 2 (hash bad) to the template of revision 1 (hash good): it crashed"
	if told.Set == nil || told.Set.Message != message || told.Set.Status != "True" || told.Event == nil || told.Event.Reason != "StatefulSetRolledBack" {
		t.Fatalf("%+v", told)
	}
	story.Before = told.Set
	if again := Tell(story); again.Set != nil || again.Event != nil || again.Drop {
		t.Errorf("told twice: %+v", again)
	}
	story.Hash, story.Name = "next", "web-next"
	if gone := Tell(story); !gone.Drop {
		t.Errorf("after the next update: %+v", gone)
	}
	story = Story{Kind: "DaemonSet", Name: "logs-1", Revision: "1", Hash: "1", Reason: ReasonDeadline, Detail: "it made none"}
	told = Tell(story)
	if told.Set == nil || told.Set.Reason != ReasonNoTarget || told.Set.Status != "False" || told.Event.Reason != "DaemonSetRollbackImpossible" {
		t.Fatalf("%+v", told)
	}
	story.Before = told.Set
	if again := Tell(story); again.Set != nil || again.Event != nil || again.Drop {
		t.Errorf("told twice: %+v", again)
	}
	if story.Reason, story.Completed = "", true; !Tell(story).Drop {
		t.Error("it completed after all, and still RolledBack is False")
	}
}

func TestDeadlinesOfAnnotations(t *testing.T) {
	for value, want := range map[string]time.Duration{"": 10 * time.Minute, "30": 30 * time.Second, "-1": 10 * time.Minute, "soon": 10 * time.Minute} {
		if got := Deadline(map[string]string{api.AnnotationProgressDeadline: value}); got != want {
			t.Errorf("%q: %v", value, got)
		}
	}
}
