package statefulset_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/rollback"
)

const rolledBack = string(api.ConditionRolledBack)

// The documentation's "forced rollback": there the broken pod must be deleted by hand.
func TestTheWayBackNeedsNobodysHand(t *testing.T) {
	for _, policy := range []appsv1.PodManagementPolicyType{"OrderedReady", "Parallel"} {
		for _, bad := range []string{"never", "crash"} {
			for _, to := range []string{"v1", "v3"} {
				t.Run(fmt.Sprint(policy, bad, to), func(t *testing.T) {
					s := newSim(t, 3)
					s.create(3, "v1", func(set *appsv1.StatefulSet) {
						set.Spec.PodManagementPolicy = policy
						set.Annotations = map[string]string{api.AnnotationAutoRollback: "false"}
					})
					s.run(300)
					s.image(bad)
					s.run(300)
					if got := s.pod("web-2").Spec.Containers[0].Image; got != bad || s.pod("web-1").Spec.Containers[0].Image != "v1" {
						t.Fatalf("the update didn't stop at its first pod: %s", got)
					}
					s.image(to)
					s.run(400)
					s.wantComplete(to)
				})
			}
		}
	}
}

func TestASetThatNeverWorkedIsMendedByItsNextTemplate(t *testing.T) {
	for _, policy := range []appsv1.PodManagementPolicyType{"OrderedReady", "Parallel"} {
		s := newSim(t, 3)
		s.create(3, "never", func(set *appsv1.StatefulSet) { set.Spec.PodManagementPolicy = policy })
		s.run(100)
		s.image("v2")
		s.run(300)
		s.wantComplete("v2")
	}
}

// A pod of a good revision that is only slow isn't taken for a broken one.
func TestAnUpdateWaitsForAPodThatIsOnlySlow(t *testing.T) {
	s := newSim(t, 3)
	s.create(3, "v1")
	s.run(300)
	s.setReady(s.pod("web-1"), false)
	s.image("v2")
	for range 10 {
		s.reconcile()
	}
	for _, p := range s.pods() {
		if p.DeletionTimestamp != nil || p.Spec.Containers[0].Image != "v1" {
			t.Fatalf("%s was replaced while web-1 isn't ready", p.Name)
		}
	}
	s.run(300)
	s.wantComplete("v2")
}

func TestAFailedUpdateComesBack(t *testing.T) {
	for _, policy := range []appsv1.PodManagementPolicyType{"OrderedReady", "Parallel"} {
		for _, bad := range []string{"crash", "never"} {
			for _, restart := range []bool{false, true} {
				t.Run(fmt.Sprint(policy, bad, restart), func(t *testing.T) {
					s := newSim(t, 7)
					s.create(3, "v1", func(set *appsv1.StatefulSet) {
						set.Spec.PodManagementPolicy = policy
						set.Annotations = map[string]string{api.AnnotationProgressDeadline: "60"}
					})
					s.run(300)
					s.wantComplete("v1")
					s.image(bad)
					for range 3 {
						s.run(150)
						if restart {
							s.restart()
						}
						s.clock.Step(61 * time.Second)
					}
					s.run(400)
					s.wantComplete("v1")
					c := s.condition(rolledBack)
					if want := map[string]string{"crash": rollback.ReasonCrashLoop, "never": rollback.ReasonDeadline}[bad]; c == nil || c.Status != corev1.ConditionTrue || c.Reason != want {
						t.Fatalf("condition: %+v", c)
					}
					if s.get().Annotations[api.AnnotationRolledBackFrom] == "" {
						t.Error("no record")
					}
					// A later update that completes forgets it.
					s.image("v2")
					s.run(500)
					s.wantComplete("v2")
					if set := s.get(); set.Annotations[api.AnnotationRolledBackFrom] != "" || s.condition(rolledBack) != nil {
						t.Errorf("still there: %v %+v", set.Annotations, s.condition(rolledBack))
					}
				})
			}
		}
	}
}

func TestTheDefaultDeadlineIsTenMinutes(t *testing.T) {
	s := newSim(t, 7)
	s.create(2, "v1")
	s.run(200)
	s.image("never")
	s.run(100)
	s.clock.Step(590 * time.Second)
	s.run(50)
	if s.get().Spec.Template.Spec.Containers[0].Image != "never" {
		t.Fatal("it came back early")
	}
	s.clock.Step(20 * time.Second)
	s.run(200)
	s.wantComplete("v1")
}

