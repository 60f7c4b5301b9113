package podautoscaler

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"github.com/pintle/pintle/orchestrator/api"
)

func now() time.Time { return time.Unix(1_700_000_000, 0) }

// pods are n pods p0, p1, … that have run and been ready for an hour and ask for one CPU.
func pods(n int, edit ...func(*corev1.Pod)) (out []*corev1.Pod) {
	hour := metav1.NewTime(now().Add(-time.Hour))
	for i := range n {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p", i)},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("1")}}}}},
			Status: corev1.PodStatus{Phase: corev1.PodRunning, StartTime: &hour,
				Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: hour}}}}
		for _, f := range edit {
			f(p)
		}
		out = append(out, p)
	}
	return out
}

// using gives p0, p1, … these values, in thousandths.
func using(values ...int64) observed {
	o := observed{samples: map[string]sample{}}
	for i, v := range values {
		o.samples[fmt.Sprint("p", i)] = sample{value: v, at: now(), window: 15 * time.Second}
	}
	return o
}

func autoscaler(t testing.TB, spec string) *autoscalingv2.HorizontalPodAutoscaler {
	t.Helper()
	h := &autoscalingv2.HorizontalPodAutoscaler{}
	if err := yaml.UnmarshalStrict([]byte(`{metadata: {name: h}, spec: {scaleTargetRef: {kind: Deployment, name: d, apiVersion: apps/v1}, `+spec+`}}`), h); err != nil {
		t.Fatal(err)
	}
	k := api.ByGVR(api.All(), Autoscalers())
	k.Default(h)
	if errs := k.Validate(h); len(errs) > 0 {
		t.Fatal(errs.ToAggregate())
	}
	return h
}

func factsOf(h *autoscalingv2.HorizontalPodAutoscaler, current int, metrics ...observed) facts {
	return facts{hpa: h, current: int32(current), running: int32(current), pods: pods(current), metrics: metrics, now: now(), tolerance: 0.1,
		window: 5 * time.Minute, ripening: ripening{5 * time.Minute, 30 * time.Second},
		history: history{recommendations: []recommendation{{now().Add(-40 * time.Minute), 1}}}} // it has been there for long
}

const (
	cpuTo   = `metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: %d}}}]`
	podsTo  = `metrics: [{type: Pods, pods: {metric: {name: packets}, target: {type: AverageValue, averageValue: %s}}}]`
	objTo   = `metrics: [{type: Object, object: {metric: {name: requests}, describedObject: {kind: Ingress, name: i, apiVersion: networking.k8s.io/v1}, target: {%s}}}]`
	extTo   = `metrics: [{type: External, external: {metric: {name: queue}, target: {%s}}}]`
	bounds  = `minReplicas: 1, maxReplicas: 100, `
	rawCPU  = `metrics: [{type: Resource, resource: {name: cpu, target: {type: AverageValue, averageValue: %s}}}]`
	sideCPU = `metrics: [{type: ContainerResource, containerResource: {name: cpu, container: c, target: {type: Utilization, averageUtilization: %d}}}]`
)

func pending(p *corev1.Pod) { p.Status.Phase = corev1.PodPending }
func failed(p *corev1.Pod)  { p.Status.Phase = corev1.PodFailed }
func ending(p *corev1.Pod)  { p.DeletionTimestamp = ptr.To(metav1.NewTime(now())) }

// ready sets since when a pod has (not) been ready, and when it started, before now.
func ready(is corev1.ConditionStatus, since, started time.Duration) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.StartTime = ptr.To(metav1.NewTime(now().Add(-started)))
		p.Status.Conditions[0].Status, p.Status.Conditions[0].LastTransitionTime = is, metav1.NewTime(now().Add(-since))
	}
}

func only(i int, f func(*corev1.Pod)) func(*facts) { return func(x *facts) { f(x.pods[i]) } }

