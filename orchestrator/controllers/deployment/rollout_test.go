package deployment_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/deployment"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/reconciletest"
	"github.com/pintle/pintle/orchestrator/controllers/replicaset"
)

// sim runs both controllers step by step in random order, with a kubelet that makes pods ready
// unless their image says otherwise.
type sim struct {
	t     *testing.T
	fake  *reconciletest.Fake
	clock *clocktesting.FakeClock
	d, rs *reconcile.Controller
	rng   *rand.Rand
	check func()

	crashed bool // images "late" crash from now on
}

func newSim(t *testing.T, seed uint64) *sim {
	c := clocktesting.NewFakeClock(time.Unix(1_700_000_000, 0))
	s := &sim{t: t, clock: c, fake: reconciletest.New(c.Now), rng: rand.New(rand.NewPCG(seed, 2))}
	s.restart()
	return s
}

func (s *sim) restart() {
	env := reconcile.Env{Client: s.fake, Clock: s.clock}
	s.d, s.rs = deployment.New(env, nil, 1), replicaset.New(env, nil, 1)
}

func (s *sim) get() *appsv1.Deployment {
	o, err := s.fake.Get(context.Background(), reconcile.Deployments(), "ns", "web")
	if err != nil {
		s.t.Fatal(err)
	}
	return o.(*appsv1.Deployment)
}

func (s *sim) change(f func(*appsv1.Deployment)) {
	d := s.get().DeepCopy()
	f(d)
	if _, err := s.fake.Update(context.Background(), reconcile.Deployments(), "", d); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sim) image(i string) {
	s.change(func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = i })
}

func (s *sim) create(replicas int32, image string) {
	l := map[string]string{"app": "web"}
	_, err := s.fake.Create(context.Background(), reconcile.Deployments(), &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web"},
		Spec: appsv1.DeploymentSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: l}, ProgressDeadlineSeconds: ptr.To[int32](60),
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: l}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image}}}}}})
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *sim) kubelet(p *corev1.Pod) {
	ctx := context.Background()
	if p.DeletionTimestamp != nil {
		_ = s.fake.Delete(ctx, reconcile.Pods(), p.Namespace, p.Name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)})
		return
	}
	n := p.DeepCopy()
	n.Status.Phase = corev1.PodRunning
	switch img := p.Spec.Containers[0].Image; {
	case strings.HasPrefix(img, "late"): // ready at once, for it has no probe; later it crashes
		if ok, _ := reconcile.PodReady(p); !ok {
			n.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(s.clock.Now())}}
		}
		if s.crashed {
			n.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", RestartCount: 3}}
		}
	case strings.HasPrefix(img, "crash"):
		n.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", RestartCount: 3}}
	case strings.HasPrefix(img, "never"):
	default:
		if ok, _ := reconcile.PodReady(p); !ok {
			n.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(s.clock.Now())}}
		}
	}
	_, _ = s.fake.Update(ctx, reconcile.Pods(), "status", n)
}

func (s *sim) run(steps int) {
	ctx := context.Background()
	for range steps {
		switch s.rng.IntN(4) {
		case 0:
			if _, err := s.d.Reconcile(ctx, reconcile.Key{Namespace: "ns", Name: "web"}); err != nil {
				s.t.Fatal(err)
			}
		case 1, 2:
			sets, _ := s.fake.List(ctx, reconcile.ReplicaSets(), "ns", nil)
			if len(sets) > 0 {
				if _, err := s.rs.Reconcile(ctx, reconcile.KeyOf(sets[s.rng.IntN(len(sets))])); err != nil {
					s.t.Fatal(err)
				}
			}
		case 3:
			pods, _ := reconcile.List[*corev1.Pod](ctx, s.fake, reconcile.Pods(), "ns", nil)
			if len(pods) > 0 {
				s.kubelet(pods[s.rng.IntN(len(pods))])
			}
		}
		if s.check != nil {
			s.check()
		}
	}
}

func (s *sim) condition(t appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	for _, c := range s.get().Status.Conditions {
		if c.Type == t {
			return &c
		}
	}
	return nil
}

func (s *sim) wantComplete(image string) {
	s.t.Helper()
	d := s.get()
	if got := d.Spec.Template.Spec.Containers[0].Image; got != image {
		s.t.Fatalf("image %s, want %s", got, image)
	}
	if n := *d.Spec.Replicas; d.Status.AvailableReplicas != n || d.Status.UpdatedReplicas != n || d.Status.Replicas != n {
		s.t.Fatalf("not complete: %+v", d.Status)
	}
}

