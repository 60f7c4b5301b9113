package recommender

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
	testclock "k8s.io/utils/clock/testing"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/reconciletest"
)

func near(got, want float64) bool { return math.Abs(got-want) <= 0.051*want }

func TestAHistogramForgets(t *testing.T) {
	now := time.Unix(1e9, 0)
	h := newHistogram(0.005, now)
	if h.percentile(0.95) != 0 {
		t.Error("a percentile of nothing")
	}
	for i := range 100 {
		h.add(float64(i+1)/100, now, 1)
	}
	if p := h.percentile(0.95); !near(p, 0.95) {
		t.Errorf("p95 of 0.01 to 1 is %v", p)
	}
	if p := h.percentile(0.5); !near(p, 0.5) {
		t.Errorf("p50 is %v", p)
	}
	for range 100 { // ten days later the old ones count a thousandth
		h.add(2, now.Add(10*24*time.Hour), 1)
	}
	if p := h.percentile(0.05); !near(p, 2) {
		t.Errorf("p5, ten days later: %v", p)
	}
	h.add(3, now.Add(60*24*time.Hour), 1) // past what a weight may be
	if p := h.percentile(0.5); !near(p, 3) {
		t.Errorf("p50, two months later: %v", p)
	}
}

func mib(l corev1.ResourceList) float64 {
	q := l[corev1.ResourceMemory]
	return float64(q.Value()) / (1 << 20)
}

func TestWhatIsSuggested(t *testing.T) {
	now := time.Unix(1e9, 0)
	spec := &corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2")}}}, {Name: "idle"}}}
	s := state{}
	if out := s.suggest(spec); len(out) != 2 || out[0].Suggested != nil || out[0].Now.Cpu().String() != "2" {
		t.Errorf("of nothing: %+v", out)
	}
	for i := range 600 { // ten hours: a tenth of a CPU, and now and then half of one; memory between 50 and 100 MiB
		x := sample{"p", "c", 0.1, 50 << 20}
		if i%10 == 0 {
			x.cpu = 0.5
		}
		if i%60 == 30 {
			x.bytes = 100 << 20
		}
		s.observe([]sample{x}, nil, now.Add(time.Duration(i)*time.Minute))
	}
	now = now.Add(10 * time.Hour)
	c := s.suggest(spec)[0]
	if cpu := c.Suggested[corev1.ResourceCPU]; !near(float64(cpu.MilliValue()), 575) {
		t.Errorf("CPU %v, for half a CPU in a tenth of the time", &cpu)
	}
	if !near(mib(c.Suggested), 115) || c.Samples != 600 {
		t.Errorf("memory %v MiB for peaks of 100, %d samples", mib(c.Suggested), c.Samples)
	}
	again := load(s.save()).suggest(spec)
	if worth([]api.ContainerRecommendation{c}, again[:1]) || again[0].Samples != 600 {
		t.Errorf("after a checkpoint: %+v", again[0])
	}
	kill := oomKill{"p", "c", now, 256 << 20}
	for range 3 { // seen again, and not counted again
		s.observe(nil, []oomKill{kill}, now)
	}
	if c := s.suggest(spec)[0]; c.OOMKills != 1 || mib(c.Suggested) < 356 {
		t.Errorf("after it was killed with 256 MiB: %+v, %v MiB", c, mib(c.Suggested))
	}
	if load("{").suggest(spec)[0].Suggested != nil {
		t.Error("a checkpoint that is none")
	}
}

type meter struct {
	clock *testclock.FakeClock
	cpu   string
	asked int
}

func (m *meter) MetricsOf(_ context.Context, pods []*corev1.Pod) ([]metricsv1beta1.PodMetrics, error) {
	m.asked++
	return []metricsv1beta1.PodMetrics{{ObjectMeta: metav1.ObjectMeta{Namespace: pods[0].Namespace, Name: pods[0].Name}, Timestamp: metav1.NewTime(m.clock.Now()),
		Containers: []metricsv1beta1.ContainerMetrics{{Name: "c", Usage: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(m.cpu), corev1.ResourceMemory: resource.MustParse("50Mi")}}}}}, nil
}

