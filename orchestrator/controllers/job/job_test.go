package job

import (
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

func size(parallelism, completions int32) func(*batchv1.Job) {
	return func(j *batchv1.Job) {
		j.Spec.Parallelism, j.Spec.Completions = &parallelism, &completions
	}
}

func indexed(parallelism, completions int32, more ...func(*batchv1.Job)) func(*batchv1.Job) {
	return func(j *batchv1.Job) {
		size(parallelism, completions)(j)
		j.Spec.CompletionMode = ptr.To(batchv1.IndexedCompletion)
		for _, f := range more {
			f(j)
		}
	}
}

const completed, met = "Complete=True:CompletionsReached", "SuccessCriteriaMet=True:CompletionsReached"

func TestAFixedNumberOfCompletionsIsReached(t *testing.T) {
	w := newWorld(t, newJob(size(2, 3)))
	w.settle(-1)
	w.want("active 2 succeeded 0 failed 0")
	w.end(w.active()[0], 0)
	w.settle(-1)
	w.want("active 2 succeeded 1 failed 0")
	w.end(w.active()[0], 0)
	w.settle(-1)
	w.want("active 1 succeeded 2 failed 0")
	w.end(w.active()[0], 0)
	w.settle(-1)
	w.want("active 0 succeeded 3 failed 0")
	w.wantConditions(met, completed)
	if s := w.job().Status; s.CompletionTime == nil || s.StartTime == nil || s.UncountedTerminatedPods != nil || *s.Terminating != 0 || *s.Ready != 0 {
		t.Errorf("%+v", s)
	}
	for _, p := range w.pods() {
		if tracked(p) {
			t.Errorf("%s still has the finalizer", p.Name)
		}
	}
}

func TestAWorkQueueEndsAfterTheFirstSuccess(t *testing.T) {
	w := newWorld(t, newJob(func(j *batchv1.Job) { j.Spec.Parallelism = ptr.To[int32](3) }))
	w.settle(-1)
	w.want("active 3 succeeded 0 failed 0")
	w.end(w.active()[0], 0)
	w.settle(-1)
	w.want("active 2 succeeded 1 failed 0")
	w.end(w.active()[0], 1)
	w.settle(-1)
	w.want("active 1 succeeded 1 failed 1") // none is started anew
	w.end(w.active()[0], 0)
	w.settle(-1)
	w.want("active 0 succeeded 2 failed 1")
	w.wantConditions(met, completed)
}

func TestFailedPodsAreReplacedWithGrowingDelaysUntilTheLimit(t *testing.T) {
	w := newWorld(t, newJob(func(j *batchv1.Job) { j.Spec.BackoffLimit = ptr.To[int32](2) }))
	w.settle(-1)
	for i, want := range []time.Duration{10 * time.Second, 20 * time.Second} {
		w.end(w.active()[0], 1)
		if again := w.settle(-1); again != want {
			t.Errorf("failure %d: the next pod after %v, want %v", i+1, again, want)
		}
		w.want("active 0 succeeded 0 failed %d", i+1)
		w.clock.Step(want)
		w.settle(-1)
		w.want("active 1 succeeded 0 failed %d", i+1)
	}
	w.end(w.active()[0], 1)
	w.settle(-1)
	w.want("active 0 succeeded 0 failed 3")
	w.wantConditions("FailureTarget=True:BackoffLimitExceeded", "Failed=True:BackoffLimitExceeded")
	if w.job().Status.CompletionTime != nil {
		t.Error("a failed Job has a completion time")
	}
	for n, want := range map[int]time.Duration{0: 0, 1: 10 * time.Second, 6: 320 * time.Second, 7: 10 * time.Minute, 500: 10 * time.Minute} {
		if got := delay(n); got != want {
			t.Errorf("after %d failures: %v", n, got)
		}
	}
}

func TestASuccessEndsTheDelay(t *testing.T) {
	w := newWorld(t, newJob(size(2, 5)))
	w.settle(-1)
	w.end(w.active()[0], 1)
	w.clock.Step(time.Second)
	w.end(w.active()[0], 0)
	if again := w.settle(-1); again != 0 {
		t.Errorf("waits %v", again)
	}
	w.want("active 2 succeeded 1 failed 1")
}

func TestAContainerThatIsRestartedInItsPodCounts(t *testing.T) {
	w := newWorld(t, newJob(func(j *batchv1.Job) {
		j.Spec.BackoffLimit = ptr.To[int32](3)
		j.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
	}))
	w.settle(-1)
	p := w.active()[0]
	w.run(p)
	for _, restarts := range []int32{2, 3} {
		n := w.active()[0].DeepCopy()
		n.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", RestartCount: restarts}}
		if _, err := w.fake.Update(t.Context(), podsGVR(), "status", n); err != nil {
			t.Fatal(err)
		}
		w.settle(-1)
		if ended := len(w.job().Status.Conditions) > 0; ended != (restarts == 3) {
			t.Errorf("after %d restarts: %v", restarts, conditionsOf(w.job()))
		}
	}
	w.kill()
	w.settle(-1)
	w.wantConditions("FailureTarget=True:BackoffLimitExceeded", "Failed=True:BackoffLimitExceeded")
}

// The terminal condition waits for the pods: kubernetes.io/docs/concepts/workloads/controllers/job/#terminal-job-conditions
func TestTheDeadlineEndsAJobAndItsPodsFirst(t *testing.T) {
	w := newWorld(t, newJob(func(j *batchv1.Job) { j.Spec.ActiveDeadlineSeconds = ptr.To[int64](100) }))
	if again := w.settle(-1); again != 100*time.Second {
		t.Errorf("looks again after %v", again)
	}
	w.run(w.active()[0])
	w.clock.Step(100 * time.Second)
	w.settle(-1)
	w.wantConditions("FailureTarget=True:DeadlineExceeded")
	if s := w.job().Status; *s.Terminating != 1 || s.Active != 0 {
		t.Errorf("%+v", s)
	}
	w.kill()
	w.settle(-1)
	w.want("active 0 succeeded 0 failed 1")
	w.wantConditions("FailureTarget=True:DeadlineExceeded", "Failed=True:DeadlineExceeded")
}

func TestSuspendingEndsPodsWithoutCountingThem(t *testing.T) {
	w := newWorld(t, newJob(size(2, 3)))
	w.settle(-1)
	for _, p := range w.active() {
		w.run(p)
	}
	w.change(func(j *batchv1.Job) { j.Spec.Suspend = ptr.To(true) })
	w.settle(-1)
	w.wantConditions("Suspended=True:JobSuspended")
	if w.job().Status.StartTime != nil {
		t.Error("it has a start time")
	}
	w.kill()
	w.settle(-1)
	w.want("active 0 succeeded 0 failed 0")
	w.clock.Step(time.Hour)
	w.change(func(j *batchv1.Job) { j.Spec.Suspend = ptr.To(false) })
	if again := w.settle(-1); again != 0 {
		t.Errorf("waits %v for pods that it ended itself", again)
	}
	w.want("active 2 succeeded 0 failed 0")
	w.wantConditions("Suspended=False:JobResumed")
	if s := w.job().Status.StartTime; s == nil || !s.Time.Equal(w.clock.Now()) {
		t.Errorf("started at %v", s)
	}
}

func TestAJobThatIsMadeSmallerEndsPodsWithoutCountingThem(t *testing.T) {
	w := newWorld(t, newJob(size(4, 10)))
	w.settle(-1)
	w.run(w.active()[2])
	w.change(func(j *batchv1.Job) { j.Spec.Parallelism = ptr.To[int32](1) })
	w.settle(-1)
	w.want("active 1 succeeded 0 failed 0")
	if w.active()[0].Status.Phase != corev1.PodRunning {
		t.Error("the pod that ran was ended")
	}
	w.change(func(j *batchv1.Job) { j.Spec.Parallelism = ptr.To[int32](0) })
	w.settle(-1)
	w.kill()
	w.settle(-1)
	w.want("active 0 succeeded 0 failed 0")
}

func TestIndexedPodsHaveTheirIndexes(t *testing.T) {
	w := newWorld(t, newJob(indexed(3, 5)))
	w.settle(-1)
	for i, p := range w.active() {
		env := p.Spec.Containers[0].Env
		if indexOf(p) != i || p.Labels[batchv1.JobCompletionIndexAnnotation] != p.Annotations[batchv1.JobCompletionIndexAnnotation] ||
			p.Spec.Hostname != "j-"+string(rune('0'+i)) || !strings.HasPrefix(p.Name, "j-"+string(rune('0'+i))+"-") ||
			len(env) != 1 || env[0].Name != indexVariable || env[0].ValueFrom.FieldRef.FieldPath != "metadata.labels['batch.kubernetes.io/job-completion-index']" {
			t.Errorf("pod %d: %+v", i, p)
		}
	}
	w.end(w.active()[1], 0)
	w.settle(-1)
	w.end(w.active()[1], 0)
	w.settle(-1)
	if s := w.job().Status; s.CompletedIndexes != "1,2" || s.Succeeded != 2 {
		t.Errorf("%+v", s)
	}
	for range 3 {
		w.end(w.active()[0], 0)
		w.settle(-1)
	}
	if s := w.job().Status; s.CompletedIndexes != "0-4" || s.Succeeded != 5 {
		t.Errorf("%+v", s)
	}
	w.wantConditions(met, completed)
}

func TestAnElasticJobGrowsAndShrinks(t *testing.T) {
	w := newWorld(t, newJob(indexed(3, 3)))
	w.settle(-1)
	w.end(w.active()[2], 0)
	w.settle(-1)
	w.change(func(j *batchv1.Job) { j.Spec.Parallelism, j.Spec.Completions = ptr.To[int32](5), ptr.To[int32](5) })
	w.settle(-1)
	w.want("active 4 succeeded 1 failed 0")
	w.change(func(j *batchv1.Job) { j.Spec.Parallelism, j.Spec.Completions = ptr.To[int32](2), ptr.To[int32](2) })
	w.settle(-1)
	w.want("active 2 succeeded 0 failed 0")
	if got := w.job().Status.CompletedIndexes; got != "" {
		t.Errorf("completed %q", got)
	}
}

// The example of kubernetes.io/docs/concepts/workloads/controllers/job/#backoff-limit-per-index: even indexes fail.
func TestEachIndexHasItsOwnLimit(t *testing.T) {
	w := newWorld(t, newJob(indexed(3, 10, func(j *batchv1.Job) {
		j.Spec.BackoffLimitPerIndex, j.Spec.MaxFailedIndexes = ptr.To[int32](1), ptr.To[int32](5)
	})))
	for range 40 {
		w.settle(-1)
		for _, p := range w.active() {
			w.end(p, int32(1-indexOf(p)%2))
		}
		w.clock.Step(15 * time.Second)
	}
	w.settle(-1)
	w.want("active 0 succeeded 5 failed 10")
	if s := w.job().Status; s.CompletedIndexes != "1,3,5,7,9" || *s.FailedIndexes != "0,2,4,6,8" {
		t.Errorf("completed %q failed %q", s.CompletedIndexes, *s.FailedIndexes)
	}
	w.wantConditions("FailureTarget=True:FailedIndexes", "Failed=True:FailedIndexes")
}

func TestTooManyFailedIndexesFailTheJob(t *testing.T) {
	w := newWorld(t, newJob(indexed(3, 10, func(j *batchv1.Job) {
		j.Spec.BackoffLimitPerIndex, j.Spec.MaxFailedIndexes = ptr.To[int32](0), ptr.To[int32](1)
	})))
	w.settle(-1)
	w.end(w.active()[0], 1)
	w.settle(-1)
	w.want("active 3 succeeded 0 failed 1")
	w.end(w.active()[0], 1)
	w.settle(-1)
	w.kill()
	w.settle(-1)
	w.wantConditions("FailureTarget=True:MaxFailedIndexesExceeded", "Failed=True:MaxFailedIndexesExceeded")
	if got := *w.job().Status.FailedIndexes; got != "0,1" {
		t.Errorf("failed %q", got)
	}
}

func TestAnIndexCarriesItsFailuresOn(t *testing.T) {
	w := newWorld(t, newJob(indexed(1, 1, func(j *batchv1.Job) {
		j.Spec.BackoffLimitPerIndex = ptr.To[int32](5)
		j.Spec.PodFailurePolicy = disruptionsIgnored()
	})))
	w.settle(-1)
	for i, want := range []struct {
		condition         []corev1.PodConditionType
		failures, ignored string
		wait              time.Duration
	}{{nil, "1", "", 10 * time.Second}, {[]corev1.PodConditionType{corev1.DisruptionTarget}, "1", "1", 20 * time.Second}, {nil, "2", "1", 40 * time.Second}} {
		w.end(w.active()[0], 7, want.condition...)
		if again := w.settle(-1); again != want.wait {
			t.Errorf("%d: again after %v", i, again)
		}
		w.clock.Step(want.wait)
		w.settle(-1)
		a := w.active()[0].Annotations
		if a[batchv1.JobIndexFailureCountAnnotation] != want.failures || a[batchv1.JobIndexIgnoredFailureCountAnnotation] != want.ignored {
			t.Errorf("%d: %v", i, a)
		}
	}
	w.want("active 1 succeeded 0 failed 2")
}

func disruptionsIgnored() *batchv1.PodFailurePolicy {
	return &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{Action: batchv1.PodFailurePolicyActionIgnore,
		OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}}}}}
}

