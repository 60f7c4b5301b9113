package podautoscaler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	custommetrics "k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
	externalmetrics "k8s.io/metrics/pkg/apis/external_metrics/v1beta1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/reconciletest"
)

// measured is a Metrics: every pod uses cpu, the external queue is long, Ingress i has requests.
type measured struct {
	cpu   string
	queue string
	err   error
}

func (m *measured) MetricsOf(_ context.Context, pods []*corev1.Pod) (out []metricsv1beta1.PodMetrics, err error) {
	for _, p := range pods {
		out = append(out, metricsv1beta1.PodMetrics{ObjectMeta: metav1.ObjectMeta{Name: p.Name}, Timestamp: metav1.NewTime(now()), Window: metav1.Duration{Duration: time.Second},
			Containers: []metricsv1beta1.ContainerMetrics{{Name: "c", Usage: corev1.ResourceList{"cpu": resource.MustParse(m.cpu)}}}})
	}
	return out, m.err
}

func (m *measured) CustomValues(_ context.Context, q api.CustomMetricQuery) ([]custommetrics.MetricValue, error) {
	if q.Resource.String() != "ingresses.networking.k8s.io" || q.Name != "i" || q.Namespace != "ns" || q.Metric != "requests" {
		return nil, fmt.Errorf("asked for %+v", q)
	}
	return []custommetrics.MetricValue{{Value: resource.MustParse("2k")}}, m.err
}

func (m *measured) ExternalValues(_ context.Context, _, metric string, _ labels.Selector) ([]externalmetrics.ExternalMetricValue, error) {
	return []externalmetrics.ExternalMetricValue{{MetricName: metric, Value: resource.MustParse(m.queue)}, {MetricName: metric, Value: resource.MustParse("5")}}, m.err
}

type bench struct {
	*testing.T
	fake    *reconciletest.Fake
	metrics *measured
	loop    *reconcile.Controller
	events  *reconcile.Recorder
}

// newBench has Deployment d with n pods that ask for a CPU each.
func newBench(t *testing.T, n int) *bench {
	t.Helper()
	fake := reconciletest.New(now)
	env := reconcile.Env{Client: fake, Clock: clocktesting.NewFakeClock(now())}
	b := &bench{T: t, fake: fake, metrics: &measured{cpu: "500m", queue: "15"}, events: reconcile.NewRecorder(env)}
	b.loop = New(env, b.events, api.All(), Config{Metrics: b.metrics}, 1)
	b.deployment("d", "a", n)
	for _, p := range pods(n) {
		p.Namespace, p.Labels = "ns", map[string]string{"app": "a"}
		b.create(reconcile.Pods(), p)
	}
	return b
}

func (b *bench) create(gvr schema.GroupVersionResource, obj api.Object) {
	b.Helper()
	if _, err := b.fake.Create(b.Context(), gvr, obj); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) deployment(name, app string, n int) {
	b.create(reconcile.Deployments(), &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
		Spec: appsv1.DeploymentSpec{Replicas: ptr.To(int32(n)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}}, Status: appsv1.DeploymentStatus{Replicas: int32(n)}})
}

func ref(kind, name, version string) *autoscalingv2.CrossVersionObjectReference {
	return &autoscalingv2.CrossVersionObjectReference{Kind: kind, Name: name, APIVersion: version}
}

// autoscaler makes one of Deployment d, or of another target.
func (b *bench) autoscaler(name, spec string, other ...autoscalingv2.CrossVersionObjectReference) {
	h := autoscaler(b.T, spec)
	for _, ref := range other {
		h.Spec.ScaleTargetRef = ref
	}
	h.Namespace, h.Name = "ns", name
	b.create(Autoscalers(), h)
	made, err := b.fake.Get(b.Context(), Autoscalers(), "ns", name)
	if err != nil {
		b.Fatal(err)
	}
	if err := b.loop.Watches[0].Map(b.Context(), reconcile.Event{Type: watch.Added, Object: made}, func(reconcile.Key) {}); err != nil {
		b.Fatal(err)
	}
}