func owned(name string, uid types.UID, owner types.UID) metav1.ObjectMeta {
	yes := true
	m := metav1.ObjectMeta{Namespace: "d", Name: name, UID: uid}
	if owner != "" {
		m.OwnerReferences = []metav1.OwnerReference{{UID: owner, Controller: &yes, Kind: "x", Name: "x", APIVersion: "v1"}}
	}
	return m
}

func TestAStatusIsWrittenWhenItMovesAndTheNextLeaderGoesOn(t *testing.T) {
	clock := testclock.NewFakeClock(time.Unix(1e9, 0))
	f := reconciletest.New(clock.Now)
	ctx := t.Context()
	must := func(o api.Object, err error) api.Object {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	d := must(f.Create(ctx, reconcile.Deployments(), &appsv1.Deployment{ObjectMeta: owned("web", "", "")}))
	rs := must(f.Create(ctx, reconcile.ReplicaSets(), &appsv1.ReplicaSet{ObjectMeta: owned("web-1", "", d.GetUID())}))
	must(f.Create(ctx, reconcile.Pods(), &corev1.Pod{ObjectMeta: owned("web-1-a", "", rs.GetUID()), Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}))
	must(f.Create(ctx, Recommendations(), &api.Recommendation{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "web", Generation: 1}, Spec: api.RecommendationSpec{TargetRef: api.TargetRef{Kind: "Deployment", Name: "web"}}}))
	must(f.Create(ctx, Recommendations(), &api.Recommendation{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "gone", Generation: 1}, Spec: api.RecommendationSpec{TargetRef: api.TargetRef{Kind: "Job", Name: "gone"}}}))
	m := &meter{clock: clock, cpu: "100m"}
	env := reconcile.Env{Client: f, Clock: clock}
	loop := New(env, api.All(), m)
	look := func(name string) api.RecommendationStatus {
		t.Helper()
		if again, err := loop.Reconcile(ctx, reconcile.Key{Namespace: "d", Name: name}); err != nil || again != time.Minute {
			t.Fatal(again, err)
		}
		r, err := reconcile.Get[*api.Recommendation](ctx, f, Recommendations(), "d", name)
		if err != nil {
			t.Fatal(err)
		}
		return r.Status
	}
	cpu := func(s api.RecommendationStatus) float64 {
		if len(s.Containers) != 1 {
			t.Fatalf("%+v", s)
		}
		q := s.Containers[0].Suggested[corev1.ResourceCPU]
		return float64(q.MilliValue())
	}
	if got := cpu(look("web")); !near(got, 115) {
		t.Errorf("%v for 100m", got)
	}
	if s := look("gone"); s.Message != "there is no Job gone" || len(s.Containers) != 0 {
		t.Errorf("%+v", s)
	}
	writes := f.Writes()
	for range 30 {
		clock.Step(time.Minute)
		look("web")
		look("gone")
	}
	if f.Writes() != writes {
		t.Errorf("%d writes though nothing moves", f.Writes()-writes)
	}
	clock.Step(time.Hour)
	if s := look("web"); f.Writes() != writes+1 || s.Containers[0].Samples != 32 {
		t.Errorf("%d writes in an hour, %+v", f.Writes()-writes, s)
	}
	m.cpu = "1"
	for range 30 {
		clock.Step(time.Minute)
		look("web")
	}
	if got := cpu(look("web")); !near(got, 1150) {
		t.Errorf("%v for 1 in half of the time", got)
	}
	loop = New(env, api.All(), m) // another leader
	clock.Step(time.Minute)
	if s := look("web"); cpu(s) < 1000 || s.Containers[0].Samples < 32 {
		t.Errorf("another leader knows %+v", s.Containers)
	}
	if !strings.Contains(look("web").Checkpoint, `"c"`) {
		t.Error("no checkpoint")
	}
}