func TestNoRollbackWhereNoneIsDue(t *testing.T) {
	t.Run("broken first revision", func(t *testing.T) {
		s := newSim(t, 1)
		s.create(2, "crash")
		s.run(200)
		if c := s.condition(rolledBack); c == nil || c.Status != corev1.ConditionFalse || c.Reason != rollback.ReasonNoTarget {
			t.Fatalf("condition: %+v", c)
		}
	})
	t.Run("turned off", func(t *testing.T) {
		s := newSim(t, 1)
		s.create(2, "v1", func(set *appsv1.StatefulSet) {
			set.Annotations = map[string]string{api.AnnotationAutoRollback: "false"}
		})
		s.run(200)
		s.image("crash")
		s.run(200)
		if got := s.get().Spec.Template.Spec.Containers[0].Image; got != "crash" {
			t.Fatalf("rolled back to %s although turned off", got)
		}
	})
	t.Run("a rollback that fails too", func(t *testing.T) {
		s := newSim(t, 1)
		s.create(2, "v1")
		s.run(200)
		s.image("crash")
		s.run(200)
		s.wantComplete("v1")
		record := s.get().Annotations[api.AnnotationRolledBackFrom]
		for _, p := range s.pods() {
			s.status(p, func(st *corev1.PodStatus) {
				st.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", RestartCount: 9}}
			})
		}
		s.run(50)
		if set := s.get(); set.Annotations[api.AnnotationRolledBackFrom] != record || set.Spec.Template.Spec.Containers[0].Image != "v1" {
			t.Fatal("the rollback was rolled back")
		}
	})
	t.Run("a crash long after the update", func(t *testing.T) {
		for _, late := range []bool{false, true} {
			s := newSim(t, 1)
			s.create(2, "v1")
			s.run(200)
			s.clock.Step(time.Hour)
			s.image("v2")
			s.run(200)
			s.wantComplete("v2")
			if late {
				s.clock.Step(601 * time.Second)
			}
			s.status(s.pod("web-0"), func(st *corev1.PodStatus) {
				st.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", RestartCount: 3}}
			})
			s.run(200)
			want := map[bool]string{false: "v1", true: "v2"}[late]
			if got := s.get().Spec.Template.Spec.Containers[0].Image; got != want {
				t.Errorf("late %v: the image is %s", late, got)
			}
		}
	})
	t.Run("a canary that has done well", func(t *testing.T) {
		s := newSim(t, 1)
		s.create(3, "v1", func(set *appsv1.StatefulSet) {
			set.Spec.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{Type: "RollingUpdate", RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: ptr.To[int32](2)}}
		})
		s.run(300)
		s.image("v2")
		s.run(300)
		for range 3 {
			s.clock.Step(time.Hour)
			s.run(50)
		}
		if got := s.pod("web-2").Spec.Containers[0].Image; got != "v2" {
			t.Fatalf("web-2 is of %s", got)
		}
		s.image("crash")
		s.run(300)
		if got := s.pod("web-2").Spec.Containers[0].Image; got != "v1" { // what all were of last
			t.Errorf("after a failed canary web-2 is of %s", got)
		}
	})
}

// Random failures, a controller that is stopped anywhere, answers that are lost: never two pods of one ordinal, nothing is
// made twice, ordered means ordered, and all comes right at the end.
func TestChaosEndsWell(t *testing.T) {
	for _, policy := range []appsv1.PodManagementPolicyType{"OrderedReady", "Parallel"} {
		for seed := range uint64(3) {
			t.Run(fmt.Sprint(policy, seed), func(t *testing.T) {
				s := newSim(t, seed)
				s.faulty = 0.05
				s.restart()
				s.create(int32(2+s.rng.IntN(4)), "v1", withClaims("Delete", "Delete"), func(set *appsv1.StatefulSet) { set.Spec.PodManagementPolicy = policy })
				alive := map[string]bool{}
				s.wrote = func(verb string, gvr schema.GroupVersionResource, o api.Object) {
					if gvr != reconcile.Pods() || verb != "create" {
						return
					}
					if !strings.HasPrefix(o.GetName(), "web-") || o.GetLabels()["apps.kubernetes.io/pod-index"] != fmt.Sprint(ordinal(o.GetName())) {
						t.Errorf("a pod without identity: %s %v", o.GetName(), o.GetLabels())
					}
					if policy == "OrderedReady" {
						for i := range ordinal(o.GetName()) {
							if !alive[fmt.Sprintf("web-%d", i)] {
								t.Errorf("%s is made while web-%d isn't ready", o.GetName(), i)
							}
						}
					}
				}
				note := func() {
					clear(alive)
					for _, p := range s.pods() {
						ok, _ := reconcile.PodReady(p)
						alive[p.Name] = ok && p.DeletionTimestamp == nil && p.Status.Phase == corev1.PodRunning
					}
				}
				s.check = note
				for round := range 12 {
					switch s.rng.IntN(5) {
					case 0:
						s.scale(int32(s.rng.IntN(6)))
					case 1:
						s.image(fmt.Sprintf("v%d", round))
					case 2:
						s.image([]string{"never", "crash"}[s.rng.IntN(2)])
					case 3:
						if pods := s.pods(); len(pods) > 0 {
							if p := pods[s.rng.IntN(len(pods))]; !reconcile.PodTerminal(p) && p.DeletionTimestamp == nil {
								s.fail(p)
							}
						}
					case 4:
						s.restart()
					}
					note()
					s.run(s.rng.IntN(120))
					s.clock.Step(time.Duration(s.rng.IntN(700)) * time.Second)
					s.run(20)
				}
				s.faulty = 0
				s.restart()
				s.image("last")
				s.scale(3)
				note()
				for range 5 { // claims that go with their pods are collected by nobody here
					claims, _ := reconcile.List[*corev1.PersistentVolumeClaim](context.Background(), s.fake, reconcile.PersistentVolumeClaims(), "ns", nil)
					for _, c := range claims {
						for _, r := range c.OwnerReferences {
							if r.Kind == "Pod" && (s.pod(r.Name) == nil || s.pod(r.Name).UID != r.UID) {
								s.drop(c.Name)
							}
						}
					}
					s.run(300)
					s.clock.Step(10 * time.Minute)
				}
				s.run(300)
				s.wantComplete("last")
			})
		}
	}
}