// look reconciles once; it returns the size of d, what the conditions say, and the events.
func (b *bench) look(name string) (size int32, said map[autoscalingv2.HorizontalPodAutoscalerConditionType]string, events []string) {
	b.Helper()
	again, err := b.loop.Reconcile(b.Context(), reconcile.Key{Namespace: "ns", Name: name})
	if err != nil || again != 15*time.Second {
		b.Fatalf("again in %v, %v", again, err)
	}
	b.events.Flush(b.Context())
	d, err := reconcile.Get[*appsv1.Deployment](b.Context(), b.fake, reconcile.Deployments(), "ns", "d")
	if err != nil {
		b.Fatal(err)
	}
	if d != nil {
		size = *d.Spec.Replicas
	}
	h, err := reconcile.Get[*autoscalingv2.HorizontalPodAutoscaler](b.Context(), b.fake, Autoscalers(), "ns", name)
	if err != nil {
		b.Fatal(err)
	}
	evs, err := reconcile.List[*corev1.Event](b.Context(), b.fake, reconcile.Events(), "ns", nil)
	if err != nil {
		b.Fatal(err)
	}
	for _, e := range evs {
		if e.InvolvedObject.Name == name {
			events = append(events, e.Reason+": "+e.Message)
		}
	}
	return size, conditions(plan{status: h.Status}), events
}

const half = `minReplicas: 1, maxReplicas: 10, metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 20}}}]`

func TestATargetIsScaledAndTold(t *testing.T) {
	b := newBench(t, 2)
	b.autoscaler("h", half)
	size, said, events := b.look("h")
	if size != 5 || said["AbleToScale"] != "True SucceededRescale" || said["ScalingActive"] != "True ValidMetricFound" || said["ScalingLimited"] != "False DesiredWithinRange" {
		t.Errorf("%d %v", size, said)
	}
	if !slices.Contains(events, "SuccessfulRescale: New size: 5; reason: cpu resource utilization (percentage of request) above target") {
		t.Error(events)
	}
	h, err := reconcile.Get[*autoscalingv2.HorizontalPodAutoscaler](t.Context(), b.fake, Autoscalers(), "ns", "h")
	if err != nil {
		t.Fatal(err)
	}
	if s := h.Status; s.CurrentReplicas != 2 || s.DesiredReplicas != 5 || s.LastScaleTime == nil || *s.ObservedGeneration != h.Generation || *s.CurrentMetrics[0].Resource.Current.AverageUtilization != 50 {
		t.Errorf("%+v", s)
	}
}

func TestObjectsAndQueuesScaleToo(t *testing.T) {
	b := newBench(t, 2)
	b.autoscaler("h", `maxReplicas: 50, metrics: [
		{type: Object, object: {metric: {name: requests}, describedObject: {kind: Ingress, name: i, apiVersion: networking.k8s.io/v1}, target: {type: AverageValue, averageValue: 500}}},
		{type: External, external: {metric: {name: queue, selector: {matchLabels: {q: a}}}, target: {type: AverageValue, averageValue: 4}}}]`)
	if size, said, events := b.look("h"); size != 5 || !strings.Contains(fmt.Sprint(events), "external metric queue(q=a) above target") {
		t.Errorf("%d %v %v", size, said, events)
	}
}

