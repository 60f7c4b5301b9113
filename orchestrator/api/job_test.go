package api

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const jobHead, jobTail = `{metadata: {name: x}, spec: {`, `template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}`

func aJob(t *testing.T, spec string) *batchv1.Job {
	k := kindOf(t, "Job")
	return made(k, decode(t, k, jobHead+spec+jobTail)).(*batchv1.Job)
}

func TestJobDefaultsAreAsDocumented(t *testing.T) {
	for spec, want := range map[string]string{
		"":                 "1 of 1, limit 6, NonIndexed, TerminatingOrFailed",
		"parallelism: 3, ": "3 of any, limit 6, NonIndexed, TerminatingOrFailed",
		"completions: 3, ": "1 of 3, limit 6, NonIndexed, TerminatingOrFailed",
		"completionMode: Indexed, completions: 2, backoffLimitPerIndex: 1, ": "1 of 2, limit 2147483647, Indexed, TerminatingOrFailed",
		"podFailurePolicy: {rules: []}, ":                                    "1 of 1, limit 6, NonIndexed, Failed",
	} {
		j := aJob(t, spec)
		completions := "any"
		if j.Spec.Completions != nil {
			completions = fmt.Sprint(*j.Spec.Completions)
		}
		got := fmt.Sprintf("%d of %s, limit %d, %s, %s", *j.Spec.Parallelism, completions, *j.Spec.BackoffLimit, *j.Spec.CompletionMode, *j.Spec.PodReplacementPolicy)
		if got != want || *j.Spec.Suspend || *j.Spec.ManualSelector {
			t.Errorf("%q: %s, want %s", spec, got, want)
		}
	}
}

func TestAJobSelectsItsOwnPods(t *testing.T) {
	k := kindOf(t, "Job")
	j := decode(t, k, jobHead+jobTail).(*batchv1.Job)
	j.Spec.Template.Labels = map[string]string{"app": "a"}
	k.Default(j)
	j.UID = "u"
	k.PrepareCreate(j)
	want := map[string]string{"app": "a", "batch.kubernetes.io/job-name": "x", "job-name": "x", "batch.kubernetes.io/controller-uid": "u", "controller-uid": "u"}
	if !equal(j.Spec.Template.Labels, want) || !equal(j.Labels, map[string]string{"app": "a"}) ||
		!equal(j.Spec.Selector, &metav1.LabelSelector{MatchLabels: map[string]string{"batch.kubernetes.io/controller-uid": "u"}}) {
		t.Errorf("%v %v %v", j.Labels, j.Spec.Template.Labels, j.Spec.Selector)
	}
	wantErrors(t, k.Validate(j))
	j.Spec.Template.Labels["job-name"] = "y"
	wantErrors(t, k.Validate(j), `spec.template.metadata.labels[job-name]: Invalid value: "y": must be 'x'`)
	j.Spec.Template.Labels["job-name"] = "x"
	j.Spec.Selector.MatchLabels["app"] = "a"
	if errs := k.Validate(j); len(errs) != 1 || errs[0].Field != "spec.selector" {
		t.Errorf("a selector of more than the Job's own labels: %v", errs)
	}
	manual := decode(t, k, jobHead+`manualSelector: true, selector: {matchLabels: {a: b}}, `+jobTail).(*batchv1.Job)
	manual.UID = "u"
	if errs := k.Validate(made(k, manual)); len(errs) != 1 || errs[0].Field != "spec.template.metadata.labels" {
		t.Errorf("a selector that its own pods don't match: %v", errs)
	}
}

