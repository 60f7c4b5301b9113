package cronjob

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/api/schedule"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

const (
	manyMissed = 100
	// atLeast is how often a CronJob is looked at: clocks are set, and machines sleep.
	atLeast = 5 * time.Minute
	// setBack is how far a clock may be set back for what it has started to stay started.
	setBack = time.Hour
	// manually marks Jobs that a person started: kubectl create job --from.
	manually = "cronjob.kubernetes.io/instantiate"
)

// plan is what to do, in this order.
type plan struct {
	events []event
	remove []*batchv1.Job
	create *batchv1.Job // nil: nothing is due
	status batchv1.CronJobStatus
	again  time.Duration // 0: nothing will ever be due
}

type event struct{ typ, reason, message string }

// decision is a plan in the making.
type decision struct {
	plan
	cron *batchv1.CronJob
	jobs []*batchv1.Job
	now  time.Time
}

// decide plans from the Jobs that the CronJob controls.
func decide(c *batchv1.CronJob, jobs []*batchv1.Job, now time.Time) plan {
	d := &decision{cron: c, jobs: jobs, now: now, plan: plan{status: *c.Status.DeepCopy()}}
	d.observe()
	if c.DeletionTimestamp != nil {
		return d.plan
	}
	d.forget()
	if c.Spec.Suspend == nil || !*c.Spec.Suspend {
		d.start()
	}
	return d.plan
}

func (d *decision) warn(reason, format string, args ...any) {
	d.events = append(d.events, event{corev1.EventTypeWarning, reason, fmt.Sprintf(format, args...)})
}

func (d *decision) tell(reason, format string, args ...any) {
	d.events = append(d.events, event{corev1.EventTypeNormal, reason, fmt.Sprintf(format, args...)})
}

// observe keeps the list of Jobs that run.
func (d *decision) observe() {
	byUID := map[types.UID]*batchv1.Job{}
	for _, j := range d.jobs {
		byUID[j.UID] = j
	}
	d.status.Active = nil
	listed := map[types.UID]bool{}
	for _, ref := range d.cron.Status.Active {
		j := byUID[ref.UID]
		switch {
		case j == nil:
			d.tell("MissingJob", "Active job went missing: %v", ref.Name)
			continue
		case api.JobFinished(j) != nil:
			d.tell("SawCompletedJob", "Saw completed job: %s, condition: %v", j.Name, api.JobFinished(j).Type)
		default:
			d.status.Active = append(d.status.Active, ref)
		}
		listed[ref.UID] = true
	}
	for _, j := range d.jobs {
		if t := j.Status.CompletionTime; t != nil && api.JobCondition(j, batchv1.JobComplete) != nil &&
			(d.status.LastSuccessfulTime == nil || t.After(d.status.LastSuccessfulTime.Time)) {
			d.status.LastSuccessfulTime = t
		}
		if listed[j.UID] || api.JobFinished(j) != nil || j.Annotations[manually] != "" {
			continue
		}
		if j.Annotations[batchv1.CronJobScheduledTimestampAnnotation] != "" { // started, and the list wasn't written
			d.status.Active = append(d.status.Active, reference(j))
		} else {
			d.warn("UnexpectedJob", "Saw a job that the controller did not create or forgot: %s", j.Name)
		}
	}
}

func reference(j *batchv1.Job) corev1.ObjectReference {
	return corev1.ObjectReference{APIVersion: batchv1.SchemeGroupVersion.String(), Kind: "Job", Namespace: j.Namespace, Name: j.Name, UID: j.UID,
		ResourceVersion: j.ResourceVersion}
}

// forget removes the oldest of the Jobs that have ended.
func (d *decision) forget() {
	for kind, limit := range map[batchv1.JobConditionType]*int32{batchv1.JobComplete: d.cron.Spec.SuccessfulJobsHistoryLimit, batchv1.JobFailed: d.cron.Spec.FailedJobsHistoryLimit} {
		if limit == nil {
			continue
		}
		var ended []*batchv1.Job
		for _, j := range d.jobs {
			if c := api.JobFinished(j); c != nil && c.Type == kind && j.DeletionTimestamp == nil {
				ended = append(ended, j)
			}
		}
		slices.SortFunc(ended, func(a, b *batchv1.Job) int {
			return cmp.Or(startOf(a).Compare(startOf(b)), cmp.Compare(a.Name, b.Name))
		})
		d.remove = append(d.remove, ended[:max(0, len(ended)-int(*limit))]...)
	}
}

