package job

import (
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// state is what a decision is made from.
type state struct {
	job  *batchv1.Job
	pods []*corev1.Pod // that the Job controls
	gang bool          // whether they start, fail and succeed together
	now  time.Time
}

// plan is what to do, in this order. Whoever is stopped anywhere in it and decides again does the rest.
type plan struct {
	status      *batchv1.JobStatus // nil: as it is
	events      []event            // to tell once the status is written
	release     []*corev1.Pod      // they are counted: their finalizer may go
	releaseLast *corev1.Pod        // after all of release: it tells what became of the others
	drop        []*corev1.Pod      // to release and then delete: nobody shall count them
	remove      []*corev1.Pod      // to delete: they count as they end
	create      []newPod
	again       time.Duration // when something is due without anybody's change; 0: nothing is
}

type event struct{ typ, reason, message string }

// newPod is a pod to create.
type newPod struct {
	index             int // none: -1
	failures, ignored int // of the index so far, where it has a limit of its own
}

const noIndex = -1

// decision is a plan in the making.
type decision struct {
	state
	plan
	next batchv1.JobStatus

	tracked, active []*corev1.Pod // with the finalizer; neither ended nor being deleted
	terminating     int
	completed       api.Indexes
	failed          api.Indexes // with a limit for each
	failJob         string      // why the pod failure policy fails the Job
}

func decide(s state) plan {
	d := &decision{state: s, next: *s.job.Status.DeepCopy()}
	d.look()
	if api.JobFinished(s.job) != nil {
		d.release = d.tracked
		return d.plan
	}
	d.started()
	d.count()
	d.conclude()
	if s.job.DeletionTimestamp == nil {
		d.replicate()
	}
	d.finish()
	if !apiequality.Semantic.DeepEqual(d.next, s.job.Status) {
		d.status = &d.next
	}
	return d.plan
}

// look sorts the pods, and says in the status what runs.
func (d *decision) look() {
	ready := int32(0)
	for _, p := range d.pods {
		if tracked(p) {
			d.tracked = append(d.tracked, p)
		}
		switch {
		case over(p):
		case p.DeletionTimestamp != nil:
			d.terminating++
		default:
			d.active = append(d.active, p)
			if ok, _ := reconcile.PodReady(p); ok {
				ready++
			}
		}
	}
	slices.SortStableFunc(d.tracked, func(a, b *corev1.Pod) int { return ended(a, d.now).Compare(ended(b, d.now)) })
	terminating := int32(d.terminating)
	d.next.Active, d.next.Ready, d.next.Terminating = int32(len(d.active)), &ready, &terminating
	if api.Indexed(d.job) {
		// What was written for more completions than there are now still counts as far as they go.
		limit := int(*d.job.Spec.Completions)
		d.completed = readIndexes(d.job.Status.CompletedIndexes, limit)
		if d.job.Status.FailedIndexes != nil {
			d.failed = readIndexes(*d.job.Status.FailedIndexes, limit)
		}
	}
}

func readIndexes(text string, limit int) api.Indexes {
	all, _ := api.ParseIndexes(text, 1<<31) // validated when it was written
	return all.Below(limit)
}

func tracked(p *corev1.Pod) bool { return slices.Contains(p.Finalizers, batchv1.JobTrackingFinalizer) }

func (d *decision) suspended() bool { return d.job.Spec.Suspend != nil && *d.job.Spec.Suspend }

// started keeps the time from which the deadline counts, and the condition Suspended.
func (d *decision) started() {
	if ending(&d.next) != nil || d.job.DeletionTimestamp != nil {
		return
	}
	was := conditionOf(&d.next, batchv1.JobSuspended)
	isTrue := was != nil && was.Status == corev1.ConditionTrue
	switch now := metav1.NewTime(d.now); {
	case d.suspended():
		d.next.StartTime = nil
		if !isTrue {
			d.setCondition(batchv1.JobSuspended, corev1.ConditionTrue, "JobSuspended", "Job suspended")
			d.tell(corev1.EventTypeNormal, "Suspended", "Job suspended")
		}
	case isTrue:
		d.setCondition(batchv1.JobSuspended, corev1.ConditionFalse, "JobResumed", "Job resumed")
		d.tell(corev1.EventTypeNormal, "Resumed", "Job resumed")
		d.next.StartTime = &now
	case d.next.StartTime == nil:
		d.next.StartTime = &now
	}
}

// conclude sets the condition from which on no pod is started: FailureTarget or SuccessCriteriaMet.
func (d *decision) conclude() {
	if ending(&d.next) != nil {
		return
	}
	spec := &d.job.Spec
	fail := func(reason, message string) {
		d.setCondition(batchv1.JobFailureTarget, corev1.ConditionTrue, reason, message)
	}
	succeed := func(reason, message string) {
		d.setCondition(batchv1.JobSuccessCriteriaMet, corev1.ConditionTrue, reason, message)
	}
	if d.failJob != "" {
		fail(batchv1.JobReasonPodFailurePolicy, d.failJob)
		return
	}
	if limit := spec.BackoffLimit; limit != nil && (d.failures() > int64(*limit) || d.restartedTooOften(int64(*limit))) {
		fail(batchv1.JobReasonBackoffLimitExceeded, "Job has reached the specified backoff limit")
		return
	}
	if limit := spec.ActiveDeadlineSeconds; limit != nil && d.next.StartTime != nil && !d.suspended() {
		left := seconds(*limit) - d.now.Sub(d.next.StartTime.Time)
		if left <= 0 {
			fail(batchv1.JobReasonDeadlineExceeded, "Job was active longer than specified deadline")
			return
		}
		d.lookAgain(left)
	}
	if api.Indexed(d.job) {
		failed, all := d.failed.Len(), int(*spec.Completions)
		switch {
		case spec.MaxFailedIndexes != nil && failed > int(*spec.MaxFailedIndexes):
			fail(batchv1.JobReasonMaxFailedIndexesExceeded, "Job has exceeded the specified maximal number of failed indexes")
			return
		case failed > 0 && failed+d.completed.Len() >= all:
			fail(batchv1.JobReasonFailedIndexes, "Job has failed indexes")
			return
		}
		if message, met := metSuccessPolicy(spec.SuccessPolicy, d.completed); met {
			succeed(batchv1.JobReasonSuccessPolicy, message)
			return
		}
	}
	enough := int64(1)
	if spec.Completions != nil {
		enough = int64(*spec.Completions)
	}
	if d.successes() >= enough && len(d.active) == 0 {
		succeed(batchv1.JobReasonCompletionsReached, "Reached expected number of succeeded pods")
	}
}

// seconds is a duration that doesn't wrap around, however many seconds there are.
func seconds(n int64) time.Duration {
	return time.Duration(min(n, int64(1<<62)/int64(time.Second))) * time.Second
}

// finish sets Complete or Failed once every pod has ended and is counted.
func (d *decision) finish() {
	c := ending(&d.next)
	if c == nil || len(d.active)+d.terminating+len(d.tracked) > 0 {
		return
	}
	if u := d.next.UncountedTerminatedPods; u != nil {
		return
	}
	if c.Type == batchv1.JobFailureTarget {
		d.setCondition(batchv1.JobFailed, corev1.ConditionTrue, c.Reason, c.Message)
		d.tell(corev1.EventTypeWarning, c.Reason, c.Message)
		return
	}
	now := metav1.NewTime(d.now)
	d.next.CompletionTime = &now
	d.setCondition(batchv1.JobComplete, corev1.ConditionTrue, c.Reason, c.Message)
	if n := d.job.Spec.Completions; n != nil && d.next.Succeeded > *n {
		d.tell(corev1.EventTypeWarning, "TooManySucceededPods", "Too many succeeded pods running after completion count reached")
	}
	d.tell(corev1.EventTypeNormal, "Completed", "Job completed")
}

// ending is the condition by which the Job ends, nil while it goes on.
func ending(s *batchv1.JobStatus) *batchv1.JobCondition {
	for _, kind := range []batchv1.JobConditionType{batchv1.JobFailureTarget, batchv1.JobSuccessCriteriaMet} {
		if c := conditionOf(s, kind); c != nil && c.Status == corev1.ConditionTrue {
			return c
		}
	}
	return nil
}

func conditionOf(s *batchv1.JobStatus, kind batchv1.JobConditionType) *batchv1.JobCondition {
	for i := range s.Conditions {
		if s.Conditions[i].Type == kind {
			return &s.Conditions[i]
		}
	}
	return nil
}

func (d *decision) setCondition(kind batchv1.JobConditionType, status corev1.ConditionStatus, reason, message string) {
	now := metav1.NewTime(d.now)
	c := batchv1.JobCondition{Type: kind, Status: status, LastProbeTime: now, LastTransitionTime: now, Reason: reason, Message: message}
	if have := conditionOf(&d.next, kind); have != nil {
		*have = c
		return
	}
	d.next.Conditions = append(d.next.Conditions, c)
}

func (d *decision) tell(typ, reason, message string) {
	d.events = append(d.events, event{typ, reason, message})
}

func (d *decision) lookAgain(in time.Duration) {
	if in > 0 && (d.again == 0 || in < d.again) {
		d.again = in
	}
}