// The example of kubernetes.io/docs/concepts/workloads/controllers/job/#pod-failure-policy.
func documentedPolicy() *batchv1.PodFailurePolicy {
	return &batchv1.PodFailurePolicy{Rules: append([]batchv1.PodFailurePolicyRule{{Action: batchv1.PodFailurePolicyActionFailJob,
		OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{ContainerName: ptr.To("main"), Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{42}}}},
		disruptionsIgnored().Rules...)}
}

func TestAPodFailurePolicyDecidesWhatAFailureMeans(t *testing.T) {
	w := newWorld(t, newJob(func(j *batchv1.Job) {
		size(2, 8)(j)
		j.Spec.PodFailurePolicy = documentedPolicy()
	}))
	w.settle(-1)
	w.end(w.active()[0], 137, corev1.DisruptionTarget)
	w.clock.Step(10 * time.Second)
	w.settle(-1)
	w.want("active 2 succeeded 0 failed 0") // ignored
	w.end(w.active()[0], 1)
	w.clock.Step(time.Minute)
	w.settle(-1)
	w.want("active 2 succeeded 0 failed 1")
	w.run(w.active()[0])
	w.end(w.active()[1], 42)
	w.settle(-1)
	w.wantConditions("FailureTarget=True:PodFailurePolicy")
	if m := w.job().Status.Conditions[0].Message; !strings.HasPrefix(m, "Container main for pod default/j-") || !strings.HasSuffix(m, " failed with exit code 42 matching FailJob rule at index 0") {
		t.Errorf("message %q", m)
	}
	w.kill()
	w.settle(-1)
	w.want("active 0 succeeded 0 failed 3")
	w.wantConditions("FailureTarget=True:PodFailurePolicy", "Failed=True:PodFailurePolicy")
}

