package api

import (
	"fmt"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/pintle/pintle/orchestrator/api/schedule"
)

// maxCronJobName leaves room for the "-" and the minutes that the names of its Jobs end in.
const maxCronJobName = 52

func cronJobKind() *Kind {
	return &Kind{
		GroupVersionKind: batchv1.SchemeGroupVersion.WithKind("CronJob"),
		Resource:         "cronjobs", Singular: "cronjob", ShortNames: []string{"cj"}, Categories: []string{"all"}, Namespaced: true,
		New:     func() Object { return &batchv1.CronJob{} },
		NewList: func() runtime.Object { return &batchv1.CronJobList{} },
		Default: of(func(c *batchv1.CronJob) {
			setZero(&c.Spec.ConcurrencyPolicy, batchv1.AllowConcurrent)
			setDefault(&c.Spec.Suspend, false)
			setDefault(&c.Spec.SuccessfulJobsHistoryLimit, 3)
			setDefault(&c.Spec.FailedJobsHistoryLimit, 1)
			defaultJobSpec(&c.Spec.JobTemplate.Spec)
		}),
		PrepareCreate: of(func(c *batchv1.CronJob) { c.Status, c.Generation = batchv1.CronJobStatus{}, 1 }),
		PrepareUpdate: pair(func(c, old *batchv1.CronJob) {
			c.Status = old.Status
			bump(c, old, c.Spec, old.Spec)
		}),
		Validate: check(validateCronJob),
		Status:   &Status{PrepareUpdate: pair(func(c, old *batchv1.CronJob) { c.Spec, c.Generation = old.Spec, old.Generation })},
		Columns: []metav1.TableColumnDefinition{
			nameColumn(), column("Schedule", "The schedule in Cron format.", 0), column("Timezone", "The time zone of the schedule.", 0),
			column("Suspend", "Whether subsequent executions are suspended.", 0), typed(column("Active", "How many Jobs run.", 0), "integer"),
			column("Last Schedule", "When a Job was last scheduled.", 0), ageColumn(),
			column("Containers", "Names of each container in the template.", 1), column("Images", "Images referenced by each container in the template.", 1),
			column("Selector", "Label selector for pods.", 1),
		},
		Row: row(func(c *batchv1.CronJob) []any {
			var last any = "<none>"
			if t := c.Status.LastScheduleTime; t != nil {
				last = *t
			}
			suspend := "<unset>"
			if s := c.Spec.Suspend; s != nil {
				suspend = map[bool]string{true: "True", false: "False"}[*s]
			}
			template := &c.Spec.JobTemplate.Spec
			names, images := containerCells(template.Template.Spec.Containers)
			return []any{c.Name, c.Spec.Schedule, orNone(deref(c.Spec.TimeZone)), suspend, int64(len(c.Status.Active)), last, c.CreationTimestamp,
				names, images, metav1.FormatLabelSelector(template.Selector)}
		}),
	}
}

func validateCronJob(c *batchv1.CronJob) (errs field.ErrorList) {
	s, path := &c.Spec, field.NewPath("spec")
	if n := len(c.Name); n > maxCronJobName {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), c.Name, fmt.Sprintf("must be no more than %d characters", maxCronJobName)))
	}
	zone := ""
	if s.TimeZone != nil {
		zone = *s.TimeZone
		at := path.Child("timeZone")
		switch _, err := schedule.Location(zone); {
		case zone == "":
			errs = append(errs, field.Invalid(at, zone, "timeZone must be nil or non-empty string"))
		case strings.EqualFold(zone, "Local"):
			errs = append(errs, field.Invalid(at, zone, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"))
		case err != nil:
			errs = append(errs, field.Invalid(at, zone, err.Error()))
		}
	}
	switch at := path.Child("schedule"); {
	case s.Schedule == "":
		errs = append(errs, field.Required(at, ""))
	case strings.Contains(s.Schedule, "TZ"):
		errs = append(errs, field.Invalid(at, s.Schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"))
	default:
		if _, err := schedule.Parse(s.Schedule, ""); err != nil {
			errs = append(errs, field.Invalid(at, s.Schedule, err.Error()))
		}
	}
	if d := s.StartingDeadlineSeconds; d != nil {
		errs = append(errs, nonNegative(*d, path.Child("startingDeadlineSeconds"))...)
	}
	errs = append(errs, oneOf(s.ConcurrencyPolicy, []batchv1.ConcurrencyPolicy{batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent}, path.Child("concurrencyPolicy"))...)
	for child, n := range inOrder(map[string]*int32{"successfulJobsHistoryLimit": s.SuccessfulJobsHistoryLimit, "failedJobsHistoryLimit": s.FailedJobsHistoryLimit}) {
		if n != nil {
			errs = append(errs, nonNegative(int64(*n), path.Child(child))...)
		}
	}
	return append(errs, validateCronJobTemplate(c, path.Child("jobTemplate"))...)
}

func validateCronJobTemplate(c *batchv1.CronJob, path *field.Path) field.ErrorList {
	t := &c.Spec.JobTemplate
	errs := validateLabels(t.Labels, path.Child("metadata", "labels"))
	errs = append(errs, apivalidation.ValidateAnnotations(t.Annotations, path.Child("metadata", "annotations"))...)
	errs = append(errs, validateJobSpec(&t.Spec, path.Child("spec"))...)
	if s := t.Spec.Selector; s != nil {
		errs = append(errs, field.Invalid(path.Child("spec", "selector"), s, "`selector` will be auto-generated"))
	}
	if m := t.Spec.ManualSelector; m != nil && *m {
		errs = append(errs, field.NotSupported(path.Child("spec", "manualSelector"), *m, []string{"nil", "false"}))
	}
	if n := t.Spec.Completions; n != nil && *n > 0 && t.Spec.CompletionMode != nil && *t.Spec.CompletionMode == batchv1.IndexedCompletion {
		host := fmt.Sprintf("%s-%08d-%d", c.Name, 0, *n-1) // of the last index of a Job
		errs = append(errs, invalid(validation.IsDNS1123Label(host), field.NewPath("metadata", "name"), host)...)
	}
	return errs
}