func TestWhatAJobMayNotSay(t *testing.T) {
	const indexed = "completionMode: Indexed, completions: 5, "
	rule := func(text string) string { return "podFailurePolicy: {rules: [{" + text + "}]}, " }
	for spec, at := range map[string]string{
		"parallelism: -1, ": "spec.parallelism", "completions: -1, ": "spec.completions", "backoffLimit: -1, ": "spec.backoffLimit",
		"activeDeadlineSeconds: -1, ": "spec.activeDeadlineSeconds", "ttlSecondsAfterFinished: -1, ": "spec.ttlSecondsAfterFinished",
		"completionMode: Odd, ": "spec.completionMode", "completionMode: Indexed, parallelism: 2, ": "spec.completions",
		indexed + "parallelism: 100001, ": "spec.parallelism", "backoffLimitPerIndex: 1, ": "spec.backoffLimitPerIndex",
		indexed + "maxFailedIndexes: 1, ": "spec.backoffLimitPerIndex", indexed + "backoffLimitPerIndex: 1, maxFailedIndexes: 6, ": "spec.maxFailedIndexes",
		"completionMode: Indexed, completions: 100001, backoffLimitPerIndex: 1, ": "spec.maxFailedIndexes",
		"podReplacementPolicy: Odd, ": "spec.podReplacementPolicy", "podReplacementPolicy: TerminatingOrFailed, podFailurePolicy: {rules: []}, ": "spec.podReplacementPolicy",
		"managedBy: me, ": "spec.managedBy", "scheduling: {}, ": "spec.scheduling",
		rule("action: Odd, onPodConditions: [{type: A}]"): "spec.podFailurePolicy.rules[0].action", rule("action: Ignore"): "spec.podFailurePolicy.rules[0]",
		rule("action: FailIndex, onPodConditions: [{type: A}]"):                                        "spec.podFailurePolicy.rules[0].action",
		rule("action: Ignore, onExitCodes: {operator: In, values: [0]}"):                               "spec.podFailurePolicy.rules[0].onExitCodes.values[0]",
		rule("action: Ignore, onExitCodes: {operator: In, values: [2, 1]}"):                            "spec.podFailurePolicy.rules[0].onExitCodes.values",
		rule("action: Ignore, onExitCodes: {operator: In, values: [1, 1]}"):                            "spec.podFailurePolicy.rules[0].onExitCodes.values[1]",
		rule("action: Ignore, onExitCodes: {operator: In, values: []}"):                                "spec.podFailurePolicy.rules[0].onExitCodes.values",
		rule("action: Ignore, onExitCodes: {operator: Odd, values: [1]}"):                              "spec.podFailurePolicy.rules[0].onExitCodes.operator",
		rule("action: Ignore, onExitCodes: {containerName: no, operator: In, values: [1]}"):            "spec.podFailurePolicy.rules[0].onExitCodes.containerName",
		rule("action: Ignore, onExitCodes: {operator: In, values: [1]}, onPodConditions: [{type: A}]"): "spec.podFailurePolicy.rules[0]",
		"successPolicy: {rules: [{succeededCount: 1}]}, ":                                              "spec.successPolicy",
		indexed + "successPolicy: {rules: []}, ":                                                       "spec.successPolicy.rules",
		indexed + "successPolicy: {rules: [{}]}, ":                                                     "spec.successPolicy.rules[0]",
		indexed + "successPolicy: {rules: [{succeededCount: 0}]}, ":                                    "spec.successPolicy.rules[0].succeededCount",
		indexed + "successPolicy: {rules: [{succeededCount: 6}]}, ":                                    "spec.successPolicy.rules[0].succeededCount",
		indexed + "successPolicy: {rules: [{succeededIndexes: '0-1', succeededCount: 3}]}, ":           "spec.successPolicy.rules[0].succeededCount",
		indexed + "successPolicy: {rules: [{succeededIndexes: '5'}]}, ":                                "spec.successPolicy.rules[0].succeededIndexes",
		indexed + "successPolicy: {rules: [{succeededIndexes: '3,1'}]}, ":                              "spec.successPolicy.rules[0].succeededIndexes",
	} {
		if errs := problems(kindOf(t, "Job"), aJob(t, spec)); len(errs) != 1 || errs[0].Field != at {
			t.Errorf("%s: %v", spec, errs)
		}
	}
	k := kindOf(t, "Job")
	wantErrors(t, problems(k, made(k, decode(t, k, `{metadata: {name: x}, spec: {template: {spec: {containers: [{name: c, image: i}]}}}}`))),
		`spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"`)
	long := made(k, decode(t, k, strings.Replace(jobHead, "x", strings.Repeat("x", 62), 1)+"completionMode: Indexed, completions: 11, "+jobTail))
	if errs := problems(k, long); len(errs) != 1 || errs[0].Field != "metadata.name" {
		t.Errorf("a name that its last host name is too long for: %v", errs)
	}
}