func TestRollingUpdateKeepsFloorAndCeiling(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s := newSim(t, seed)
			n := int32(1 + s.rng.IntN(8))
			s.create(n, "v1")
			surge, un := int32(s.rng.IntN(3)), int32(s.rng.IntN(3))
			if surge+un == 0 {
				surge = 1
			}
			s.change(func(d *appsv1.Deployment) {
				d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: ptr.To(intstr.FromInt32(surge)), MaxUnavailable: ptr.To(intstr.FromInt32(un))}
			})
			s.run(1500)
			s.wantComplete("v1")
			s.check = func() {
				pods, _ := reconcile.List[*corev1.Pod](context.Background(), s.fake, reconcile.Pods(), "ns", nil)
				var ok, all int32
				for _, p := range pods {
					if reconcile.PodActive(p) {
						all++
						if r, _ := reconcile.PodReady(p); r {
							ok++
						}
					}
				}
				if ok < n-un || all > n+surge {
					t.Fatalf("%d available (floor %d), %d pods (ceiling %d)", ok, n-un, all, n+surge)
				}
			}
			s.image("v2")
			s.run(300)
			s.image("v3")
			s.run(6000)
			s.wantComplete("v3")
		})
	}
}

func TestFailedUpdateComesBack(t *testing.T) {
	for _, bad := range []string{"crash", "never"} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprint(bad, restart), func(t *testing.T) {
				s := newSim(t, 7)
				s.create(3, "v1")
				s.run(1000)
				s.wantComplete("v1")
				s.image(bad)
				for range 3 {
					s.run(500)
					if restart {
						s.restart()
					}
					s.clock.Step(61 * time.Second)
				}
				s.run(1000)
				s.wantComplete("v1")
				if c := s.condition(api.ConditionRolledBack); c == nil || c.Status != corev1.ConditionTrue {
					t.Fatalf("condition: %+v", c)
				}
			})
		}
	}
}

func TestARollbackIsForgottenOnceALaterUpdateCompletes(t *testing.T) {
	s := newSim(t, 5)
	s.create(2, "v1")
	s.run(800)
	s.image("crash")
	s.run(800)
	s.wantComplete("v1")
	if s.get().Annotations[api.AnnotationRolledBackFrom] == "" {
		t.Fatal("no record")
	}
	s.image("v2")
	s.run(1200)
	s.wantComplete("v2")
	if d := s.get(); d.Annotations[api.AnnotationRolledBackFrom] != "" || s.condition(api.ConditionRolledBack) != nil {
		t.Errorf("still there: %v %+v", d.Annotations, s.condition(api.ConditionRolledBack))
	}
}

func TestNoRollbackWhereNoneIsDue(t *testing.T) {
	t.Run("broken first revision", func(t *testing.T) {
		s := newSim(t, 1)
		s.create(2, "crash")
		s.run(800)
		if c := s.condition(api.ConditionRolledBack); c == nil || c.Reason != deployment.ReasonNoTarget {
			t.Fatalf("condition: %+v", c)
		}
	})
	t.Run("annotation off", func(t *testing.T) {
		s := newSim(t, 1)
		s.create(2, "v1")
		s.run(800)
		s.change(func(d *appsv1.Deployment) { d.Annotations[api.AnnotationAutoRollback] = "false" })
		s.image("crash")
		s.run(800)
		if s.get().Spec.Template.Spec.Containers[0].Image != "crash" {
			t.Fatal("rolled back although turned off")
		}
	})
}

// A rollback that fails, too, stays where it is: both revisions are bad now, and going back and
// forth helps nobody.
func TestARollbackIsNeverRolledBack(t *testing.T) {
	s := newSim(t, 3)
	s.create(3, "never-mind") // ready by hand, once
	ready := func() {
		pods, _ := reconcile.List[*corev1.Pod](context.Background(), s.fake, reconcile.Pods(), "ns", nil)
		for _, p := range pods {
			n := p.DeepCopy()
			n.Status.Phase = corev1.PodRunning
			n.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(s.clock.Now())}}
			_, _ = s.fake.Update(context.Background(), reconcile.Pods(), "status", n)
		}
	}
	for range 5 {
		s.run(200)
		ready()
	}
	s.run(300)
	s.wantComplete("never-mind")
	s.change(func(d *appsv1.Deployment) { d.Spec.Strategy.Type = appsv1.RecreateDeploymentStrategyType }) // so that the good pods are gone
	s.image("never-ready")
	s.run(500)
	s.clock.Step(61 * time.Second)
	s.run(1000)
	if got := s.get().Spec.Template.Spec.Containers[0].Image; got != "never-mind" {
		t.Fatalf("after a missed deadline the image is %s", got)
	}
	record := s.get().Annotations[api.AnnotationRolledBackFrom]
	for range 4 { // its pods don't come up either
		s.run(500)
		s.clock.Step(61 * time.Second)
	}
	if d := s.get(); d.Spec.Template.Spec.Containers[0].Image != "never-mind" || d.Annotations[api.AnnotationRolledBackFrom] != record {
		t.Fatalf("the rollback was rolled back: %s", d.Annotations[api.AnnotationRolledBackFrom])
	}
	if c := s.condition(appsv1.DeploymentProgressing); c == nil || c.Reason != "ProgressDeadlineExceeded" {
		t.Errorf("the rollback's own failure isn't told: %+v", c)
	}
}

