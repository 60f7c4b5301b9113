package api

import (
	"fmt"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Limits of a Job, as Kubernetes documents them.
const (
	maxJobParallelism   = 100_000 // of an Indexed Job
	maxFailedIndexes    = 100_000
	fewCompletions      = 100_000 // up to here maxFailedIndexes needs no bound
	fewFailedIndexes    = 10_000
	maxFailureRules     = 20
	maxExitCodes        = 255
	maxPodConditions    = 20
	maxManagedBy        = 63
	maxSuccessRules     = 20
	maxSucceededIndexes = 64 * 1024 // bytes
)

func validateJob(j *batchv1.Job) field.ErrorList {
	spec := field.NewPath("spec")
	errs := validateJobSpec(&j.Spec, spec)
	switch selector := j.Spec.Selector; {
	case selector == nil && j.UID == "": // not yet made
	case selector == nil:
		errs = append(errs, field.Required(spec.Child("selector"), ""))
	default:
		errs = append(errs, validateJobSelector(j, spec)...)
	}
	if Indexed(j) && j.Spec.Completions != nil && *j.Spec.Completions > 0 {
		host := fmt.Sprintf("%s-%d", j.Name, *j.Spec.Completions-1)
		errs = append(errs, invalid(validation.IsDNS1123Label(host), field.NewPath("metadata", "name"), host)...)
	}
	return errs
}

func validateJobSelector(j *batchv1.Job, spec *field.Path) field.ErrorList {
	errs := validateSelector(j.Spec.Selector, spec.Child("selector"))
	selector, err := metav1.LabelSelectorAsSelector(j.Spec.Selector)
	if err != nil {
		return errs
	}
	at := spec.Child("template", "metadata", "labels")
	if manual := j.Spec.ManualSelector; manual != nil && *manual {
		if selector.Empty() {
			errs = append(errs, field.Invalid(spec.Child("selector"), j.Spec.Selector, "empty selector is invalid for job"))
		}
	} else {
		want := jobLabels(j)
		if !selector.Matches(labels.Set(want)) {
			errs = append(errs, field.Invalid(spec.Child("selector"), j.Spec.Selector, "`selector` not auto-generated"))
		}
		for key, value := range inOrder(want) {
			if got, ok := j.Spec.Template.Labels[key]; !ok {
				errs = append(errs, field.Required(at.Key(key), fmt.Sprintf("must be '%s'", value)))
			} else if got != value {
				errs = append(errs, field.Invalid(at.Key(key), got, fmt.Sprintf("must be '%s'", value)))
			}
		}
	}
	if !selector.Matches(labels.Set(j.Spec.Template.Labels)) {
		errs = append(errs, field.Invalid(at, j.Spec.Template.Labels, "`selector` does not match template `labels`"))
	}
	return errs
}

// validateJobSpec checks what a Job and a CronJob's template have in common.
func validateJobSpec(s *batchv1.JobSpec, path *field.Path) (errs field.ErrorList) {
	for child, value := range inOrder(map[string]*int32{"parallelism": s.Parallelism, "completions": s.Completions, "backoffLimit": s.BackoffLimit,
		"backoffLimitPerIndex": s.BackoffLimitPerIndex, "maxFailedIndexes": s.MaxFailedIndexes, "ttlSecondsAfterFinished": s.TTLSecondsAfterFinished}) {
		if value != nil {
			errs = append(errs, nonNegative(int64(*value), path.Child(child))...)
		}
	}
	if d := s.ActiveDeadlineSeconds; d != nil {
		errs = append(errs, nonNegative(*d, path.Child("activeDeadlineSeconds"))...)
	}
	if s.Scheduling != nil {
		errs = append(errs, unsupported(path.Child("scheduling"), "write a PodGroup and name it in template.spec.schedulingGroup"))
	}
	if m := s.CompletionMode; m != nil {
		errs = append(errs, oneOf(*m, []batchv1.CompletionMode{batchv1.NonIndexedCompletion, batchv1.IndexedCompletion}, path.Child("completionMode"))...)
	}
	indexed := s.CompletionMode != nil && *s.CompletionMode == batchv1.IndexedCompletion
	if indexed {
		errs = append(errs, validateIndexedJob(s, path)...)
	}
	if s.BackoffLimitPerIndex != nil {
		if !indexed {
			errs = append(errs, field.Invalid(path.Child("backoffLimitPerIndex"), *s.BackoffLimitPerIndex, "requires indexed completion mode"))
		}
		if s.Template.Spec.RestartPolicy != corev1.RestartPolicyNever {
			errs = append(errs, field.Invalid(path.Child("template", "spec", "restartPolicy"), s.Template.Spec.RestartPolicy,
				fmt.Sprintf("must be %q when backoffLimitPerIndex is specified", corev1.RestartPolicyNever)))
		}
	} else if s.MaxFailedIndexes != nil {
		errs = append(errs, field.Required(path.Child("backoffLimitPerIndex"), "when maxFailedIndexes is specified"))
	}
	if r := s.PodReplacementPolicy; r != nil {
		allowed := []batchv1.PodReplacementPolicy{batchv1.Failed, batchv1.TerminatingOrFailed}
		if s.PodFailurePolicy != nil {
			allowed = allowed[:1]
		}
		errs = append(errs, oneOf(*r, allowed, path.Child("podReplacementPolicy"))...)
	}
	if m := s.ManagedBy; m != nil {
		at := path.Child("managedBy")
		errs = append(errs, validation.IsDomainPrefixedPath(at, *m)...)
		if len(*m) > maxManagedBy {
			errs = append(errs, field.TooLongMaxLength(at, *m, maxManagedBy))
		}
	}
	errs = append(errs, validateFailurePolicy(s, path.Child("podFailurePolicy"))...)
	errs = append(errs, validateSuccessPolicy(s, path.Child("successPolicy"))...)
	return append(errs, validateJobTemplate(&s.Template, path.Child("template"))...)
}

func validateIndexedJob(s *batchv1.JobSpec, path *field.Path) (errs field.ErrorList) {
	if s.Completions == nil {
		return field.ErrorList{field.Required(path.Child("completions"), fmt.Sprintf("when completion mode is %s", batchv1.IndexedCompletion))}
	}
	if p := s.Parallelism; p != nil && *p > maxJobParallelism {
		errs = append(errs, field.Invalid(path.Child("parallelism"), *p,
			fmt.Sprintf("must be less than or equal to %d when completion mode is %s", maxJobParallelism, batchv1.IndexedCompletion)))
	}
	if m := s.MaxFailedIndexes; m != nil {
		if *m > *s.Completions {
			errs = append(errs, field.Invalid(path.Child("maxFailedIndexes"), *m, "must be less than or equal to completions"))
		}
		if *m > maxFailedIndexes {
			errs = append(errs, field.Invalid(path.Child("maxFailedIndexes"), *m, fmt.Sprintf("must be less than or equal to %d", maxFailedIndexes)))
		}
	}
	if s.BackoffLimitPerIndex == nil || *s.Completions <= fewCompletions {
		return errs
	}
	switch m := s.MaxFailedIndexes; {
	case m == nil:
		errs = append(errs, field.Required(path.Child("maxFailedIndexes"), fmt.Sprintf("must be specified when completions is above %d", fewCompletions)))
	case *m > fewFailedIndexes:
		errs = append(errs, field.Invalid(path.Child("maxFailedIndexes"), *m, fmt.Sprintf("must be less than or equal to %d when completions are above %d and used with backoff limit per index", fewFailedIndexes, fewCompletions)))
	}
	if p := s.Parallelism; p != nil && *p > fewFailedIndexes {
		errs = append(errs, field.Invalid(path.Child("parallelism"), *p, fmt.Sprintf("must be less than or equal to %d when completions are above %d and used with backoff limit per index", fewFailedIndexes, fewCompletions)))
	}
	return errs
}

func validateFailurePolicy(s *batchv1.JobSpec, path *field.Path) (errs field.ErrorList) {
	p := s.PodFailurePolicy
	if p == nil {
		return nil
	}
	if s.Template.Spec.RestartPolicy != corev1.RestartPolicyNever {
		errs = append(errs, field.Invalid(path, "", fmt.Sprintf("only %q restartPolicy is supported when podFailurePolicy is specified", corev1.RestartPolicyNever)))
	}
	if n := len(p.Rules); n > maxFailureRules {
		errs = append(errs, field.TooMany(path.Child("rules"), n, maxFailureRules))
	}
	var containers []string
	for _, list := range [][]corev1.Container{s.Template.Spec.InitContainers, s.Template.Spec.Containers} {
		for i := range list {
			containers = append(containers, list[i].Name)
		}
	}
	for i := range p.Rules {
		at, rule := path.Child("rules").Index(i), &p.Rules[i]
		errs = append(errs, oneOf(rule.Action, []batchv1.PodFailurePolicyAction{batchv1.PodFailurePolicyActionCount, batchv1.PodFailurePolicyActionFailIndex,
			batchv1.PodFailurePolicyActionFailJob, batchv1.PodFailurePolicyActionIgnore}, at.Child("action"))...)
		if rule.Action == batchv1.PodFailurePolicyActionFailIndex && s.BackoffLimitPerIndex == nil {
			errs = append(errs, field.Invalid(at.Child("action"), rule.Action, "requires the backoffLimitPerIndex to be set"))
		}
		switch {
		case rule.OnExitCodes != nil && len(rule.OnPodConditions) > 0:
			errs = append(errs, field.Invalid(at, field.OmitValueType{}, "specifying both OnExitCodes and OnPodConditions is not supported"))
		case rule.OnExitCodes == nil && len(rule.OnPodConditions) == 0:
			errs = append(errs, field.Invalid(at, field.OmitValueType{}, "specifying one of OnExitCodes and OnPodConditions is required"))
		}
		if c := rule.OnExitCodes; c != nil {
			errs = append(errs, validateExitCodes(c, containers, at.Child("onExitCodes"))...)
		}
		if n := len(rule.OnPodConditions); n > maxPodConditions {
			errs = append(errs, field.TooMany(at.Child("onPodConditions"), n, maxPodConditions))
		}
		for n, c := range rule.OnPodConditions {
			where := at.Child("onPodConditions").Index(n)
			errs = append(errs, invalid(validation.IsQualifiedName(string(c.Type)), where.Child("type"), c.Type)...)
			errs = append(errs, oneOf(c.Status, []corev1.ConditionStatus{corev1.ConditionFalse, corev1.ConditionTrue, corev1.ConditionUnknown}, where.Child("status"))...)
		}
	}
	return errs
}

func validateExitCodes(c *batchv1.PodFailurePolicyOnExitCodesRequirement, containers []string, at *field.Path) field.ErrorList {
	errs := oneOf(c.Operator, []batchv1.PodFailurePolicyOnExitCodesOperator{batchv1.PodFailurePolicyOnExitCodesOpIn, batchv1.PodFailurePolicyOnExitCodesOpNotIn}, at.Child("operator"))
	if c.ContainerName != nil && !slices.Contains(containers, *c.ContainerName) {
		errs = append(errs, field.Invalid(at.Child("containerName"), *c.ContainerName, "must be one of the container or initContainer names in the pod template"))
	}
	values := at.Child("values")
	if len(c.Values) == 0 {
		errs = append(errs, field.Invalid(values, c.Values, "at least one value is required"))
	} else if n := len(c.Values); n > maxExitCodes {
		errs = append(errs, field.TooMany(values, n, maxExitCodes))
	}
	seen := map[int32]bool{}
	for i, v := range c.Values {
		if v == 0 && c.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn {
			errs = append(errs, field.Invalid(values.Index(i), v, "must not be 0 for the In operator"))
		}
		if seen[v] {
			errs = append(errs, field.Duplicate(values.Index(i), v))
		}
		seen[v] = true
	}
	if !slices.IsSorted(c.Values) {
		errs = append(errs, field.Invalid(values, c.Values, "must be ordered"))
	}
	return errs
}

func validateSuccessPolicy(s *batchv1.JobSpec, path *field.Path) (errs field.ErrorList) {
	p := s.SuccessPolicy
	if p == nil {
		return nil
	}
	if s.CompletionMode == nil || *s.CompletionMode != batchv1.IndexedCompletion {
		return field.ErrorList{field.Invalid(path, field.OmitValueType{}, "requires indexed completion mode")}
	}
	rules := path.Child("rules")
	if len(p.Rules) == 0 {
		errs = append(errs, field.Required(rules, "must have at least one rule"))
	} else if n := len(p.Rules); n > maxSuccessRules {
		errs = append(errs, field.TooMany(rules, n, maxSuccessRules))
	}
	limit := 0
	if s.Completions != nil {
		limit = int(*s.Completions)
	}
	for i := range p.Rules {
		at, rule, most := rules.Index(i), &p.Rules[i], limit
		if rule.SucceededCount == nil && rule.SucceededIndexes == nil {
			errs = append(errs, field.Required(at, "must specify at least one of succeededCount or succeededIndexes"))
		}
		if text := rule.SucceededIndexes; text != nil {
			where := at.Child("succeededIndexes")
			indexes, err := ParseIndexes(*text, limit)
			switch {
			case len(*text) > maxSucceededIndexes:
				errs = append(errs, field.TooLongMaxLength(where, *text, maxSucceededIndexes))
			case *text == "":
				errs = append(errs, field.Invalid(where, *text, "at least one index is required"))
			case err != nil:
				errs = append(errs, field.Invalid(where, *text, "error parsing succeededIndexes: "+err.Error()))
			default:
				most = indexes.Len()
			}
		}
		if n := rule.SucceededCount; n != nil {
			where := at.Child("succeededCount")
			switch {
			case *n < 1:
				errs = append(errs, field.Invalid(where, *n, "must be greater than or equal to 1"))
			case rule.SucceededIndexes != nil && int(*n) > most:
				errs = append(errs, field.Invalid(where, *n, fmt.Sprintf("must be less than or equal to %d (the number of indexes in the specified succeededIndexes field)", most)))
			case int(*n) > limit:
				errs = append(errs, field.Invalid(where, *n, fmt.Sprintf("must be less than or equal to %d (the number of specified completions)", limit)))
			}
		}
	}
	return errs
}

func validateJobTemplate(t *corev1.PodTemplateSpec, path *field.Path) field.ErrorList {
	at := path.Child("spec")
	errs := validateLabels(t.Labels, path.Child("metadata", "labels"))
	errs = append(errs, apivalidation.ValidateAnnotations(t.Annotations, path.Child("metadata", "annotations"))...)
	errs = append(errs, validateDeletionCost(t.Annotations, path.Child("metadata", "annotations"))...)
	errs = append(errs, validatePodSpec(&t.Spec, at)...)
	if p := t.Spec.RestartPolicy; p != corev1.RestartPolicyNever && p != corev1.RestartPolicyOnFailure {
		errs = append(errs, field.Required(at.Child("restartPolicy"), fmt.Sprintf("valid values: %q, %q", corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)))
	}
	return errs
}

// validateJobUpdate: what pods are made of stays as it is; how many, when to stop and whether to run may change. The
// template of a Job that is suspended and runs nothing may be given other nodes and, before it first ran, resources.
func validateJobUpdate(j, old *batchv1.Job) (errs field.ErrorList) {
	path := field.NewPath("spec")
	errs = append(errs, validateCompletionsUpdate(&j.Spec, &old.Spec, path.Child("completions"))...)
	errs = append(errs, immutable(j.Spec.Selector, old.Spec.Selector, path.Child("selector"))...)
	errs = append(errs, immutable(withoutDirectives(j, old), old.Spec.Template, path.Child("template"))...)
	errs = append(errs, immutable(j.Spec.CompletionMode, old.Spec.CompletionMode, path.Child("completionMode"))...)
	errs = append(errs, immutable(j.Spec.PodFailurePolicy, old.Spec.PodFailurePolicy, path.Child("podFailurePolicy"))...)
	errs = append(errs, immutable(j.Spec.BackoffLimitPerIndex, old.Spec.BackoffLimitPerIndex, path.Child("backoffLimitPerIndex"))...)
	errs = append(errs, immutable(j.Spec.ManagedBy, old.Spec.ManagedBy, path.Child("managedBy"))...)
	return append(errs, immutable(j.Spec.SuccessPolicy, old.Spec.SuccessPolicy, path.Child("successPolicy"))...)
}

// validateCompletionsUpdate lets an Indexed Job grow and shrink: completions and parallelism together.
func validateCompletionsUpdate(s, old *batchv1.JobSpec, at *field.Path) field.ErrorList {
	if equal(s.Completions, old.Completions) {
		return nil
	}
	if old.CompletionMode == nil || *old.CompletionMode != batchv1.IndexedCompletion {
		return immutable(s.Completions, old.Completions, at)
	}
	if s.Completions == nil || s.Parallelism == nil || *s.Completions != *s.Parallelism {
		return field.ErrorList{field.Invalid(at, s.Completions, fmt.Sprintf("can only be modified in tandem with %s", strings.Replace(at.String(), "completions", "parallelism", 1)))}
	}
	return nil
}

// withoutDirectives is the new template with what may change put back to what it was.
func withoutDirectives(j, old *batchv1.Job) corev1.PodTemplateSpec {
	suspended := old.Spec.Suspend != nil && *old.Spec.Suspend
	if !suspended || old.Status.Active > 0 {
		return j.Spec.Template
	}
	t, was := j.Spec.Template.DeepCopy(), old.Spec.Template.DeepCopy()
	t.Labels, t.Annotations = was.Labels, was.Annotations
	if manual := j.Spec.ManualSelector; manual != nil && *manual || !ownLabelsKept(j, old) {
		t.Labels = j.Spec.Template.Labels // the pods are told by them
	}
	t.Spec.NodeSelector, t.Spec.Tolerations, t.Spec.SchedulingGates = was.Spec.NodeSelector, was.Spec.Tolerations, was.Spec.SchedulingGates
	t.Spec.Affinity = withNodeAffinityOf(t.Spec.Affinity, was.Spec.Affinity)
	for _, lists := range [][2][]corev1.Container{{t.Spec.Containers, was.Spec.Containers}, {t.Spec.InitContainers, was.Spec.InitContainers}} {
		for i := range lists[0] {
			if i < len(lists[1]) {
				lists[0][i].Resources = lists[1][i].Resources
			}
		}
	}
	return *t
}

func ownLabelsKept(j, old *batchv1.Job) bool {
	for key := range jobLabels(old) {
		if j.Spec.Template.Labels[key] != old.Spec.Template.Labels[key] {
			return false
		}
	}
	return true
}

// validateJobStatus keeps ends from being taken back and counters from going wrong, whoever's controller writes them.
func validateJobStatus(j, old *batchv1.Job) (errs field.ErrorList) {
	at := field.NewPath("status")
	for child, n := range inOrder(map[string]int32{"active": j.Status.Active, "succeeded": j.Status.Succeeded, "failed": j.Status.Failed}) {
		errs = append(errs, nonNegative(int64(n), at.Child(child))...)
	}
	conditions := at.Child("conditions")
	for _, kind := range []batchv1.JobConditionType{batchv1.JobComplete, batchv1.JobFailed, batchv1.JobFailureTarget} {
		if JobCondition(old, kind) != nil && JobCondition(j, kind) == nil {
			errs = append(errs, field.Invalid(conditions, field.OmitValueType{}, fmt.Sprintf("cannot disable the %s=True condition", kind)))
		}
	}
	for _, two := range [][2]batchv1.JobConditionType{{batchv1.JobComplete, batchv1.JobFailed}, {batchv1.JobComplete, batchv1.JobFailureTarget},
		{batchv1.JobFailureTarget, batchv1.JobSuccessCriteriaMet}, {batchv1.JobFailed, batchv1.JobSuccessCriteriaMet}} {
		if JobCondition(j, two[0]) != nil && JobCondition(j, two[1]) != nil {
			errs = append(errs, field.Invalid(conditions, field.OmitValueType{}, fmt.Sprintf("cannot set %s=True and %s=True conditions", two[0], two[1])))
		}
	}
	if JobFinished(j) != nil {
		if j.Status.Active > 0 {
			errs = append(errs, field.Invalid(at.Child("active"), j.Status.Active, "active>0 is invalid for finished job"))
		}
		if u := j.Status.UncountedTerminatedPods; u != nil && len(u.Succeeded)+len(u.Failed) > 0 {
			errs = append(errs, field.Invalid(at.Child("uncountedTerminatedPods"), u, "uncountedTerminatedPods needs to be empty for finished job"))
		}
	}
	if old.Status.CompletionTime != nil && !equal(j.Status.CompletionTime, old.Status.CompletionTime) {
		errs = append(errs, field.Invalid(at.Child("completionTime"), j.Status.CompletionTime, "completionTime cannot be mutated"))
	}
	if j.Status.CompletionTime != nil && JobCondition(j, batchv1.JobComplete) == nil {
		errs = append(errs, field.Invalid(at.Child("completionTime"), j.Status.CompletionTime, "cannot set completionTime when there is no Complete=True condition"))
	}
	if limit := old.Spec.Completions; limit != nil && Indexed(old) {
		for child, text := range inOrder(map[string]string{"completedIndexes": j.Status.CompletedIndexes, "failedIndexes": deref(j.Status.FailedIndexes)}) {
			if _, err := ParseIndexes(text, int(*limit)); err != nil {
				errs = append(errs, field.Invalid(at.Child(child), text, "error parsing "+child+": "+err.Error()))
			}
		}
	}
	return errs
}
