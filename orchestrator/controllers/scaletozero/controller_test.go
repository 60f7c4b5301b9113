package scaletozero

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	testclock "k8s.io/utils/clock/testing"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/reconciletest"
)

func deployment(name string, replicas int32, label string) *appsv1.Deployment {
	labels := map[string]string{"app": label, "version": "1"}
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: name}, Spec: appsv1.DeploymentSpec{Replicas: &replicas,
		Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}}}}
}

type world struct {
	t     *testing.T
	fake  *reconciletest.Fake
	clock *testclock.FakeClock
	loop  *reconcile.Controller
}

func newWorld(t *testing.T, objs ...api.Object) *world {
	w := &world{t: t, clock: testclock.NewFakeClock(time.Unix(1e9, 0))}
	w.fake = reconciletest.New(w.clock.Now)
	w.loop = New(reconcile.Env{Client: w.fake, Clock: w.clock}, nil, api.All())
	for _, o := range objs {
		gvr := reconcile.Services()
		if _, ok := o.(*appsv1.Deployment); ok {
			gvr = reconcile.Deployments()
		}
		if _, err := w.fake.Create(t.Context(), gvr, o); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// step reconciles the Service and returns what its workload is to have.
func (w *world) step(service string) int32 {
	w.t.Helper()
	if _, err := w.loop.Reconcile(w.t.Context(), reconcile.Key{Namespace: "d", Name: service}); err != nil {
		w.t.Fatal(err)
	}
	return *w.get().Spec.Replicas
}

func (w *world) get() *appsv1.Deployment {
	w.t.Helper()
	d, err := reconcile.Get[*appsv1.Deployment](w.t.Context(), w.fake, reconcile.Deployments(), "d", "web")
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

// tell writes a node's Lease.
func (w *world) tell(service, held string) {
	w.t.Helper()
	node, at := "n1", metav1.NewMicroTime(w.clock.Now())
	l := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: service + ".standby.n1", Labels: map[string]string{labelService: service},
		Annotations: map[string]string{annotationHeld: held}}, Spec: coordinationv1.LeaseSpec{HolderIdentity: &node, RenewTime: &at}}
	if _, err := w.fake.Update(w.t.Context(), reconcile.Leases(), "", l); err != nil {
		if _, err := w.fake.Create(w.t.Context(), reconcile.Leases(), l); err != nil {
			w.t.Fatal(err)
		}
	}
}

func service(name string, notes map[string]string) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: name, Annotations: notes}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"}}}
}

func TestAnIdleWorkloadGoesToZeroAndComesBackAsItWas(t *testing.T) {
	w := newWorld(t, deployment("web", 3, "web"), deployment("other", 2, "other"), service("web", map[string]string{AnnotationAfter: "20s"}))
	if n := w.step("web"); n != 3 {
		t.Fatalf("%d as soon as it was seen", n)
	}
	w.clock.Step(20 * time.Second)
	w.tell("web", "0")
	w.clock.Step(20 * time.Second)
	if n := w.step("web"); n != 3 {
		t.Fatalf("%d, 20 s after it was used", n)
	}
	w.clock.Step(7 * time.Second)
	if n := w.step("web"); n != 0 || w.get().Annotations[AnnotationBefore] != "3" {
		t.Fatalf("%d idle, %v", n, w.get().Annotations)
	}
	w.clock.Step(time.Hour)
	if n := w.step("web"); n != 0 {
		t.Fatalf("%d without demand", n)
	}
	w.tell("web", "1")
	if n := w.step("web"); n != 3 {
		t.Fatalf("%d with demand", n)
	}
	w.tell("web", "0")
	w.clock.Step(10 * time.Second)
	if n := w.step("web"); n != 3 {
		t.Fatalf("%d right after", n)
	}
	writes := w.fake.Writes()
	for range 5 {
		w.step("web")
	}
	if w.fake.Writes() != writes {
		t.Error("it writes though nothing changes")
	}
}

func TestTheWorkloadOfAService(t *testing.T) {
	for name, c := range map[string]struct {
		notes   map[string]string
		more    api.Object
		problem string
	}{
		"that makes its pods": {},
		"that is named":       {notes: map[string]string{AnnotationTarget: "Deployment/web"}},
		"by a short form":     {notes: map[string]string{AnnotationTarget: "deployments.apps/web"}},
		"of two":              {more: deployment("second", 1, "web"), problem: "AmbiguousScaleTarget"},
		"of two, named":       {more: deployment("second", 1, "web"), notes: map[string]string{AnnotationTarget: "deployment/web"}},
		"that isn't there":    {notes: map[string]string{AnnotationTarget: "deployment/gone"}, problem: "NoScaleTarget"},
		"of another kind":     {notes: map[string]string{AnnotationTarget: "configmap/web"}, problem: "NoScaleTarget"},
		"nonsense":            {notes: map[string]string{AnnotationTarget: "web"}, problem: "NoScaleTarget"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, deployment("web", 3, "web"))
			if c.more != nil {
				if _, err := w.fake.Create(t.Context(), reconcile.Deployments(), c.more); err != nil {
					t.Fatal(err)
				}
			}
			s := &shell{env: reconcile.Env{Client: w.fake}.WithDefaults()}
			for _, k := range api.All() {
				if k.Scale != nil {
					s.kinds = append(s.kinds, k)
				}
			}
			got, bad, err := s.find(t.Context(), service("web", c.notes))
			if err != nil {
				t.Fatal(err)
			}
			if bad != nil && bad.reason != c.problem || bad == nil && (c.problem != "" || got.String() != "deployment/web") {
				t.Errorf("got %v, %+v", got.obj, bad)
			}
		})
	}
}

func TestAMarkThatIsNoneIsToldAndNothingIsScaled(t *testing.T) {
	w := newWorld(t, deployment("web", 3, "web"), service("web", map[string]string{AnnotationAfter: "soon"}))
	w.step("web")
	w.clock.Step(time.Hour)
	if n := w.step("web"); n != 3 {
		t.Errorf("%d", n)
	}
}