func TestWhatOfAJobMayChange(t *testing.T) {
	const elastic = "completionMode: Indexed, completions: 3, parallelism: 3, "
	for name, c := range map[string]struct {
		spec string
		edit func(*batchv1.Job)
		ok   bool
	}{
		"parallelism":            {"", func(j *batchv1.Job) { *j.Spec.Parallelism = 9 }, true},
		"suspend":                {"", func(j *batchv1.Job) { *j.Spec.Suspend = true }, true},
		"backoffLimit":           {"", func(j *batchv1.Job) { *j.Spec.BackoffLimit = 9 }, true},
		"deadline":               {"", func(j *batchv1.Job) { j.Spec.ActiveDeadlineSeconds = ptr[int64](9) }, true},
		"ttl":                    {"", func(j *batchv1.Job) { j.Spec.TTLSecondsAfterFinished = ptr[int32](9) }, true},
		"maxFailedIndexes":       {"completionMode: Indexed, completions: 3, backoffLimitPerIndex: 1, ", func(j *batchv1.Job) { j.Spec.MaxFailedIndexes = ptr[int32](2) }, true},
		"completions":            {"", func(j *batchv1.Job) { *j.Spec.Completions = 9 }, false},
		"completions in tandem":  {elastic, func(j *batchv1.Job) { *j.Spec.Completions, *j.Spec.Parallelism = 5, 5 }, true},
		"completions alone":      {elastic, func(j *batchv1.Job) { *j.Spec.Completions = 5 }, false},
		"selector":               {"", func(j *batchv1.Job) { j.Spec.Selector = &metav1.LabelSelector{} }, false},
		"the image":              {"", func(j *batchv1.Job) { j.Spec.Template.Spec.Containers[0].Image = "b" }, false},
		"the image, suspended":   {"suspend: true, ", func(j *batchv1.Job) { j.Spec.Template.Spec.Containers[0].Image = "b" }, false},
		"nodes":                  {"", func(j *batchv1.Job) { j.Spec.Template.Spec.NodeSelector = map[string]string{"a": "b"} }, false},
		"nodes, suspended":       {"suspend: true, ", func(j *batchv1.Job) { j.Spec.Template.Spec.NodeSelector = map[string]string{"a": "b"} }, true},
		"tolerations, suspended": {"suspend: true, ", func(j *batchv1.Job) { j.Spec.Template.Spec.Tolerations = []corev1.Toleration{{Key: "a"}} }, true},
		"gates, suspended":       {"suspend: true, ", func(j *batchv1.Job) { j.Spec.Template.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "a"}} }, true},
		"labels, suspended":      {"suspend: true, ", func(j *batchv1.Job) { j.Spec.Template.Labels = map[string]string{"a": "b"} }, true},
		"completionMode":         {"completions: 3, ", func(j *batchv1.Job) { *j.Spec.CompletionMode = batchv1.IndexedCompletion }, false},
		"managedBy":              {"", func(j *batchv1.Job) { j.Spec.ManagedBy = ptr("a.b/c") }, false},
		"successPolicy":          {elastic, func(j *batchv1.Job) { j.Spec.SuccessPolicy = &batchv1.SuccessPolicy{} }, false},
		"podFailurePolicy":       {"", func(j *batchv1.Job) { j.Spec.PodFailurePolicy = &batchv1.PodFailurePolicy{} }, false},
		"backoffLimitPerIndex":   {elastic, func(j *batchv1.Job) { j.Spec.BackoffLimitPerIndex = ptr[int32](1) }, false},
	} {
		old := aJob(t, c.spec)
		j := old.DeepCopy()
		c.edit(j)
		if errs := kindOf(t, "Job").ValidateUpdate(j, old); (len(errs) == 0) != c.ok {
			t.Errorf("%s: %v", name, errs)
		}
	}
	old := aJob(t, "suspend: true, ")
	old.Status.Active = 1
	j := old.DeepCopy()
	j.Spec.Template.Spec.NodeSelector = map[string]string{"a": "b"}
	if errs := kindOf(t, "Job").ValidateUpdate(j, old); len(errs) == 0 {
		t.Error("the template changes while pods still run")
	}
}

func TestAnEndOfAJobIsNotTakenBack(t *testing.T) {
	k := kindOf(t, "Job")
	status := func(kinds ...batchv1.JobConditionType) *batchv1.Job {
		j := aJob(t, "")
		for _, kind := range kinds {
			j.Status.Conditions = append(j.Status.Conditions, batchv1.JobCondition{Type: kind, Status: corev1.ConditionTrue})
		}
		return j
	}
	for name, c := range map[string]struct {
		now, old *batchv1.Job
		ok       bool
	}{
		"complete":           {status(batchv1.JobSuccessCriteriaMet, batchv1.JobComplete), status(batchv1.JobSuccessCriteriaMet), true},
		"failed":             {status(batchv1.JobFailureTarget, batchv1.JobFailed), status(batchv1.JobFailureTarget), true},
		"no longer complete": {status(), status(batchv1.JobComplete), false},
		"both":               {status(batchv1.JobComplete, batchv1.JobFailed), status(batchv1.JobComplete), false},
		"neither nor":        {status(batchv1.JobFailureTarget, batchv1.JobSuccessCriteriaMet), status(), false},
	} {
		if errs := k.Status.ValidateUpdate(c.now, c.old); (len(errs) == 0) != c.ok {
			t.Errorf("%s: %v", name, errs)
		}
	}
}

