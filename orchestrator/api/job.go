package api

import (
	"fmt"
	"maps"
	"math"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
)

// The labels of a Job's pods from before labels had a prefix; they are still written and selected by.
const (
	LegacyJobNameLabel       = "job-name"
	LegacyControllerUIDLabel = "controller-uid"
)

func jobKind() *Kind {
	return &Kind{
		GroupVersionKind: batchv1.SchemeGroupVersion.WithKind("Job"),
		Resource:         "jobs", Singular: "job", Categories: []string{"all"}, Namespaced: true,
		New:     func() Object { return &batchv1.Job{} },
		NewList: func() runtime.Object { return &batchv1.JobList{} },
		Default: of(func(j *batchv1.Job) {
			if len(j.Labels) == 0 && j.UID == "" { // of a new Job, before its template has labels of its own
				j.Labels = maps.Clone(j.Spec.Template.Labels)
			}
			defaultJobSpec(&j.Spec)
		}),
		PrepareCreate: of(func(j *batchv1.Job) {
			j.Status, j.Generation = batchv1.JobStatus{}, 1
			selectOwnPods(j)
		}),
		PrepareUpdate: pair(func(j, old *batchv1.Job) {
			j.Status = old.Status
			bump(j, old, j.Spec, old.Spec)
		}),
		Validate:       check(validateJob),
		ValidateUpdate: checkPair(validateJobUpdate),
		Status: &Status{
			PrepareUpdate:  pair(func(j, old *batchv1.Job) { j.Spec, j.Generation = old.Spec, old.Generation }),
			ValidateUpdate: checkPair(validateJobStatus),
		},
		Columns: []metav1.TableColumnDefinition{
			nameColumn(), column("Status", "Status of the job.", 0), column("Completions", "How many pods have succeeded, of how many.", 0),
			column("Duration", "Time required to complete the job.", 0), ageColumn(),
			column("Containers", "Names of each container in the template.", 1), column("Images", "Images referenced by each container in the template.", 1),
			column("Selector", "Label selector for pods.", 1),
		},
		Row: row(jobRow),
		Fields: func(o Object) fields.Set {
			return fields.Set{"status.successful": fmt.Sprint(o.(*batchv1.Job).Status.Succeeded)}
		},
	}
}

// defaultJobSpec: a spec that says nothing runs one pod once; one that has only a parallelism is a work queue.
func defaultJobSpec(s *batchv1.JobSpec) {
	if s.Completions == nil && s.Parallelism == nil {
		s.Completions = ptr[int32](1)
	}
	setDefault(&s.Parallelism, 1)
	if s.BackoffLimitPerIndex != nil {
		setDefault(&s.BackoffLimit, math.MaxInt32)
	}
	setDefault(&s.BackoffLimit, 6)
	setDefault(&s.CompletionMode, batchv1.NonIndexedCompletion)
	setDefault(&s.Suspend, false)
	setDefault(&s.ManualSelector, false)
	if p := s.PodFailurePolicy; p != nil {
		setDefault(&s.PodReplacementPolicy, batchv1.Failed)
		for i := range p.Rules {
			for c := range p.Rules[i].OnPodConditions {
				setZero(&p.Rules[i].OnPodConditions[c].Status, corev1.ConditionTrue)
			}
		}
	}
	setDefault(&s.PodReplacementPolicy, batchv1.TerminatingOrFailed)
	defaultPodSpec(&s.Template.Spec)
}

// selectOwnPods labels a new Job's template by its name and UID and makes the selector of it, unless the Job brings its
// own. What the user wrote stays, for validation to refuse.
func selectOwnPods(j *batchv1.Job) {
	if m := j.Spec.ManualSelector; m != nil && *m || j.UID == "" {
		return
	}
	t := &j.Spec.Template
	t.Labels = maps.Clone(t.Labels)
	if t.Labels == nil {
		t.Labels = map[string]string{}
	}
	for key, value := range jobLabels(j) {
		if _, ok := t.Labels[key]; !ok {
			t.Labels[key] = value
		}
	}
	s := j.Spec.Selector.DeepCopy()
	if s == nil {
		s = &metav1.LabelSelector{}
	}
	if s.MatchLabels == nil {
		s.MatchLabels = map[string]string{}
	}
	if _, ok := s.MatchLabels[batchv1.ControllerUidLabel]; !ok {
		s.MatchLabels[batchv1.ControllerUidLabel] = string(j.UID)
	}
	j.Spec.Selector = s
}

func jobLabels(j *batchv1.Job) map[string]string {
	return map[string]string{batchv1.JobNameLabel: j.Name, LegacyJobNameLabel: j.Name,
		batchv1.ControllerUidLabel: string(j.UID), LegacyControllerUIDLabel: string(j.UID)}
}

// JobCondition is the condition of a Job that is True, nil if it isn't.
func JobCondition(j *batchv1.Job, kind batchv1.JobConditionType) *batchv1.JobCondition {
	for i := range j.Status.Conditions {
		if c := &j.Status.Conditions[i]; c.Type == kind && c.Status == corev1.ConditionTrue {
			return c
		}
	}
	return nil
}

// JobFinished is the condition that ended the Job, Complete or Failed; nil while it has not ended.
func JobFinished(j *batchv1.Job) *batchv1.JobCondition {
	if c := JobCondition(j, batchv1.JobComplete); c != nil {
		return c
	}
	return JobCondition(j, batchv1.JobFailed)
}

// Indexed says whether a Job's pods have completion indexes.
func Indexed(j *batchv1.Job) bool {
	return j.Spec.CompletionMode != nil && *j.Spec.CompletionMode == batchv1.IndexedCompletion
}

func jobRow(j *batchv1.Job) []any {
	names, images := containerCells(j.Spec.Template.Spec.Containers)
	return []any{j.Name, jobStatus(j), jobCompletions(j), jobDuration(j), j.CreationTimestamp, names, images, metav1.FormatLabelSelector(j.Spec.Selector)}
}

func jobStatus(j *batchv1.Job) string {
	switch {
	case JobCondition(j, batchv1.JobComplete) != nil:
		return "Complete"
	case JobCondition(j, batchv1.JobFailed) != nil:
		return "Failed"
	case j.DeletionTimestamp != nil:
		return "Terminating"
	case JobCondition(j, batchv1.JobSuspended) != nil:
		return "Suspended"
	case JobCondition(j, batchv1.JobFailureTarget) != nil:
		return "FailureTarget"
	case JobCondition(j, batchv1.JobSuccessCriteriaMet) != nil:
		return "SuccessCriteriaMet"
	}
	return "Running"
}

func jobCompletions(j *batchv1.Job) string {
	switch {
	case j.Spec.Completions != nil:
		return fmt.Sprintf("%d/%d", j.Status.Succeeded, *j.Spec.Completions)
	case j.Spec.Parallelism != nil && *j.Spec.Parallelism > 1:
		return fmt.Sprintf("%d/1 of %d", j.Status.Succeeded, *j.Spec.Parallelism)
	}
	return fmt.Sprintf("%d/1", j.Status.Succeeded)
}

// jobDuration is a cell: of a Job that runs it grows as an age does.
func jobDuration(j *batchv1.Job) any {
	start := j.Status.StartTime
	if start == nil {
		return ""
	}
	var end time.Time
	if c := JobCondition(j, batchv1.JobFailed); c != nil {
		end = c.LastTransitionTime.Time
	}
	if t := j.Status.CompletionTime; t != nil {
		end = t.Time
	}
	if end.IsZero() {
		return *start
	}
	return duration.HumanDuration(end.Sub(start.Time))
}
