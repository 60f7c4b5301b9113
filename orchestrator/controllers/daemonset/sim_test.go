package daemonset_test

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
	"github.com/pintle/pintle/orchestrator/controllers/daemonset"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/reconciletest"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/rollback"
)

// sim runs the controller step by step with a scheduler and kubelets that make pods ready unless their image says otherwise.
type sim struct {
	t      *testing.T
	fake   *reconciletest.Fake
	clock  *clocktesting.FakeClock
	c      *reconcile.Controller
	rng    *rand.Rand
	check  func()
	dead   map[string]bool
	faulty float64 // each of the controller's calls fails by that chance, before or after it was done
	seed   uint64
}

func newSim(t *testing.T, seed uint64, nodes int) *sim {
	c := clocktesting.NewFakeClock(time.Unix(1_700_000_000, 0))
	s := &sim{t: t, clock: c, fake: reconciletest.New(c.Now), rng: rand.New(rand.NewPCG(seed, 2)), dead: map[string]bool{}, seed: seed}
	for i := range nodes {
		s.node(fmt.Sprintf("n%d", i))
	}
	s.restart()
	return s
}

func (s *sim) restart() {
	env := reconcile.Env{Client: s.fake, Clock: s.clock}
	if s.faulty > 0 {
		s.seed++
		env.Client = s.fake.Faulty(reconciletest.Faults{Error: s.faulty, Lost: s.faulty, Conflict: s.faulty}, s.seed)
	}
	s.c = daemonset.New(env, nil, 1)
}

func (s *sim) node(name string) {
	_, err := s.fake.Create(context.Background(), reconcile.Nodes(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}})
	if err != nil {
		s.t.Fatal(err)
	}
}

// down makes a node one that is silent: its pods aren't ready, and end no more.
func (s *sim) down(name string, down bool) {
	s.dead[name] = down
	n, err := reconcile.Get[*corev1.Node](context.Background(), s.fake, reconcile.Nodes(), "", name)
	if err != nil || n == nil {
		s.t.Fatal(err)
	}
	m := n.DeepCopy()
	m.Status.Conditions[0].Status = map[bool]corev1.ConditionStatus{true: corev1.ConditionUnknown, false: corev1.ConditionTrue}[down]
	if _, err := s.fake.Update(context.Background(), reconcile.Nodes(), "status", m); err != nil {
		s.t.Fatal(err)
	}
	for _, p := range s.pods() {
		if p.Spec.NodeName == name && down && !reconcile.PodTerminal(p) {
			s.status(p, func(st *corev1.PodStatus) { st.Conditions = nil })
		}
	}
}

func (s *sim) create(image string, unavailable, surge intstr.IntOrString, edit ...func(*appsv1.DaemonSet)) {
	l := map[string]string{"app": "logs"}
	set := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "logs", Annotations: map[string]string{api.AnnotationProgressDeadline: "60"}},
		Spec: appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: l}, UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: "RollingUpdate",
			RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &unavailable, MaxSurge: &surge}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: l}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image}}}}}}
	for _, f := range edit {
		f(set)
	}
	api.ByGVR(api.All(), reconcile.DaemonSets()).Default(set)
	if _, err := s.fake.Create(context.Background(), reconcile.DaemonSets(), set); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sim) get() *appsv1.DaemonSet {
	o, err := s.fake.Get(context.Background(), reconcile.DaemonSets(), "ns", "logs")
	if err != nil {
		s.t.Fatal(err)
	}
	return o.(*appsv1.DaemonSet)
}

func (s *sim) image(i string) {
	set := s.get().DeepCopy()
	set.Spec.Template.Spec.Containers[0].Image = i
	if _, err := s.fake.Update(context.Background(), reconcile.DaemonSets(), "", set); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sim) pods() []*corev1.Pod {
	pods, err := reconcile.List[*corev1.Pod](context.Background(), s.fake, reconcile.Pods(), "ns", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return pods
}

func (s *sim) status(p *corev1.Pod, f func(*corev1.PodStatus)) {
	n := p.DeepCopy()
	f(&n.Status)
	if _, err := s.fake.Update(context.Background(), reconcile.Pods(), "status", n); err != nil {
		s.t.Fatal(err)
	}
}

// forNode is the node that the pod's affinity names.
func forNode(p *corev1.Pod) string {
	return p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms[0].MatchFields[0].Values[0]
}

func (s *sim) kubelet(p *corev1.Pod) {
	ctx := context.Background()
	switch {
	case p.Spec.NodeName == "":
		n := p.DeepCopy()
		n.Spec.NodeName = forNode(p)
		_, _ = s.fake.Update(ctx, reconcile.Pods(), "", n)
	case s.dead[p.Spec.NodeName]:
	case p.DeletionTimestamp != nil:
		_ = s.fake.Delete(ctx, reconcile.Pods(), p.Namespace, p.Name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)})
	case reconcile.PodTerminal(p):
	case strings.HasPrefix(p.Spec.Containers[0].Image, "crash"):
		s.status(p, func(st *corev1.PodStatus) {
			st.Phase, st.ContainerStatuses = corev1.PodRunning, []corev1.ContainerStatus{{Name: "c", RestartCount: 3}}
		})
	case strings.HasPrefix(p.Spec.Containers[0].Image, "never"):
		s.status(p, func(st *corev1.PodStatus) { st.Phase = corev1.PodRunning })
	default:
		if ok, _ := reconcile.PodReady(p); !ok {
			s.status(p, func(st *corev1.PodStatus) {
				st.Phase = corev1.PodRunning
				st.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(s.clock.Now())}}
			})
		}
	}
}