func TestJobRows(t *testing.T) {
	start, end := metav1.NewTime(time.Unix(1000, 0)), metav1.NewTime(time.Unix(1090, 0))
	for name, c := range map[string]struct {
		spec string
		edit func(*batchv1.Job)
		want string
	}{
		"runs":       {"completions: 3, ", func(j *batchv1.Job) { j.Status.Succeeded = 1 }, "x | Running | 1/3 | "},
		"work queue": {"parallelism: 3, ", func(j *batchv1.Job) {}, "x | Running | 0/1 of 3 | "},
		"suspended": {"", func(j *batchv1.Job) {
			j.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobSuspended, Status: corev1.ConditionTrue}}
		}, "x | Suspended | 0/1 | "},
		"complete": {"", func(j *batchv1.Job) {
			j.Status.Succeeded, j.Status.StartTime, j.Status.CompletionTime = 1, &start, &end
			j.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobSuccessCriteriaMet, Status: corev1.ConditionTrue}, {Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
		}, "x | Complete | 1/1 | 90s"},
		"failed": {"", func(j *batchv1.Job) {
			j.Status.StartTime = &start
			j.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobFailed, Status: corev1.ConditionTrue, LastTransitionTime: end}}
		}, "x | Failed | 0/1 | 90s"},
	} {
		j := aJob(t, c.spec)
		c.edit(j)
		if got := cells(kindOf(t, "Job").Row(j)[:4]); got != c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestWhatACronJobMayNotSay(t *testing.T) {
	k := kindOf(t, "CronJob")
	cron := func(name, spec, job string) Object {
		return made(k, decode(t, k, `{metadata: {name: `+name+`}, spec: {`+spec+`, jobTemplate: {spec: {`+job+`template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}}}`))
	}
	for spec, at := range map[string]string{
		"schedule: ''": "spec.schedule", "schedule: '* * * *'": "spec.schedule", "schedule: 'TZ=UTC * * * * *'": "spec.schedule", "schedule: 'CRON_TZ=UTC * * * * *'": "spec.schedule",
		"schedule: '@hourly', timeZone: Mars/Olympus": "spec.timeZone", "schedule: '@hourly', timeZone: ''": "spec.timeZone", "schedule: '@hourly', timeZone: local": "spec.timeZone",
		"schedule: '@hourly', startingDeadlineSeconds: -1": "spec.startingDeadlineSeconds", "schedule: '@hourly', concurrencyPolicy: Odd": "spec.concurrencyPolicy",
		"schedule: '@hourly', successfulJobsHistoryLimit: -1": "spec.successfulJobsHistoryLimit", "schedule: '@hourly', failedJobsHistoryLimit: -1": "spec.failedJobsHistoryLimit",
	} {
		if errs := problems(k, cron("x", spec, "")); len(errs) != 1 || errs[0].Field != at {
			t.Errorf("%s: %v", spec, errs)
		}
	}
	for job, at := range map[string]string{
		"completions: -1, ": "spec.jobTemplate.spec.completions", "manualSelector: true, ": "spec.jobTemplate.spec.manualSelector",
		"selector: {matchLabels: {a: b}}, ": "spec.jobTemplate.spec.selector",
	} {
		if errs := problems(k, cron("x", "schedule: '@hourly'", job)); len(errs) != 1 || errs[0].Field != at {
			t.Errorf("%s: %v", job, errs)
		}
	}
	if errs := problems(k, cron(strings.Repeat("x", 53), "schedule: '@hourly'", "")); len(errs) != 1 || errs[0].Field != "metadata.name" {
		t.Errorf("a long name: %v", errs)
	}
	if got := cells(k.Row(cron("x", "schedule: '@hourly', timeZone: Europe/Berlin", ""))[:6]); got != "x | @hourly | Europe/Berlin | False | 0 | <none>" {
		t.Errorf("row %q", got)
	}
}

// Indexes agree with a map, and what they print they read.
func TestIndexesAreASet(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var s, other Indexes
		want, wantOther := map[int]bool{}, map[int]bool{}
		for range 4 {
			var more []int
			for range rng.IntN(8) {
				more = append(more, rng.IntN(30))
				want[more[len(more)-1]] = true
			}
			s = s.Union(more...)
			n := rng.IntN(30)
			other, wantOther[n] = other.Union(n), true
		}
		again, err := ParseIndexes(s.String(), 30)
		if err != nil || !equal(again, s) || s.Len() != len(want) {
			t.Fatalf("%q: %v %v", s, again, err)
		}
		common := 0
		for i := range 30 {
			if s.Has(i) != want[i] {
				t.Fatalf("%q has %d: %v", s, i, s.Has(i))
			}
			if want[i] && wantOther[i] {
				common++
			}
		}
		if s.Common(other) != common || s.Below(10).Union(10).Has(11) {
			t.Fatalf("%q and %q have %d in common", s, other, s.Common(other))
		}
	}
	if got := (Indexes{{1, 1}, {3, 5}, {7, 8}}).String(); got != "1,3-5,7,8" {
		t.Errorf("printed %q", got)
	}
	for _, text := range []string{"a", "1-", "3-1", "2,1", "1,1", "-1", "10", "1,,2", "1-1"} {
		if _, err := ParseIndexes(text, 10); err == nil {
			t.Errorf("%q is read", text)
		}
	}
}
