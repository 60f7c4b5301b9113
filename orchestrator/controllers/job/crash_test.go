package job

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// A Job's course, told by how its pods end; nothing in it depends on when the controller runs.
type course struct {
	job  func(*batchv1.Job)
	gang bool
	// end is how the attempt-th pod of the index ends (of the Job, where it has no indexes).
	end func(index, attempt int) (code int32, conditions []corev1.PodConditionType)
}

func courses() map[string]course {
	plain := func(code func(index, attempt int) int32) func(int, int) (int32, []corev1.PodConditionType) {
		return func(index, attempt int) (int32, []corev1.PodConditionType) { return code(index, attempt), nil }
	}
	return map[string]course{
		"completions": {job: size(3, 7), end: plain(func(_, attempt int) int32 { return int32((attempt + 1) % 3 / 2) })},
		"backoffLimit": {job: func(j *batchv1.Job) { size(2, 9)(j); j.Spec.BackoffLimit = ptr.To[int32](3) },
			end: plain(func(_, attempt int) int32 { return int32(attempt % 2) })},
		"indexed": {job: indexed(4, 6), end: plain(func(index, attempt int) int32 { return int32(max(0, index%3-attempt)) })},
		"per index": {job: indexed(4, 6, func(j *batchv1.Job) { j.Spec.BackoffLimitPerIndex = ptr.To[int32](1) }),
			end: plain(func(index, attempt int) int32 { return int32(max(0, index%4-attempt)) })},
		"policy": {job: indexed(2, 4, func(j *batchv1.Job) { j.Spec.PodFailurePolicy = documentedPolicy() }),
			end: func(index, attempt int) (int32, []corev1.PodConditionType) {
				switch {
				case attempt == 0 && index%2 == 0:
					return 137, []corev1.PodConditionType{corev1.DisruptionTarget}
				case attempt == 0:
					return 1, nil
				}
				return 0, nil
			}},
		"gang": {gang: true, job: indexed(3, 3), end: plain(func(index, attempt int) int32 { return int32(max(0, 2*(index%2)-attempt)) })},
		"gang that fails": {gang: true, job: indexed(3, 3, func(j *batchv1.Job) { j.Spec.BackoffLimit = ptr.To[int32](1) }),
			end: plain(func(index, _ int) int32 { return int32(index % 2) })},
		"gang that is disrupted": {gang: true, job: indexed(3, 3, func(j *batchv1.Job) { j.Spec.PodFailurePolicy = documentedPolicy() }),
			end: func(index, attempt int) (int32, []corev1.PodConditionType) {
				if index == 1 && attempt == 0 {
					return 137, []corev1.PodConditionType{corev1.DisruptionTarget}
				}
				return 0, nil
			}},
	}
}

// play runs the course with a controller that is stopped after so many writes each time, and says how it ended.
func (c course) play(t *testing.T, writes func() int) string {
	w := newWorld(t, newJob(func(j *batchv1.Job) {
		c.job(j)
		if c.gang {
			j.Spec.Template.Labels = map[string]string{"app": "j", api.LabelPodGroup: "g"}
		}
	}))
	if c.gang {
		w.gang()
	}
	attempts := map[int]int{}
	attempt := map[string]int{}
	for range 300 {
		settled := false
		for !settled {
			before := w.fake.Writes()
			w.reconcile(writes())
			for _, p := range w.pods() { // the attempts are told by the order in which pods come
				if _, ok := attempt[p.Name]; !ok {
					attempt[p.Name] = attempts[indexOf(p)]
					attempts[indexOf(p)]++
				}
			}
			settled = w.fake.Writes() == before
		}
		if api.JobFinished(w.job()) != nil {
			break
		}
		w.kill()
		if pods := w.active(); len(pods) > 0 {
			p := slices.MinFunc(pods, func(a, b *corev1.Pod) int { // whatever their names are
				return cmp.Or(cmp.Compare(attempt[a.Name], attempt[b.Name]), cmp.Compare(indexOf(a), indexOf(b)))
			})
			code, conditions := c.end(indexOf(p), attempt[p.Name])
			w.end(p, code, conditions...)
		}
		w.clock.Step(10 * time.Minute)
	}
	if limit := int(*w.job().Spec.Parallelism); w.most > limit {
		t.Errorf("%d pods at once, %d are allowed", w.most, limit)
	}
	for _, p := range w.pods() {
		if tracked(p) {
			t.Errorf("%s still has the finalizer", p.Name)
		}
	}
	s := w.job().Status
	failed := "none"
	if s.FailedIndexes != nil {
		failed = *s.FailedIndexes
	}
	return fmt.Sprintf("succeeded %d failed %d completed %q failed indexes %s: %v", s.Succeeded, s.Failed, s.CompletedIndexes, failed, conditionsOf(w.job()))
}