func (s *sim) run(steps int) {
	for range steps {
		if s.rng.IntN(2) == 0 {
			if _, err := s.c.Reconcile(context.Background(), reconcile.Key{Namespace: "ns", Name: "logs"}); err != nil && s.faulty == 0 {
				s.t.Fatal(err)
			}
		} else if pods := s.pods(); len(pods) > 0 {
			s.kubelet(pods[s.rng.IntN(len(pods))])
		}
		if s.check != nil {
			s.check()
		}
	}
}

func (s *sim) wantComplete(image string, nodes int32) {
	s.t.Helper()
	set := s.get()
	if got := set.Spec.Template.Spec.Containers[0].Image; got != image {
		s.t.Fatalf("the template's image is %s, want %s", got, image)
	}
	st := set.Status
	if st.DesiredNumberScheduled != nodes || st.CurrentNumberScheduled != nodes || st.NumberAvailable != nodes || st.UpdatedNumberScheduled != nodes || st.NumberMisscheduled != 0 {
		s.t.Fatalf("not complete: %+v", st)
	}
	on := map[string]bool{}
	for _, p := range s.pods() {
		if p.Spec.Containers[0].Image != image || on[p.Spec.NodeName] || p.Spec.NodeName != forNode(p) {
			s.t.Fatalf("%s of %s on %s", p.Name, p.Spec.Containers[0].Image, p.Spec.NodeName)
		}
		on[p.Spec.NodeName] = true
	}
}

func (s *sim) condition(t string) *appsv1.DaemonSetCondition {
	for _, c := range s.get().Status.Conditions {
		if string(c.Type) == t {
			return &c
		}
	}
	return nil
}

func TestEveryNodeGetsOneAndNoOther(t *testing.T) {
	s := newSim(t, 1, 3)
	s.create("v1", intstr.FromInt32(1), intstr.FromInt32(0))
	s.run(100)
	s.wantComplete("v1", 3)
	s.node("n3")
	s.run(60)
	s.wantComplete("v1", 4)
	n, _ := reconcile.Get[*corev1.Node](context.Background(), s.fake, reconcile.Nodes(), "", "n1")
	m := n.DeepCopy()
	m.Spec.Taints = []corev1.Taint{{Key: "team", Effect: corev1.TaintEffectNoExecute}}
	_, _ = s.fake.Update(context.Background(), reconcile.Nodes(), "", m)
	s.run(60)
	s.wantComplete("v1", 3)
}

func TestAnUpdateStaysAboveItsFloorAndBelowItsCeiling(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s := newSim(t, seed, 3+int(seed))
			nodes := int32(3 + seed)
			unavailable, surge := int32(0), int32(0)
			if seed%2 == 0 {
				unavailable = 1 + s.rng.Int32N(nodes)
			} else {
				surge = 1 + s.rng.Int32N(nodes)
			}
			s.create("v1", intstr.FromInt32(unavailable), intstr.FromInt32(surge))
			s.run(400)
			s.wantComplete("v1", nodes)
			s.check = func() {
				var serving, alive int32
				for _, p := range s.pods() {
					if !reconcile.PodActive(p) {
						continue
					}
					alive++
					if ok, _ := reconcile.PodReady(p); ok {
						serving++
					}
				}
				if serving < nodes-unavailable || alive > nodes+surge {
					t.Fatalf("%d serve of %d (%d may be missing), %d there are (%d may be more)", serving, nodes, unavailable, alive, surge)
				}
			}
			s.image("v2")
			s.run(900)
			s.check = nil
			s.wantComplete("v2", nodes)
		})
	}
}