// Without podReplacementPolicy Failed a pod that is ending is replaced at once.
func TestWhenAPodThatIsEndingIsReplaced(t *testing.T) {
	for policy, want := range map[batchv1.PodReplacementPolicy][2]string{
		batchv1.TerminatingOrFailed: {"active 1 succeeded 0 failed 1", "active 1 succeeded 0 failed 1"},
		batchv1.Failed:              {"active 0 succeeded 0 failed 0", "active 1 succeeded 0 failed 1"},
	} {
		w := newWorld(t, newJob(func(j *batchv1.Job) { j.Spec.PodReplacementPolicy = &policy }))
		w.settle(-1)
		w.run(w.active()[0])
		if err := w.fake.Delete(t.Context(), podsGVR(), "default", w.active()[0].Name, deleteOptions()); err != nil {
			t.Fatal(err)
		}
		w.clock.Step(11 * time.Second)
		w.settle(-1)
		w.want("%s", want[0])
		if got := *w.job().Status.Terminating; got != 1 {
			t.Errorf("%d are terminating", got)
		}
		w.kill()
		w.clock.Step(11 * time.Second)
		w.settle(-1)
		w.want("%s", want[1])
	}
}

// The example of kubernetes.io/docs/concepts/workloads/controllers/job/#success-policy.
func TestASuccessPolicyEndsTheJobEarly(t *testing.T) {
	w := newWorld(t, newJob(indexed(10, 10, func(j *batchv1.Job) {
		j.Spec.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededIndexes: ptr.To("0,2-3"), SucceededCount: ptr.To[int32](1)}}}
	})))
	w.settle(-1)
	for _, p := range w.active() {
		w.run(p)
	}
	w.end(w.active()[1], 0)
	w.settle(-1)
	w.wantConditions()
	w.end(w.active()[1], 0) // index 2
	w.settle(-1)
	w.wantConditions("SuccessCriteriaMet=True:SuccessPolicy")
	w.kill()
	w.settle(-1)
	w.wantConditions("SuccessCriteriaMet=True:SuccessPolicy", "Complete=True:SuccessPolicy")
	if s := w.job().Status; s.CompletedIndexes != "1,2" || s.Succeeded != 2 {
		t.Errorf("%+v", s)
	}
}

func TestAJobOfAnotherControllerIsLeftAlone(t *testing.T) {
	w := newWorld(t, newJob(func(j *batchv1.Job) { j.Spec.ManagedBy = ptr.To("example.com/mine") }))
	before := w.fake.Writes()
	if w.settle(-1); w.fake.Writes() != before {
		t.Error("it was written")
	}
}

// A pod that is deleted before it ran is held by its finalizer alone: nobody would ever say that it has failed.
func TestAPodThatIsDeletedBeforeItRanHasFailed(t *testing.T) {
	w := newWorld(t, newJob(func(j *batchv1.Job) { j.Spec.PodReplacementPolicy = ptr.To(batchv1.Failed) }))
	w.settle(-1)
	first := w.active()[0]
	if err := w.fake.Delete(t.Context(), podsGVR(), "default", first.Name, deleteOptions()); err != nil {
		t.Fatal(err)
	}
	w.settle(-1)
	w.clock.Step(time.Minute)
	w.settle(-1)
	w.want("active 1 succeeded 0 failed 1")
	if w.active()[0].Name == first.Name || len(w.pods()) != 1 {
		t.Errorf("%d pods, %s is active", len(w.pods()), w.active()[0].Name)
	}
}