// The documentation's rules of the algorithm, one after the other.
func TestSizesFollowTheDocumentedAlgorithm(t *testing.T) {
	up100 := `behavior: {scaleUp: {policies: [{type: Percent, value: 1000, periodSeconds: 15}]}, scaleDown: {stabilizationWindowSeconds: 0}}, `
	for _, c := range []struct {
		name    string
		spec    string
		current int
		metric  observed
		edit    func(*facts)
		want    int32
	}{
		{"twice the target doubles (200m for 100m)", fmt.Sprintf(rawCPU, "100m"), 3, using(200, 200, 200), nil, 6},
		{"half the target halves (50m for 100m)", fmt.Sprintf(rawCPU, "100m"), 4, using(50, 50, 50, 50), nil, 2},
		{"4 pods at 120 % for 80 %", fmt.Sprintf(cpuTo, 80), 4, using(1200, 1200, 1200, 1200), nil, 6},
		{"rounded up", fmt.Sprintf(cpuTo, 50), 3, using(600, 600, 600), nil, 4},
		{"within 10 % nothing changes", fmt.Sprintf(cpuTo, 100), 10, using(1090, 1090, 1090, 1090, 1090, 1090, 1090, 1090, 1090, 1090), nil, 10},
		{"nor just at it", fmt.Sprintf(cpuTo, 100), 2, using(1100, 1100), nil, 2},
		{"beyond it does", fmt.Sprintf(cpuTo, 100), 2, using(1110, 1110), nil, 3},
		{"the mean of unequal pods", fmt.Sprintf(cpuTo, 50), 2, using(1500, 500), nil, 4},
		{"one container's", fmt.Sprintf(sideCPU, 50), 2, using(1000, 1000), nil, 4},
		{"a metric of pods", fmt.Sprintf(podsTo, "1k"), 2, using(2_000_000, 4_000_000), nil, 6},
		{"an object's value", fmt.Sprintf(objTo, "type: Value, value: 2k"), 3, observed{value: 4_000_000}, nil, 6},
		{"an object's value counts ready pods", fmt.Sprintf(objTo, "type: Value, value: 2k"), 3, observed{value: 4_000_000}, only(0, ready("False", time.Minute, time.Hour)), 4},
		{"an object's value for each pod", fmt.Sprintf(objTo, "type: AverageValue, averageValue: 500"), 3, observed{value: 4_000_000}, nil, 8},
		{"an external sum", fmt.Sprintf(extTo, "type: Value, value: 10"), 2, observed{value: 40_000}, nil, 8},
		{"an external share", fmt.Sprintf(extTo, "type: AverageValue, averageValue: 30"), 2, observed{value: 95_000}, nil, 4},
		{"an external share within tolerance", fmt.Sprintf(extTo, "type: AverageValue, averageValue: 30"), 2, observed{value: 62_000}, nil, 2},

		{"a pod without a sample counts as idle where there would be more", fmt.Sprintf(cpuTo, 50), 4, using(1000, 1000, 1000), nil, 6},
		{"even if that is all it takes", fmt.Sprintf(cpuTo, 50), 4, using(660, 660, 660), nil, 4},
		{"and as at its target where there would be fewer", fmt.Sprintf(cpuTo, 50), 4, using(100, 100, 100), nil, 2},
		{"pods that end aren't there", fmt.Sprintf(cpuTo, 50), 4, using(1000, 1000, 1000), only(3, ending), 6},
		{"nor are failed ones", fmt.Sprintf(cpuTo, 50), 4, using(1000, 1000, 1000), only(3, failed), 6},
		{"a pending pod counts as idle where there would be more", fmt.Sprintf(cpuTo, 50), 4, using(1000, 1000, 1000), only(3, pending), 6},
		{"and not at all where there would be fewer", fmt.Sprintf(cpuTo, 50), 4, using(100, 100, 100), only(3, pending), 1},
		{"so is one that starts up: not ready", fmt.Sprintf(cpuTo, 50), 4, using(1000, 1000, 1000, 5000), only(3, ready("False", time.Minute, 2*time.Minute)), 6},
		{"or ready, with a sample from before", fmt.Sprintf(cpuTo, 50), 4, using(1000, 1000, 1000, 5000), only(3, ready("True", 10*time.Second, time.Minute)), 6},
		{"but not a window later", fmt.Sprintf(cpuTo, 50), 4, using(1000, 1000, 1000, 5000), only(3, ready("True", 16*time.Second, time.Minute)), 16},
		{"after 5 minutes, one that has never been ready", fmt.Sprintf(cpuTo, 50), 4, using(1000, 1000, 1000, 5000), only(3, ready("False", 10*time.Minute, 10*time.Minute)), 6},
		{"but not one that was", fmt.Sprintf(cpuTo, 50), 4, using(1000, 1000, 1000, 5000), only(3, ready("False", time.Minute, 10*time.Minute)), 16},
		{"a start is nothing to other metrics", fmt.Sprintf(podsTo, "1k"), 2, using(2_000_000, 4_000_000), only(0, ready("False", time.Second, time.Minute)), 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := factsOf(autoscaler(t, bounds+up100+c.spec), c.current, c.metric)
			f.running = int32(c.current)
			if c.edit != nil {
				c.edit(&f)
			}
			if p := decide(f); p.desired != c.want {
				t.Errorf("wants %d, not %d: %+v", p.desired, c.want, p.status.Conditions)
			}
		})
	}
}