func TestAFailedUpdateComesBack(t *testing.T) {
	for _, bad := range []string{"crash", "never"} {
		for _, surge := range []int32{0, 1} {
			for _, restart := range []bool{false, true} {
				t.Run(fmt.Sprint(bad, surge, restart), func(t *testing.T) {
					s := newSim(t, 7, 4)
					s.create("v1", intstr.FromInt32(1-surge), intstr.FromInt32(surge))
					s.run(200)
					s.wantComplete("v1", 4)
					s.image(bad)
					for range 3 {
						s.run(100)
						if restart {
							s.restart()
						}
						s.clock.Step(61 * time.Second)
					}
					s.run(300)
					s.wantComplete("v1", 4)
					want := map[string]string{"crash": rollback.ReasonCrashLoop, "never": rollback.ReasonDeadline}[bad]
					if c := s.condition(string(api.ConditionRolledBack)); c == nil || c.Status != corev1.ConditionTrue || c.Reason != want {
						t.Fatalf("condition: %+v", c)
					}
					s.image("v2")
					s.run(400)
					s.wantComplete("v2", 4)
					if set := s.get(); set.Annotations[api.AnnotationRolledBackFrom] != "" || s.condition(string(api.ConditionRolledBack)) != nil {
						t.Errorf("still there: %v %+v", set.Annotations, set.Status.Conditions)
					}
				})
			}
		}
	}
}

func TestANodeThatIsDownIsNoFailedUpdate(t *testing.T) {
	s := newSim(t, 7, 4)
	s.create("v1", intstr.FromInt32(2), intstr.FromInt32(0))
	s.run(200)
	s.down("n1", true)
	s.run(20)
	s.image("v2")
	for range 5 {
		s.run(150)
		s.clock.Step(61 * time.Second)
	}
	if set := s.get(); set.Spec.Template.Spec.Containers[0].Image != "v2" || s.condition(string(api.ConditionRolledBack)) != nil {
		t.Fatalf("rolled back for a node that is down: %+v", set.Status)
	}
	if st := s.get().Status; st.UpdatedNumberScheduled != 3 || st.NumberAvailable != 3 {
		t.Fatalf("the others weren't updated: %+v", st)
	}
	s.down("n1", false)
	s.run(200)
	s.wantComplete("v2", 4)
	// With all of the budget used up by nodes that are down, the update waits, and is not rolled back either.
	s.down("n1", true)
	s.down("n2", true)
	s.image("v3")
	for range 5 {
		s.run(100)
		s.clock.Step(61 * time.Second)
	}
	if got := s.get().Spec.Template.Spec.Containers[0].Image; got != "v3" {
		t.Fatalf("rolled back to %s", got)
	}
	s.down("n1", false)
	s.down("n2", false)
	s.run(300)
	s.wantComplete("v3", 4)
}

func TestNoRollbackWithoutAnEarlierRevision(t *testing.T) {
	s := newSim(t, 7, 2)
	s.create("crash", intstr.FromInt32(1), intstr.FromInt32(0))
	s.run(100)
	if c := s.condition(string(api.ConditionRolledBack)); c == nil || c.Status != corev1.ConditionFalse || c.Reason != rollback.ReasonNoTarget {
		t.Fatalf("condition: %+v", c)
	}
	s.image("v1")
	s.run(200)
	s.wantComplete("v1", 2)
}

// Random failures of pods and nodes, a controller that is stopped anywhere, answers that are lost: never two pods of one
// revision on a node, and all comes right at the end.
func TestChaosEndsWell(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s := newSim(t, seed, 4)
			s.faulty = 0.05
			s.restart()
			surge := int32(seed % 2)
			s.create("v1", intstr.FromInt32(1-surge), intstr.FromInt32(surge))
			s.check = func() {
				on := map[string]int32{}
				for _, p := range s.pods() {
					if reconcile.PodActive(p) {
						if on[forNode(p)]++; on[forNode(p)] > 1+surge {
							t.Fatalf("%d pods for %s", on[forNode(p)], forNode(p))
						}
					}
				}
			}
			for round := range 12 {
				switch s.rng.IntN(5) {
				case 0:
					s.image(fmt.Sprintf("v%d", round))
				case 1:
					s.image([]string{"never", "crash"}[s.rng.IntN(2)])
				case 2:
					if pods := s.pods(); len(pods) > 0 {
						if p := pods[s.rng.IntN(len(pods))]; p.DeletionTimestamp == nil && !reconcile.PodTerminal(p) {
							s.status(p, func(st *corev1.PodStatus) { st.Phase, st.Conditions = corev1.PodFailed, nil })
						}
					}
				case 3:
					name := fmt.Sprintf("n%d", s.rng.IntN(4))
					s.down(name, !s.dead[name])
				case 4:
					s.restart()
				}
				s.run(s.rng.IntN(100))
				s.clock.Step(time.Duration(s.rng.IntN(100)) * time.Second)
			}
			s.faulty = 0
			s.restart()
			for i := range 4 {
				s.down(fmt.Sprintf("n%d", i), false)
			}
			s.image("last")
			for range 4 {
				s.run(200)
				s.clock.Step(10 * time.Minute)
			}
			s.run(200)
			s.wantComplete("last", 4)
		})
	}
}
