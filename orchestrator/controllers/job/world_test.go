package job

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/reconciletest"
)

var errStopped = errors.New("the control plane is stopped")

// world is one Job in a fake cluster, whose controller is stopped after a number of writes and started anew.
type world struct {
	t       *testing.T
	clock   *clocktesting.FakeClock
	fake    *reconciletest.Fake
	allowed int // writes until it is stopped; negative: none is
	most    int // active pods ever
	ended   map[types.UID]corev1.PodPhase
	indexes map[types.UID]string
}

func newJob(edit func(*batchv1.Job)) *batchv1.Job {
	l := map[string]string{"app": "j"}
	j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "j", UID: "job-uid"}, Spec: batchv1.JobSpec{
		Selector: &metav1.LabelSelector{MatchLabels: l},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: l}, Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever,
			Containers: []corev1.Container{{Name: "main", Image: "i"}}}}}}
	edit(j)
	k := api.ByGVR(api.All(), reconcile.Jobs())
	k.Default(j)
	return j
}

func newWorld(t *testing.T, j *batchv1.Job) *world {
	w := &world{t: t, clock: clocktesting.NewFakeClock(time.Unix(1_700_000_000, 0)), allowed: -1, ended: map[types.UID]corev1.PodPhase{}, indexes: map[types.UID]string{}}
	w.fake = reconciletest.New(w.clock.Now)
	if _, err := w.fake.Create(context.Background(), reconcile.Jobs(), j); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) gang() {
	if _, err := w.fake.Create(context.Background(), reconcile.PodGroups(), &schedulingv1beta1.PodGroup{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "g"},
		Spec: schedulingv1beta1.PodGroupSpec{SchedulingPolicy: schedulingv1beta1.PodGroupSchedulingPolicy{Gang: &schedulingv1beta1.GangSchedulingPolicy{MinCount: 2}}}}); err != nil {
		w.t.Fatal(err)
	}
}

// reconcile runs the controller as a fresh process that is stopped after so many writes; negative: it isn't.
func (w *world) reconcile(writes int) (again time.Duration) {
	w.allowed = writes
	w.fake.OnWrite(func(string, schema.GroupVersionResource, api.Object) error {
		if w.allowed == 0 {
			return errStopped
		}
		w.allowed--
		return nil
	})
	defer w.fake.OnWrite(nil)
	c := &shell{env: reconcile.Env{Client: w.fake, Clock: w.clock}.WithDefaults()}
	again, err := c.reconcile(context.Background(), reconcile.Key{Namespace: "default", Name: "j"})
	if err != nil && !errors.Is(err, errStopped) {
		w.t.Fatal(err)
	}
	n := 0
	for _, p := range w.pods() {
		if reconcile.PodActive(p) {
			n++
		}
	}
	w.most = max(w.most, n)
	return again
}

// settle reconciles until nothing is left to write.
func (w *world) settle(writes int) (again time.Duration) {
	w.t.Helper()
	for range 2000 {
		before := w.fake.Writes()
		again = w.reconcile(writes)
		if w.fake.Writes() == before {
			return again
		}
	}
	w.t.Fatal("it writes for ever")
	return 0
}

func (w *world) job() *batchv1.Job {
	j, err := reconcile.Get[*batchv1.Job](context.Background(), w.fake, reconcile.Jobs(), "default", "j")
	if err != nil {
		w.t.Fatal(err)
	}
	return j
}

func (w *world) change(f func(*batchv1.Job)) {
	j := w.job().DeepCopy()
	f(j)
	if _, err := w.fake.Update(context.Background(), reconcile.Jobs(), "", j); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) pods() []*corev1.Pod {
	pods, err := reconcile.List[*corev1.Pod](context.Background(), w.fake, reconcile.Pods(), "default", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return pods
}

func (w *world) active() (out []*corev1.Pod) {
	for _, p := range w.pods() {
		if reconcile.PodActive(p) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b *corev1.Pod) int { return indexOf(a) - indexOf(b) })
	return out
}

func indexOf(p *corev1.Pod) (n int) {
	_, _ = fmt.Sscan(p.Annotations[batchv1.JobCompletionIndexAnnotation], &n)
	return n
}

// run binds the pod and says that it runs.
func (w *world) run(p *corev1.Pod) {
	n := p.DeepCopy()
	n.Spec.NodeName = "n1"
	o, err := w.fake.Update(context.Background(), reconcile.Pods(), "", n)
	if err != nil {
		w.t.Fatal(err)
	}
	n = o.(*corev1.Pod).DeepCopy()
	n.Status.Phase = corev1.PodRunning
	n.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	if _, err := w.fake.Update(context.Background(), reconcile.Pods(), "status", n); err != nil {
		w.t.Fatal(err)
	}
}

// end says how the pod's container ended; conditions are those that its end has beside.
func (w *world) end(p *corev1.Pod, code int32, conditions ...corev1.PodConditionType) {
	n := p.DeepCopy()
	n.Status.Phase = corev1.PodSucceeded
	if code != 0 {
		n.Status.Phase = corev1.PodFailed
	}
	n.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		ExitCode: code, FinishedAt: metav1.NewTime(w.clock.Now())}}}}
	n.Status.Conditions = nil
	for _, c := range conditions {
		n.Status.Conditions = append(n.Status.Conditions, corev1.PodCondition{Type: c, Status: corev1.ConditionTrue})
	}
	if _, err := w.fake.Update(context.Background(), reconcile.Pods(), "status", n); err != nil {
		w.t.Fatal(err)
	}
	if tracked(p) {
		w.ended[p.UID], w.indexes[p.UID] = n.Status.Phase, p.Annotations[batchv1.JobCompletionIndexAnnotation]
	}
}

// kill ends the pods that are being deleted, as their node does.
func (w *world) kill() {
	for _, p := range w.pods() {
		if p.DeletionTimestamp == nil {
			continue
		}
		if !reconcile.PodTerminal(p) {
			w.end(p, 143)
		}
		_ = w.fake.Delete(context.Background(), reconcile.Pods(), p.Namespace, p.Name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)})
	}
}

func (w *world) want(format string, args ...any) {
	w.t.Helper()
	s := w.job().Status
	got := fmt.Sprintf("active %d succeeded %d failed %d", s.Active, s.Succeeded, s.Failed)
	if want := fmt.Sprintf(format, args...); got != want {
		w.t.Fatalf("%s, want %s (%v)", got, want, conditionsOf(w.job()))
	}
}

func conditionsOf(j *batchv1.Job) (out []string) {
	for _, c := range j.Status.Conditions {
		out = append(out, fmt.Sprintf("%s=%s:%s", c.Type, c.Status, c.Reason))
	}
	return out
}

func (w *world) wantConditions(want ...string) {
	w.t.Helper()
	if got := conditionsOf(w.job()); !slices.Equal(got, want) {
		w.t.Fatalf("conditions %v, want %v", got, want)
	}
}

func podsGVR() schema.GroupVersionResource { return reconcile.Pods() }
func deleteOptions() metav1.DeleteOptions  { return metav1.DeleteOptions{} }