func conditions(p plan) map[autoscalingv2.HorizontalPodAutoscalerConditionType]string {
	out := map[autoscalingv2.HorizontalPodAutoscalerConditionType]string{}
	for _, c := range p.status.Conditions {
		out[c.Type] = string(c.Status) + " " + c.Reason
	}
	return out
}

func TestTheLargestOfSeveralMetricsWinsAndOneThatFailsKeepsFromScalingDown(t *testing.T) {
	spec := bounds + `metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}},
		{type: External, external: {metric: {name: queue}, target: {type: AverageValue, averageValue: 10}}}]`
	for name, c := range map[string]struct {
		cpu, queue observed
		want       int32
		active     string
		events     string
	}{
		"the second":               {using(500, 500), observed{value: 60_000}, 6, "True ValidMetricFound", ""},
		"the first":                {using(1000, 1000), observed{value: 10_000}, 4, "True ValidMetricFound", ""},
		"up, one fails":            {observed{err: errors.New("away")}, observed{value: 60_000}, 6, "True ValidMetricFound", "FailedGetResourceMetric"},
		"down, one fails":          {using(100, 100), observed{err: errors.New("away")}, 2, "False FailedGetExternalMetric", "FailedGetExternalMetric FailedComputeMetricsReplicas"},
		"all fail":                 {observed{err: errors.New("away")}, observed{err: errors.New("gone")}, 2, "False FailedGetResourceMetric", "FailedGetResourceMetric FailedGetExternalMetric FailedComputeMetricsReplicas"},
		"no pod has been heard of": {observed{samples: map[string]sample{}}, observed{err: errors.New("gone")}, 2, "False FailedGetResourceMetric", "FailedGetResourceMetric FailedGetExternalMetric FailedComputeMetricsReplicas"},
	} {
		t.Run(name, func(t *testing.T) {
			p := decide(factsOf(autoscaler(t, spec), 2, c.cpu, c.queue))
			var events []string
			for _, e := range p.events {
				events = append(events, e.reason)
			}
			if p.desired != c.want || conditions(p)[autoscalingv2.ScalingActive] != c.active || strings.Join(events, " ") != c.events {
				t.Errorf("%d, %v, %v", p.desired, conditions(p), events)
			}
		})
	}
	t.Run("without requests", func(t *testing.T) {
		f := factsOf(autoscaler(t, bounds+fmt.Sprintf(cpuTo, 50)), 1, using(100))
		f.pods[0].Spec.Containers[0].Resources.Requests = nil
		p := decide(f)
		if len(p.events) == 0 || p.events[0].message != "missing request for cpu in container c of Pod p0" || p.desired != 1 {
			t.Errorf("%+v", p)
		}
	})
}