func startOf(j *batchv1.Job) time.Time {
	if j.Status.StartTime != nil {
		return j.Status.StartTime.Time
	}
	return j.CreationTimestamp.Time
}

// start plans the Job that is due, and when to look again.
func (d *decision) start() {
	spec := &d.cron.Spec
	zone := ""
	if spec.TimeZone != nil {
		zone = *spec.TimeZone
	}
	location, err := schedule.Location(zone)
	if err != nil { // the zones of this machine are others than those of the one that took the object
		d.warn("UnknownTimeZone", "invalid timeZone: %q: %s", zone, err)
		return
	}
	times, err := schedule.Parse(spec.Schedule, zone)
	if err != nil {
		d.warn("UnparseableSchedule", "unparseable schedule: %q : %s", spec.Schedule, err)
		return
	}
	from := d.since()
	due, ok := d.due(times, from)
	d.lookAgain(times, from, due)
	if !ok {
		return
	}
	if d.cron.Spec.ConcurrencyPolicy == batchv1.ForbidConcurrent && len(d.status.Active) > 0 {
		if !d.started(due) {
			d.tell("JobAlreadyActive", "Not starting job because prior execution is running and concurrency policy is Forbid")
			return
		}
	}
	d.status.LastScheduleTime = &metav1.Time{Time: due}
	if d.started(due) {
		return
	}
	if d.cron.Spec.ConcurrencyPolicy == batchv1.ReplaceConcurrent {
		for _, j := range d.jobs {
			if slices.ContainsFunc(d.status.Active, func(r corev1.ObjectReference) bool { return r.UID == j.UID }) && j.DeletionTimestamp == nil {
				d.remove = append(d.remove, j)
			}
		}
		d.status.Active = nil
	}
	d.create = d.jobAt(due, location)
}

// since is the time up to which everything that was due has been started.
func (d *decision) since() time.Time {
	last := d.status.LastScheduleTime
	switch {
	case last == nil:
		return d.cron.CreationTimestamp.Time
	case last.Sub(d.now) > setBack:
		return d.now.Add(-atLeast) // it was looked at since then
	}
	return last.Time
}

// due is the time for which a Job shall be started now.
func (d *decision) due(times schedule.Schedule, from time.Time) (time.Time, bool) {
	if limit := d.cron.Spec.StartingDeadlineSeconds; limit != nil {
		if earliest := d.now.Add(-time.Duration(min(*limit, int64(1<<32))) * time.Second); earliest.After(from) {
			from = earliest.Add(-time.Nanosecond) // what was due just then may still start
		}
	}
	if !from.Before(d.now) {
		return time.Time{}, false
	}
	due, missed, ok := times.Latest(from, d.now, manyMissed)
	if missed > manyMissed {
		d.warn("TooManyMissedTimes", "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew")
	}
	if last := d.status.LastScheduleTime; ok && last != nil && minute(last.Time) == minute(due) {
		return due, false // names tell minutes apart
	}
	return due, ok
}

func (d *decision) lookAgain(times schedule.Schedule, from, due time.Time) {
	next, ok := times.After(d.now, from)
	if ok && !due.IsZero() && minute(next) == minute(due) {
		next, ok = times.After(due.Truncate(time.Minute).Add(time.Minute-time.Nanosecond), from)
	}
	if ok {
		d.again = min(max(next.Sub(d.now), time.Millisecond), atLeast)
	}
}

func minute(t time.Time) int64 { return t.Unix() / 60 }

func (d *decision) nameAt(due time.Time) string {
	return d.cron.Name + "-" + strconv.FormatInt(minute(due), 10)
}

// started says whether the Job of that time is there.
func (d *decision) started(due time.Time) bool {
	return slices.ContainsFunc(d.jobs, func(j *batchv1.Job) bool { return j.Name == d.nameAt(due) })
}

func (d *decision) jobAt(due time.Time, location *time.Location) *batchv1.Job {
	t := d.cron.Spec.JobTemplate.DeepCopy()
	annotations := maps.Clone(t.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[batchv1.CronJobScheduledTimestampAnnotation] = due.In(location).Format(time.RFC3339)
	return &batchv1.Job{TypeMeta: metav1.TypeMeta{APIVersion: batchv1.SchemeGroupVersion.String(), Kind: "Job"},
		ObjectMeta: metav1.ObjectMeta{Namespace: d.cron.Namespace, Name: d.nameAt(due), Labels: t.Labels, Annotations: annotations, Finalizers: t.Finalizers,
			OwnerReferences: []metav1.OwnerReference{reconcile.ControllerRef(d.cron, kind())}},
		Spec: t.Spec}
}
