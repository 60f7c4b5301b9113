package nodelifecycle

import (
	"fmt"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/reconciletest"
)

// The cases are those of https://kubernetes.io/docs/concepts/architecture/nodes/#rate-limits-on-eviction.
func TestDecideRatesByZone(t *testing.T) {
	for name, c := range map[string]struct {
		zones   map[string]zone
		want    map[string]float64
		allLost bool
	}{
		"healthy":                               {zones: map[string]zone{"a": {9, 1}}, want: map[string]float64{"a": 0.1}},
		"a small zone of which too much is ill": {zones: map[string]zone{"a": {4, 5}, "b": {3, 0}}, want: map[string]float64{"b": 0.1}},
		"a large one":                           {zones: map[string]zone{"a": {40, 60}, "b": {3, 0}}, want: map[string]float64{"a": 0.01, "b": 0.1}},
		"just below the threshold":              {zones: map[string]zone{"a": {46, 54}}, want: map[string]float64{"a": 0.1}},
		"two of three are too few to tell":      {zones: map[string]zone{"a": {1, 2}}, want: map[string]float64{"a": 0.1}},
		"a zone that is lost":                   {zones: map[string]zone{"a": {0, 5}, "b": {1, 0}}, want: map[string]float64{"a": 0.1, "b": 0.1}},
		"everything is lost":                    {zones: map[string]zone{"a": {0, 5}, "b": {0, 1}}, want: map[string]float64{}, allLost: true},
		"no nodes":                              {},
	} {
		got, allLost := decideRates(c.zones, Rates{}.withDefaults())
		for z, want := range c.want {
			if got[z] != want {
				t.Errorf("%s: zone %s at %v, want %v", name, z, got[z], want)
			}
		}
		if allLost != c.allLost || allLost && len(got) > 0 {
			t.Errorf("%s: all lost %v, %v", name, allLost, got)
		}
		for z, r := range got {
			if r != c.want[z] {
				t.Errorf("%s: zone %s at %v", name, z, r)
			}
		}
	}
}

// field is a cluster whose nodes a test has fall silent, on a clock of its own.
type field struct {
	t     *testing.T
	clock *clocktesting.FakeClock
	fake  *reconciletest.Fake
	loop  *reconcile.Controller
	nodes []string
	dead  map[string]bool
}

func newField(t *testing.T, zones ...int) *field {
	f := &field{t: t, clock: clocktesting.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)), dead: map[string]bool{}}
	f.fake = reconciletest.New(f.clock.Now)
	f.loop = New(reconcile.Env{Client: f.fake, Clock: f.clock}, nil, 0, Rates{})
	for z, n := range zones {
		for i := range n {
			name := fmt.Sprintf("z%d-%02d", z, i)
			f.nodes = append(f.nodes, name)
			node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelTopologyZone: fmt.Sprint("z", z)}},
				Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}}
			if _, err := f.fake.Create(t.Context(), reconcile.Nodes(), node); err != nil {
				t.Fatal(err)
			}
			if _, err := f.fake.Create(t.Context(), reconcile.Leases(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: leaseNamespace, Name: name}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return f
}

// pass lets time go by, a second at a time; the living renew their leases and say that they are ready.
func (f *field) pass(d time.Duration) {
	f.t.Helper()
	for range int(d / time.Second) {
		f.clock.Step(time.Second)
		for _, name := range f.nodes {
			if !f.dead[name] {
				l, _ := reconcile.Get[*coordinationv1.Lease](f.t.Context(), f.fake, reconcile.Leases(), leaseNamespace, name)
				l = l.DeepCopy()
				l.Spec.RenewTime = &metav1.MicroTime{Time: f.clock.Now()}
				if _, err := f.fake.Update(f.t.Context(), reconcile.Leases(), "", l); err != nil {
					f.t.Fatal(err)
				}
				if n := f.node(name); n.Status.Conditions[0].Status != corev1.ConditionTrue {
					n.Status.Conditions[0].Status = corev1.ConditionTrue
					if _, err := f.fake.Update(f.t.Context(), reconcile.Nodes(), "status", n); err != nil {
						f.t.Fatal(err)
					}
				}
			}
			if _, err := f.loop.Reconcile(f.t.Context(), reconcile.Key{Name: name}); err != nil {
				f.t.Fatal(err)
			}
		}
	}
}

func (f *field) node(name string) *corev1.Node {
	f.t.Helper()
	n, err := reconcile.Get[*corev1.Node](f.t.Context(), f.fake, reconcile.Nodes(), "", name)
	if err != nil {
		f.t.Fatal(err)
	}
	return n.DeepCopy()
}

// evicting counts the nodes that lose their pods.
func (f *field) evicting() (n int) {
	for _, name := range f.nodes {
		if _, has := evicts(f.node(name)); has {
			n++
		}
	}
	return n
}

func (f *field) want(n int, when string) {
	f.t.Helper()
	if got := f.evicting(); got != n {
		f.t.Errorf("%s: %d nodes lose their pods, want %d", when, got, n)
	}
}

func TestAFewLostNodesLoseTheirPodsOneAfterTheOther(t *testing.T) {
	f := newField(t, 10)
	f.pass(2 * time.Second)
	for _, n := range f.nodes[:4] {
		f.dead[n] = true
	}
	f.pass(47 * time.Second)
	f.want(1, "at first")
	f.pass(10 * time.Second)
	f.want(2, "10 s later")
	f.pass(20 * time.Second)
	f.want(4, "in the end")
	f.dead = map[string]bool{}
	f.pass(2 * time.Second)
	f.want(0, "once they are back")
	for _, n := range f.nodes {
		if taints := f.node(n).Spec.Taints; len(taints) > 0 {
			t.Errorf("%s has %v", n, taints)
		}
	}
}

func TestNobodyLosesPodsWhileMostOfASmallZoneSeemsLost(t *testing.T) {
	f := newField(t, 9, 3)
	f.pass(2 * time.Second)
	for _, n := range f.nodes[:6] {
		f.dead[n] = true
	}
	f.pass(5 * time.Minute)
	f.want(0, "in the small zone")
	f.dead[f.nodes[10]] = true // in the other zone
	f.pass(time.Minute)
	f.want(1, "in the other zone")
	for _, n := range f.nodes[:6] {
		if taints := f.node(n).Spec.Taints; len(taints) != 1 || taints[0].Effect != corev1.TaintEffectNoSchedule {
			t.Errorf("%s has %v: nothing new should come to it, and nothing leave", n, taints)
		}
	}
	for _, n := range f.nodes[:3] {
		f.dead[n] = false
	}
	f.pass(time.Minute)
	f.want(4, "when less than half of the zone is lost")
}

func TestNobodyLosesPodsWhenTheWholeClusterSeemsLost(t *testing.T) {
	f := newField(t, 3, 3)
	f.pass(2 * time.Second)
	f.dead[f.nodes[0]] = true
	f.pass(time.Minute)
	f.want(1, "one node is lost")
	for _, n := range f.nodes {
		f.dead[n] = true
	}
	f.pass(5 * time.Minute)
	f.want(0, "all are")
	f.dead[f.nodes[5]] = false
	f.pass(2 * time.Minute)
	f.want(5, "one is back")
}