func TestBoundsAndZero(t *testing.T) {
	queue := `metrics: [{type: External, external: {metric: {name: queue}, target: {type: AverageValue, averageValue: 10}}}]`
	scaledToZero := func(h *autoscalingv2.HorizontalPodAutoscaler) {
		h.Status.Conditions = []autoscalingv2.HorizontalPodAutoscalerCondition{{Type: autoscalingv2.ScaledToZero, Status: corev1.ConditionTrue}}
	}
	for name, c := range map[string]struct {
		spec    string
		edit    func(*autoscalingv2.HorizontalPodAutoscaler)
		current int
		value   int64
		want    int32
		reason  string
		has     [2]string
	}{
		"above":                           {"minReplicas: 2, maxReplicas: 5, " + queue, nil, 9, 0, 5, "Current number of replicas above Spec.MaxReplicas", [2]string{"AbleToScale", "True SucceededGetScale"}},
		"below":                           {"minReplicas: 2, maxReplicas: 5, " + queue, nil, 1, 90_000, 2, "Current number of replicas below Spec.MinReplicas", [2]string{"AbleToScale", "True SucceededGetScale"}},
		"no more than the most":           {"minReplicas: 2, maxReplicas: 5, " + queue, nil, 3, 90_000, 5, "external metric queue above target", [2]string{"ScalingLimited", "True TooManyReplicas"}},
		"a person's zero is left alone":   {"minReplicas: 0, maxReplicas: 5, " + queue, nil, 0, 90_000, 0, "", [2]string{"ScalingActive", "False ScalingDisabled"}},
		"its own isn't":                   {"minReplicas: 0, maxReplicas: 5, " + queue, scaledToZero, 0, 25_000, 3, "external metric queue above target", [2]string{"ScaledToZero", "False NotScaledToZero"}},
		"and stays while there is none":   {"minReplicas: 0, maxReplicas: 5, " + queue, scaledToZero, 0, 0, 0, "", [2]string{"ScaledToZero", "True "}},
		"to zero":                         {"minReplicas: 0, maxReplicas: 5, behavior: {scaleDown: {stabilizationWindowSeconds: 0}}, " + queue, nil, 2, 0, 0, "All metrics below target", [2]string{"ScaledToZero", "True ScaledToZero"}},
		"never below the fewest":          {"minReplicas: 2, maxReplicas: 5, behavior: {scaleDown: {stabilizationWindowSeconds: 0}}, " + queue, nil, 3, 0, 2, "All metrics below target", [2]string{"ScalingLimited", "True TooFewReplicas"}},
		"from zero where it isn't wanted": {"minReplicas: 2, maxReplicas: 5, " + queue, scaledToZero, 0, 0, 2, "Current number of replicas below Spec.MinReplicas", [2]string{"ScaledToZero", "False NotScaledToZero"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := autoscaler(t, c.spec)
			if c.edit != nil {
				c.edit(h)
			}
			p := decide(factsOf(h, c.current, observed{value: c.value}))
			if p.desired != c.want || p.reason != c.reason || conditions(p)[autoscalingv2.HorizontalPodAutoscalerConditionType(c.has[0])] != c.has[1] {
				t.Errorf("%d %q %v", p.desired, p.reason, conditions(p))
			}
		})
	}
}

// simulate looks again every 15 s and returns the sizes, the first included. load says what the metric is.
func simulate(t *testing.T, spec string, from, looks int, load func(look int) int64) (sizes []int32) {
	t.Helper()
	h := autoscaler(t, spec)
	f := factsOf(h, from)
	f.history = history{recommendations: []recommendation{{now().Add(-time.Hour), int32(from)}}}
	many := pods(1000)
	for look := range looks {
		sizes = append(sizes, f.current)
		f.pods, f.running, f.metrics = many[:f.current], f.current, []observed{{value: load(look)}}
		p := decide(f)
		f.history, f.current, h.Status = p.history, p.desired, p.status
		f.now = f.now.Add(15 * time.Second)
	}
	return sizes
}

