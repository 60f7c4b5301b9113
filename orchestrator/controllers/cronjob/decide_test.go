package cronjob

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

func at(clock string) time.Time {
	t, err := time.Parse("2006-01-02 15:04:05", "2026-03-04 "+clock)
	if err != nil {
		panic(err)
	}
	return t
}

func aCron(schedule string, edit ...func(*batchv1.CronJob)) *batchv1.CronJob {
	c := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "c", UID: "c-uid", CreationTimestamp: metav1.NewTime(at("08:00:00"))},
		Spec: batchv1.CronJobSpec{Schedule: schedule, ConcurrencyPolicy: batchv1.AllowConcurrent, SuccessfulJobsHistoryLimit: ptr.To[int32](3), FailedJobsHistoryLimit: ptr.To[int32](1),
			JobTemplate: batchv1.JobTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"k": "v"}}}}}
	for _, f := range edit {
		f(c)
	}
	return c
}

func last(clock string) func(*batchv1.CronJob) {
	return func(c *batchv1.CronJob) { c.Status.LastScheduleTime = ptr.To(metav1.NewTime(at(clock))) }
}
func deadline(seconds int64) func(*batchv1.CronJob) {
	return func(c *batchv1.CronJob) { c.Spec.StartingDeadlineSeconds = &seconds }
}
func policy(p batchv1.ConcurrencyPolicy) func(*batchv1.CronJob) {
	return func(c *batchv1.CronJob) { c.Spec.ConcurrencyPolicy = p }
}
func zone(name string) func(*batchv1.CronJob) {
	return func(c *batchv1.CronJob) { c.Spec.TimeZone = &name }
}
func running(jobs ...*batchv1.Job) func(*batchv1.CronJob) {
	return func(c *batchv1.CronJob) {
		for _, j := range jobs {
			c.Status.Active = append(c.Status.Active, reference(j))
		}
	}
}

// aJob is the one of a time of day; ended says how, "" that it runs.
func aJob(clock string, ended batchv1.JobConditionType) *batchv1.Job {
	name := fmt.Sprintf("c-%d", at(clock).Unix()/60)
	j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), CreationTimestamp: metav1.NewTime(at(clock)),
		Annotations: map[string]string{batchv1.CronJobScheduledTimestampAnnotation: at(clock).Format(time.RFC3339)}}}
	if ended != "" {
		j.Status.Conditions = []batchv1.JobCondition{{Type: ended, Status: corev1.ConditionTrue}}
	}
	return j
}

func reasons(p plan) (out []string) {
	for _, e := range p.events {
		out = append(out, e.reason)
	}
	return out
}