func TestWhatCannotBeScaledIsAConditionAndNoError(t *testing.T) {
	for name, c := range map[string]struct {
		prepare   func(b *bench)
		target    *autoscalingv2.CrossVersionObjectReference
		condition autoscalingv2.HorizontalPodAutoscalerConditionType
		want      string
		event     string
	}{
		"no target":              {nil, ref("Deployment", "x", "apps/v1"), "AbleToScale", "False FailedGetScale", `deployments.apps "x" not found`},
		"no such kind":           {nil, ref("Rocket", "x", "space/v1"), "AbleToScale", "False FailedGetScale", `no matches for kind "Rocket" in group "space"`},
		"nothing to scale":       {nil, ref("ConfigMap", "x", "v1"), "AbleToScale", "False FailedGetScale", "configmaps has no scale subresource"},
		"metrics are away":       {func(b *bench) { b.metrics.err = errors.New("away") }, nil, "ScalingActive", "False FailedGetResourceMetric", "unable to get metrics for resource cpu"},
		"a rival for the target": {func(b *bench) { b.autoscaler("other", half) }, nil, "ScalingActive", "False AmbiguousSelector", "pods by selector app=a are controlled by multiple HPAs: [ns/h ns/other]"},
		"a rival for the pods": {func(b *bench) {
			b.deployment("e", "a", 1)
			b.autoscaler("other", half, *ref("Deployment", "e", "apps/v1"))
		}, nil, "ScalingActive", "False AmbiguousSelector", "are controlled by multiple HPAs"},
		"a write is refused": {func(b *bench) {
			b.fake.OnWrite(func(verb string, gvr schema.GroupVersionResource, _ api.Object) error {
				if verb == "update/scale" {
					return apierrors.NewForbidden(gvr.GroupResource(), "d", errors.New("a policy says so"))
				}
				return nil
			})
		}, nil, "AbleToScale", "False FailedUpdateScale", "New size: 5; reason: cpu resource utilization (percentage of request) above target; error:"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, 2)
			if c.target != nil {
				b.autoscaler("h", half, *c.target)
			} else {
				b.autoscaler("h", half)
			}
			if c.prepare != nil {
				c.prepare(b)
			}
			for range 3 {
				size, said, events := b.look("h")
				if size != 2 || said[c.condition] != c.want || !strings.Contains(fmt.Sprint(events), c.event) {
					t.Fatalf("%d %v %v", size, said, events)
				}
			}
			writes := b.fake.Writes()
			b.look("h")
			if more := b.fake.Writes() - writes; more > 2 { // counts of events
				t.Errorf("%d writes more while nothing has changed", more)
			}
		})
	}
}

func TestTheSizeIsTheAutoscalersAndNobodyElses(t *testing.T) {
	fields := func(text string) *metav1.FieldsV1 {
		f := &metav1.FieldsV1{}
		f.SetRawBytes([]byte(text))
		return f
	}
	entries := []metav1.ManagedFieldsEntry{
		{Manager: "applier", Operation: "Apply", FieldsV1: fields(`{"f:spec":{"f:replicas":{},"f:template":{}}}`)},
		{Manager: "kubectl", Operation: "Update", Subresource: "scale", FieldsV1: fields(`{"f:spec":{"f:replicas":{}}}`)},
		{Manager: "other", Operation: "Update", FieldsV1: fields(`{"f:metadata":{"f:labels":{}}}`)},
	}
	gv := appsv1.SchemeGroupVersion
	got, err := owning(entries, gv, now())
	if err != nil {
		t.Fatal(err)
	}
	if got, err = owning(got, gv, now()); err != nil { // again: there is one entry
		t.Fatal(err)
	}
	var text []string
	for _, e := range got {
		text = append(text, e.Manager+" "+e.FieldsV1.String())
	}
	want := []string{`applier {"f:spec":{"f:template":{}}}`, `other {"f:metadata":{"f:labels":{}}}`, `kube-controller-manager {"f:spec":{"f:replicas":{}}}`}
	if len(text) != 3 || !strings.Contains(text[0], `"f:template"`) || strings.Contains(text[0], "replicas") || !strings.HasPrefix(text[1], "other") || !strings.HasPrefix(text[2], "kube-controller-manager") || !strings.Contains(text[2], `f:replicas`) {
		t.Errorf("%q, not %q", text, want)
	}
}