// The documentation's examples of behaviour.
func TestBehaviourFollowsTheDocumentation(t *testing.T) {
	queue := `, metrics: [{type: External, external: {metric: {name: queue}, target: {type: AverageValue, averageValue: 1}}}]`
	to := func(n int64) func(int) int64 { return func(int) int64 { return n * 1000 } }
	for name, c := range map[string]struct {
		spec  string
		from  int
		load  func(int) int64
		looks int
		want  string
	}{
		"default up: 4 pods or twice, every 15 s": {`minReplicas: 1, maxReplicas: 1000`, 1, to(1000), 7, "1 5 10 20 40 80 160"},
		"default down: at once, after 5 minutes": {`minReplicas: 1, maxReplicas: 100`, 80, func(look int) int64 {
			if look == 0 {
				return 80_000
			}
			return 10_000
		}, 22, "80 80 80 80 80 80 80 80 80 80 80 80 80 80 80 80 80 80 80 80 80 10"},
		// "If the number of replicas is 80 and the target has to be scaled down to 10": 8, then 7.2 → 8, … by 10 % or 4 pods a minute.
		"down by 10 % or 4 pods, whichever is more": {`minReplicas: 1, maxReplicas: 100, behavior: {scaleDown: {stabilizationWindowSeconds: 0, policies: [{type: Pods, value: 4, periodSeconds: 60}, {type: Percent, value: 10, periodSeconds: 60}]}}`,
			80, to(10), 21, "80 72 72 72 72 64 64 64 64 57 57 57 57 51 51 51 51 45 45 45 45"},
		"slowly: 1 pod every 5 minutes": {`minReplicas: 1, maxReplicas: 100, behavior: {scaleDown: {stabilizationWindowSeconds: 0, policies: [{type: Pods, value: 1, periodSeconds: 300}]}}`,
			4, to(1), 23, "4 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 2 2"},
		"the smaller of 10 % and 5 pods": {`minReplicas: 1, maxReplicas: 100, behavior: {scaleDown: {stabilizationWindowSeconds: 0, selectPolicy: Min, policies: [{type: Percent, value: 10, periodSeconds: 60}, {type: Pods, value: 5, periodSeconds: 60}]}}`,
			80, to(10), 6, "80 75 75 75 75 70"},
		"never down": {`minReplicas: 1, maxReplicas: 100, behavior: {scaleDown: {selectPolicy: Disabled}}`, 8, to(1), 30, strings.TrimSpace(strings.Repeat("8 ", 30))},
		"never up":   {`minReplicas: 1, maxReplicas: 100, behavior: {scaleUp: {selectPolicy: Disabled}}`, 2, to(50), 3, "2 2 2"},
		"up is stabilized where asked to": {`minReplicas: 1, maxReplicas: 100, behavior: {scaleUp: {stabilizationWindowSeconds: 60}}`, 2, func(look int) int64 {
			if look == 0 {
				return 2_000
			}
			return 5_000
		}, 7, "2 2 2 2 2 5 5"},
		"a tolerance of 0 up": {`minReplicas: 1, maxReplicas: 100, behavior: {scaleUp: {tolerance: "0"}}`, 20, to(21), 3, "20 21 21"},
		"half down":           {`minReplicas: 1, maxReplicas: 100, behavior: {scaleDown: {stabilizationWindowSeconds: 0, tolerance: 500m}}`, 20, to(11), 3, "20 20 20"},
	} {
		t.Run(name, func(t *testing.T) {
			got := strings.Trim(fmt.Sprint(simulate(t, c.spec+queue, c.from, c.looks, c.load)), "[]")
			if got != c.want {
				t.Errorf("\ngot  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestSizesStayWithinBoundsAndRestUnderSteadyLoad(t *testing.T) {
	queue := `, metrics: [{type: External, external: {metric: {name: queue}, target: {type: AverageValue, averageValue: 1}}}]`
	rng := rand.New(rand.NewPCG(7, 1))
	for range 20 {
		least := rng.IntN(5) + 1
		most := least + rng.IntN(20)
		pick := func() string { return []string{"Max", "Min"}[rng.IntN(2)] }
		spec := fmt.Sprintf(`minReplicas: %d, maxReplicas: %d, behavior: {scaleUp: {stabilizationWindowSeconds: %d, selectPolicy: %s, policies: [{type: Pods, value: %d, periodSeconds: %d}, {type: Percent, value: %d, periodSeconds: 15}]},
			scaleDown: {stabilizationWindowSeconds: %d, selectPolicy: %s, policies: [{type: Pods, value: %d, periodSeconds: %d}, {type: Percent, value: %d, periodSeconds: 60}]}}`, least, most,
			rng.IntN(120), pick(), rng.IntN(9)+1, rng.IntN(120)+1, rng.IntN(200)+1, rng.IntN(300), pick(), rng.IntN(9)+1, rng.IntN(120)+1, rng.IntN(100)+1)
		steady := rng.Int64N(30) * 1000
		const wild, looks = 30, 330
		sizes := simulate(t, spec+queue, least+rng.IntN(most-least+1), looks, func(look int) int64 {
			if look < wild {
				return rng.Int64N(60_000)
			}
			return steady
		})
		turns, last := 0, int32(0)
		for i, n := range sizes {
			if n < int32(least) || n > int32(most) {
				t.Fatalf("%s: size %d", spec, n)
			}
			if i > wild+1 && n != sizes[i-1] {
				if change := n - sizes[i-1]; last != 0 && (change > 0) != (last > 0) {
					turns++
				} else {
					last = change
				}
			}
		}
		if turns > 1 || sizes[looks-1] != sizes[looks-2] {
			t.Fatalf("%s: under a steady %d it turns %d times and ends at %v", spec, steady, turns, sizes[looks-5:])
		}
	}
}