// Somebody was faster than the rollback: the fix is an update like any other, and nothing comes back.
func TestAFixBeforeTheRollbackIsJustAnUpdate(t *testing.T) {
	for _, bad := range []string{"never", "crash"} {
		for seed := range uint64(4) {
			s := newSim(t, seed)
			s.create(3, "v1")
			s.run(1000)
			s.image(bad)
			s.run(int(2 * seed)) // hardly begun
			s.image("v2")
			s.run(2000)
			s.wantComplete("v2")
			if c := s.condition(api.ConditionRolledBack); c != nil {
				t.Errorf("%s, %d: %+v", bad, seed, c)
			}
		}
	}
}

// What failed is left behind, so that people can look at it and history counts on.
func TestHistoryAfterARollbackCountsOn(t *testing.T) {
	s := newSim(t, 11)
	s.create(2, "v1")
	s.run(1000)
	s.image("crash")
	s.run(2000)
	s.wantComplete("v1")
	if got := s.get().Annotations["deployment.kubernetes.io/revision"]; got != "3" {
		t.Errorf("the deployment is at revision %s, want 3, as after an undo", got)
	}
	sets, _ := reconcile.List[*appsv1.ReplicaSet](context.Background(), s.fake, reconcile.ReplicaSets(), "ns", nil)
	for _, rs := range sets {
		a, image := rs.Annotations, rs.Spec.Template.Spec.Containers[0].Image
		want := map[string][2]string{"v1": {"3", "1"}, "crash": {"2", ""}}[image]
		if a["deployment.kubernetes.io/revision"] != want[0] || a["deployment.kubernetes.io/revision-history"] != want[1] {
			t.Errorf("%s: revision %s, earlier %q", image, a["deployment.kubernetes.io/revision"], a["deployment.kubernetes.io/revision-history"])
		}
		if image == "crash" && *rs.Spec.Replicas != 0 {
			t.Errorf("the failed set still has %d replicas", *rs.Spec.Replicas)
		}
	}
}

// minReadySeconds holds a rollout back until pods have been ready that long.
func TestPodsCountAfterMinReadySeconds(t *testing.T) {
	s := newSim(t, 2)
	s.create(2, "v1")
	s.change(func(d *appsv1.Deployment) { d.Spec.MinReadySeconds = 30 })
	s.run(800)
	if n := s.get().Status.AvailableReplicas; n != 0 {
		t.Fatalf("%d available at once", n)
	}
	if n := s.get().Status.ReadyReplicas; n != 2 {
		t.Fatalf("%d ready", n)
	}
	s.clock.Step(31 * time.Second)
	s.run(800)
	s.wantComplete("v1")
}

// A paused deployment makes no set of its new template, and its pause is no missed deadline.
func TestAPauseIsNoFailure(t *testing.T) {
	s := newSim(t, 4)
	s.create(2, "v1")
	s.run(800)
	s.change(func(d *appsv1.Deployment) { d.Spec.Paused = true })
	s.run(50)
	s.image("v2")
	s.clock.Step(time.Hour)
	s.run(800)
	if c := s.condition(appsv1.DeploymentProgressing); c == nil || c.Reason != "DeploymentPaused" {
		t.Errorf("%+v", c)
	}
	sets, _ := s.fake.List(context.Background(), reconcile.ReplicaSets(), "ns", nil)
	if len(sets) != 1 {
		t.Errorf("%d sets", len(sets))
	}
	s.change(func(d *appsv1.Deployment) { d.Spec.Paused = false })
	s.run(1500)
	s.wantComplete("v2")
	if c := s.condition(api.ConditionRolledBack); c != nil {
		t.Errorf("%+v", c)
	}
}

// A program without a readiness probe is ready until it crashes, so its rollout completes first.
func TestACrashSoonAfterTheRolloutCompletedComesBack(t *testing.T) {
	for _, late := range []bool{false, true} {
		s := newSim(t, 6)
		s.create(3, "v1")
		s.run(1000)
		s.image("late")
		s.run(2000)
		s.wantComplete("late")
		if late {
			s.clock.Step(61 * time.Second) // its progress deadline
		}
		s.crashed = true
		s.run(2000)
		want := "v1"
		if late {
			want = "late"
		}
		if got := s.get().Spec.Template.Spec.Containers[0].Image; got != want {
			t.Errorf("late %v: the image is %s", late, got)
		}
		if c := s.condition(api.ConditionRolledBack); (c != nil) == late {
			t.Errorf("late %v: %+v", late, c)
		}
	}
}