func TestARivalThatIsGoneIsForgotten(t *testing.T) {
	b := newBench(t, 2)
	b.autoscaler("h", half)
	b.autoscaler("other", half)
	if size, said, _ := b.look("h"); size != 2 || said["ScalingActive"] != "False AmbiguousSelector" {
		t.Fatal(size, said)
	}
	other, err := b.fake.Get(t.Context(), Autoscalers(), "ns", "other")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.loop.Watches[0].Map(t.Context(), reconcile.Event{Type: watch.Deleted, Object: other, Old: other}, func(reconcile.Key) {}); err != nil {
		t.Fatal(err)
	}
	if size, said, _ := b.look("h"); size != 5 || said["ScalingActive"] != "True ValidMetricFound" {
		t.Error(size, said)
	}
}

// With many autoscalers in a namespace the pods come from a list that they share: they are the same.
func TestManyAutoscalersFindTheirOwnPods(t *testing.T) {
	b := newBench(t, 2)
	b.autoscaler("h", half)
	for i := range 20 {
		name := fmt.Sprint("d", i)
		b.deployment(name, name, 1)
		for _, p := range pods(1) {
			p.Namespace, p.Name, p.Labels = "ns", name, map[string]string{"app": name}
			b.create(reconcile.Pods(), p)
		}
		b.autoscaler(name, half, *ref("Deployment", name, "apps/v1"))
	}
	if size, said, _ := b.look("h"); size != 5 || said["ScalingActive"] != "True ValidMetricFound" {
		t.Error(size, said)
	}
	for i := range 20 {
		name := fmt.Sprint("d", i)
		if _, said, events := b.look(name); said["AbleToScale"] != "True SucceededRescale" || !strings.Contains(fmt.Sprint(events), "New size: 3") {
			t.Error(name, said, events)
		}
	}
}

// Whether two share pods is found by a label that one of them demands; the model asks everybody.
func TestRivalsAreThoseWhoseSelectorsMatchOnesPods(t *testing.T) {
	selectors := []string{"a=1", "a=2", "a=1,b=1", "a in (1)", "a in (1,2)", "b!=1", "a", "b=2", "!b"}
	x := newHoldings()
	for i, text := range selectors {
		s, err := labels.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		x.put(types.UID(fmt.Sprint(i)), hold{by: reconcile.Key{Namespace: "ns", Name: fmt.Sprint(i)}, target: types.UID("t" + fmt.Sprint(i)), selector: s})
	}
	for _, l := range []labels.Set{{"a": "1"}, {"a": "1", "b": "1"}, {"a": "2", "b": "2"}, {"c": "1"}} {
		pod := []*corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Labels: l}}}
		var want []string
		for i := range selectors {
			if i == 0 || x.all[types.UID(fmt.Sprint(i))].selector.Matches(l) {
				want = append(want, "ns/"+fmt.Sprint(i))
			}
		}
		if got := x.rivals("0", pod); !slices.Equal(got, want) {
			t.Errorf("%v: %v, not %v", l, got, want)
		}
	}
	for i := range selectors {
		x.drop(types.UID(fmt.Sprint(i)))
	}
	if len(x.all)+len(x.byTarget)+len(x.byLabel) > 0 {
		t.Errorf("%+v", x)
	}
}

func TestItsOwnStatusWakesNobody(t *testing.T) {
	b := newBench(t, 2)
	h := autoscaler(t, half)
	h.UID = types.UID("u")
	h.Generation = 1
	changed := h.DeepCopy()
	changed.Generation = 2
	n := 0
	count := func(reconcile.Key) { n++ }
	for _, e := range []reconcile.Event{{Type: "ADDED", Object: h}, {Type: "MODIFIED", Object: h, Old: h}, {Type: "MODIFIED", Object: changed, Old: h}, {Type: "DELETED", Object: changed, Old: changed}} {
		if err := b.loop.Watches[0].Map(t.Context(), e, count); err != nil {
			t.Fatal(err)
		}
	}
	if n != 2 {
		t.Errorf("woken %d times by a new one, a status, a spec and an end", n)
	}
}