func TestWhatIsDueIsStarted(t *testing.T) {
	hour8, hour9 := aJob("08:00:00", ""), aJob("09:00:00", "")
	for name, c := range map[string]struct {
		cron   *batchv1.CronJob
		jobs   []*batchv1.Job
		now    string
		due    string // "": nothing is started
		again  time.Duration
		events []string
		remove []string
	}{
		"not yet":                       {cron: aCron("0 * * * *"), now: "08:59:00", again: time.Minute},
		"due":                           {cron: aCron("0 * * * *"), now: "09:00:00", due: "09:00:00", again: atLeast},
		"a moment late":                 {cron: aCron("*/2 * * * *", last("08:58:00")), now: "09:00:01", due: "09:00:00", again: 119 * time.Second},
		"started already":               {cron: aCron("0 * * * *", last("09:00:00")), jobs: []*batchv1.Job{hour9}, now: "09:00:02", again: atLeast},
		"started, the status unwritten": {cron: aCron("0 * * * *", last("08:00:00")), jobs: []*batchv1.Job{hour9}, now: "09:00:02", again: atLeast},
		"as documented: down, no deadline, the newest of too many": {cron: aCron("* * * * *", last("08:29:00")), now: "10:21:00", due: "10:21:00",
			again: time.Minute, events: []string{"TooManyMissedTimes"}},
		"as documented: down, a deadline of 200 s": {cron: aCron("* * * * *", last("08:29:00"), deadline(200)), now: "10:21:30", due: "10:21:00", again: 30 * time.Second},
		"too late for the deadline":                {cron: aCron("0 9 * * *", deadline(60)), now: "09:02:00", again: atLeast},
		"in time for the deadline":                 {cron: aCron("0 9 * * *", deadline(120)), now: "09:02:00", due: "09:00:00", again: atLeast},
		"suspended":                                {cron: aCron("* * * * *", func(c *batchv1.CronJob) { c.Spec.Suspend = ptr.To(true) }), now: "09:00:00"},
		"Forbid, one runs": {cron: aCron("0 * * * *", policy(batchv1.ForbidConcurrent), last("08:00:00"), running(hour8)), jobs: []*batchv1.Job{hour8}, now: "09:00:00",
			again: atLeast, events: []string{"JobAlreadyActive"}},
		"Forbid, it has ended since": {cron: aCron("0 * * * *", policy(batchv1.ForbidConcurrent), last("08:00:00"), running(hour8)), jobs: []*batchv1.Job{aJob("08:00:00", batchv1.JobComplete)},
			now: "09:20:00", due: "09:00:00", again: atLeast, events: []string{"SawCompletedJob"}},
		"Replace, one runs": {cron: aCron("0 * * * *", policy(batchv1.ReplaceConcurrent), last("08:00:00"), running(hour8)), jobs: []*batchv1.Job{hour8}, now: "09:00:00",
			due: "09:00:00", again: atLeast, remove: []string{hour8.Name}},
		"Allow, one runs":                     {cron: aCron("0 * * * *", last("08:00:00"), running(hour8)), jobs: []*batchv1.Job{hour8}, now: "09:00:00", due: "09:00:00", again: atLeast},
		"one that ran is gone":                {cron: aCron("0 * * * *", last("08:00:00"), running(hour8)), now: "08:30:00", again: atLeast, events: []string{"MissingJob"}},
		"it never fires":                      {cron: aCron("0 0 31 2 *"), now: "09:00:00"},
		"every second is every minute":        {cron: aCron("@every 1s", last("09:00:00")), now: "09:00:30", again: 30 * time.Second},
		"every second, in the next minute":    {cron: aCron("@every 1s", last("09:00:00")), now: "09:01:00", due: "09:01:00", again: time.Minute},
		"every 90 minutes, between two":       {cron: aCron("@every 90m", last("08:00:00")), now: "09:27:00", again: 3 * time.Minute},
		"every 90 minutes, due":               {cron: aCron("@every 90m", last("08:00:00")), now: "09:30:04", due: "09:30:00", again: atLeast},
		"the clock was set back by minutes":   {cron: aCron("*/5 * * * *", last("09:00:00")), now: "08:50:00", again: atLeast},
		"the clock was set back by hours":     {cron: aCron("*/5 * * * *", last("12:00:00")), now: "09:00:00", due: "09:00:00", again: atLeast},
		"the clock was set forward":           {cron: aCron("0 * * * *", last("09:00:00")), now: "13:10:00", due: "13:00:00", again: atLeast},
		"in a time zone":                      {cron: aCron("0 10 * * *", zone("Europe/Berlin")), now: "09:00:00", due: "09:00:00", again: atLeast},
		"in a time zone of half hours":        {cron: aCron("30 14 * * *", zone("Asia/Kolkata")), now: "09:00:00", due: "09:00:00", again: atLeast},
		"a time zone that this machine lacks": {cron: aCron("0 10 * * *", zone("Mars/Olympus")), now: "09:00:00", events: []string{"UnknownTimeZone"}},
		"a schedule from before validation":   {cron: aCron("every day"), now: "09:00:00", events: []string{"UnparseableSchedule"}},
		"a Job of its that it did not start":  {cron: aCron("0 9 * * *"), jobs: []*batchv1.Job{{ObjectMeta: metav1.ObjectMeta{Name: "x", UID: "x"}}}, now: "08:58:00", again: 2 * time.Minute, events: []string{"UnexpectedJob"}},
		"a Job that a person started from it": {cron: aCron("0 9 * * *"), jobs: []*batchv1.Job{{ObjectMeta: metav1.ObjectMeta{Name: "x", UID: "x", Annotations: map[string]string{manually: "manual"}}}}, now: "08:58:00", again: 2 * time.Minute},
		"it is being deleted":                 {cron: aCron("* * * * *", func(c *batchv1.CronJob) { c.DeletionTimestamp = ptr.To(metav1.NewTime(at("08:30:00"))) }), now: "09:00:00"},
	} {
		t.Run(name, func(t *testing.T) {
			p := decide(c.cron, c.jobs, at(c.now))
			due := ""
			if p.create != nil {
				due = p.status.LastScheduleTime.UTC().Format("15:04:05")
				if want := fmt.Sprintf("c-%d", at(due).Unix()/60); p.create.Name != want {
					t.Errorf("named %s, want %s", p.create.Name, want)
				}
			}
			var remove []string
			for _, j := range p.remove {
				remove = append(remove, j.Name)
			}
			if due != c.due || p.again != c.again || !slices.Equal(reasons(p), c.events) || !slices.Equal(remove, c.remove) {
				t.Errorf("starts %q, again in %v, tells %v, removes %v", due, p.again, reasons(p), remove)
			}
		})
	}
}

func TestAJobIsMadeOfTheTemplate(t *testing.T) {
	j := decide(aCron("0 10 * * *", zone("Europe/Berlin")), nil, at("09:00:00")).create
	if j.Labels["a"] != "b" || j.Annotations["k"] != "v" || j.Annotations[batchv1.CronJobScheduledTimestampAnnotation] != "2026-03-04T10:00:00+01:00" {
		t.Errorf("%v %v", j.Labels, j.Annotations)
	}
	if ref := metav1.GetControllerOf(j); ref == nil || ref.UID != "c-uid" || ref.Kind != "CronJob" {
		t.Errorf("%v", j.OwnerReferences)
	}
}

func TestOnlyTheNewestEndedJobsAreKept(t *testing.T) {
	var jobs []*batchv1.Job
	for _, clock := range []string{"08:05:00", "08:01:00", "08:04:00", "08:02:00", "08:03:00"} {
		jobs = append(jobs, aJob(clock, batchv1.JobComplete))
	}
	jobs = append(jobs, aJob("08:06:00", batchv1.JobFailed), aJob("08:07:00", batchv1.JobFailed), aJob("07:00:00", ""))
	p := decide(aCron("0 0 * * *"), jobs, at("09:00:00"))
	var removed []string
	for _, j := range p.remove {
		removed = append(removed, j.CreationTimestamp.UTC().Format("15:04"))
	}
	slices.Sort(removed)
	if got := strings.Join(removed, " "); got != "08:01 08:02 08:06" {
		t.Errorf("removed %s", got)
	}
	if len(p.status.Active) != 1 {
		t.Errorf("active: %v", p.status.Active)
	}
}