// Whoever stops after any single write, and after any other number of them, leaves a state in which the next controller
// counts what an undisturbed one counts.
func TestAControllerThatIsStoppedAfterEveryWriteCountsTheSame(t *testing.T) {
	for name, c := range courses() {
		t.Run(name, func(t *testing.T) {
			want := c.play(t, func() int { return -1 })
			t.Log(want)
			for n := 1; n <= 4; n++ {
				if got := c.play(t, func() int { return n }); got != want {
					t.Errorf("stopped after every %d writes: %s, want %s", n, got, want)
				}
			}
		})
	}
}

// Pods end at random, some are deleted, the controller is stopped anywhere: what ended is what is counted, and there are
// never more pods than are allowed.
func TestRandomEndsAreAllCountedOnce(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 7))
		parallelism, completions := 1+rng.Int32N(6), 1+rng.Int32N(12)
		policy := []batchv1.PodReplacementPolicy{batchv1.Failed, batchv1.TerminatingOrFailed}[seed%2]
		w := newWorld(t, newJob(func(j *batchv1.Job) {
			size(parallelism, completions)(j)
			if seed%3 == 0 {
				j.Spec.CompletionMode = ptr.To(batchv1.IndexedCompletion)
			}
			j.Spec.BackoffLimit, j.Spec.PodReplacementPolicy = ptr.To[int32](1000), &policy
		}))
		for step := 0; step < 3000 && api.JobFinished(w.job()) == nil; step++ {
			if rng.IntN(3) == 0 {
				w.reconcile(rng.IntN(4))
			} else if pods := w.pods(); len(pods) > 0 {
				p := pods[rng.IntN(len(pods))]
				switch n := rng.IntN(10); {
				case n == 9 && p.DeletionTimestamp == nil && !reconcile.PodTerminal(p):
					// Killed by somebody: as a failure that is counted once, however it ends.
					w.run(p)
					p, _ = reconcile.Get[*corev1.Pod](t.Context(), w.fake, reconcile.Pods(), "default", p.Name)
					_ = w.fake.Delete(t.Context(), reconcile.Pods(), "default", p.Name, metav1.DeleteOptions{})
					w.ended[p.UID], w.indexes[p.UID] = corev1.PodFailed, p.Annotations[batchv1.JobCompletionIndexAnnotation]
				case p.DeletionTimestamp != nil && n < 4:
					w.kill()
				case reconcile.PodActive(p) && n < 6:
					w.end(p, int32(n%2))
				}
			}
			w.clock.Step(time.Duration(rng.IntN(600)) * time.Second)
		}
		for range 5 {
			w.settle(1 + rng.IntN(3))
			w.kill()
		}
		w.settle(-1)
		j := w.job()
		if api.JobFinished(j) == nil {
			t.Fatalf("seed %d: it doesn't end: %+v", seed, j.Status)
		}
		succeeded, failed, indexes := 0, 0, []string{}
		for uid, phase := range w.ended {
			if phase == corev1.PodSucceeded {
				succeeded++
				if !slices.Contains(indexes, w.indexes[uid]) {
					indexes = append(indexes, w.indexes[uid])
				}
			} else {
				failed++
			}
		}
		if api.Indexed(j) {
			succeeded = len(indexes)
		}
		if int(j.Status.Succeeded) != succeeded || int(j.Status.Failed) != failed || w.most > int(parallelism) {
			t.Errorf("seed %d: counted %d and %d, ended %d and %d; up to %d of %d at once", seed, j.Status.Succeeded, j.Status.Failed, succeeded, failed, w.most, parallelism)
		}
	}
}
