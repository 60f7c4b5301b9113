package devicetainteviction

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/yaml"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/reconciletest"
)

func object[T any](t *testing.T, text string) *T {
	t.Helper()
	o := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), o); err != nil {
		t.Fatalf("%s\n%v", text, err)
	}
	return o
}

func TestDecide(t *testing.T) {
	start := time.Unix(1_800_000_000, 0).UTC()
	slice := func(name string, generation int, taints string) *resourcev1.ResourceSlice {
		return object[resourcev1.ResourceSlice](t, fmt.Sprintf(`{metadata: {name: %s}, spec: {driver: d, pool: {name: p, generation: %d, resourceSliceCount: 1}, nodeName: n, devices: [{name: dev, taints: [%s]}, {name: other}]}}`, name, generation, taints))
	}
	stamped := `, timeAdded: "2027-01-15T08:00:00Z"` // start
	for _, tc := range []struct {
		name        string
		slices      []*resourcev1.ResourceSlice
		tolerations string
		want        string
	}{
		{"no taint", []*resourcev1.ResourceSlice{slice("a", 1, "")}, "", "stays"},
		{"NoSchedule ends nobody", []*resourcev1.ResourceSlice{slice("a", 1, "{key: k, effect: NoSchedule}")}, "", "stays"},
		{"None neither", []*resourcev1.ResourceSlice{slice("a", 1, "{key: k, effect: None}")}, "", "stays"},
		{"NoExecute does", []*resourcev1.ResourceSlice{slice("a", 1, "{key: k, effect: NoExecute"+stamped+"}")}, "", "0s"},
		{"one that isn't dated does from when it's seen", []*resourcev1.ResourceSlice{slice("a", 1, "{key: k, effect: NoExecute}")}, "", "1m0s"},
		{"tolerated by key and value", []*resourcev1.ResourceSlice{slice("a", 1, "{key: k, value: v, effect: NoExecute}")}, "{key: k, value: v}", "stays"},
		{"another value", []*resourcev1.ResourceSlice{slice("a", 1, "{key: k, value: v, effect: NoExecute"+stamped+"}")}, "{key: k, value: w}", "0s"},
		{"tolerated whatever it is", []*resourcev1.ResourceSlice{slice("a", 1, "{key: k, value: v, effect: NoExecute}")}, "{operator: Exists}", "stays"},
		{"tolerated for another effect", []*resourcev1.ResourceSlice{slice("a", 1, "{key: k, effect: NoExecute"+stamped+"}")}, "{operator: Exists, effect: NoSchedule}", "0s"},
		{"tolerated for a time", []*resourcev1.ResourceSlice{slice("a", 1, "{key: k, effect: NoExecute"+stamped+"}")}, "{operator: Exists, tolerationSeconds: 30}", "30s"},
		{"the shortest time", []*resourcev1.ResourceSlice{slice("a", 1, "{key: k, effect: NoExecute"+stamped+"}")}, "{operator: Exists, tolerationSeconds: 30}, {key: k, operator: Exists, tolerationSeconds: 10}, {key: k, operator: Exists}", "10s"},
		{"the first of two taints", []*resourcev1.ResourceSlice{slice("a", 1, "{key: k, effect: NoExecute"+stamped+"}, {key: l, effect: NoExecute"+stamped+"}")}, "{key: k, operator: Exists, tolerationSeconds: 30}", "0s"},
		{"an old generation doesn't count", []*resourcev1.ResourceSlice{slice("a", 1, "{key: k, effect: NoExecute}"), slice("b", 2, "")}, "", "stays"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			claim := object[resourcev1.ResourceClaim](t, fmt.Sprintf(`{metadata: {name: c}, status: {allocation: {devices: {results: [{request: r, driver: d, pool: p, device: dev, tolerations: [%s]}, {request: s, driver: d, pool: p, device: other}]}}}}`, tc.tolerations))
			evict, at := decide(claim, taints(tc.slices), func(device, *resourcev1.DeviceTaint) time.Time { return start.Add(time.Minute) })
			got := "stays"
			if evict {
				got = at.Sub(start).String()
			}
			if got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
		})
	}
}

func TestPodsOfATaintedDeviceGoWhenTheirTimeIsOver(t *testing.T) {
	ctx, clock := context.Background(), clocktesting.NewFakeClock(time.Unix(1_800_000_000, 0))
	fake := reconciletest.New(clock.Now)
	env := reconcile.Env{Client: fake, Clock: clock}
	events := reconcile.NewRecorder(env)
	c := &shell{env: env.WithDefaults(), events: events, seen: map[taint]time.Time{}}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	pods := map[string]*corev1.Pod{}
	for _, name := range []string{"p", "q"} {
		made, err := fake.Create(ctx, reconcile.Pods(), object[corev1.Pod](t, fmt.Sprintf(`{metadata: {name: %s, namespace: default}, spec: {nodeName: n, containers: [{name: c, image: i}]}}`, name)))
		must(err)
		pods[name] = made.(*corev1.Pod)
	}
	made, err := fake.Create(ctx, Claims(), object[resourcev1.ResourceClaim](t, `{metadata: {name: c, namespace: default}, spec: {devices: {requests: [{name: r, exactly: {deviceClassName: x}}]}}}`))
	must(err)
	claim := made.(*resourcev1.ResourceClaim).DeepCopy()
	seconds := int64(30)
	claim.Status = resourcev1.ResourceClaimStatus{
		Allocation: &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{Results: []resourcev1.DeviceRequestAllocationResult{{Request: "r", Driver: "d", Pool: "p", Device: "dev",
			Tolerations: []resourcev1.DeviceToleration{{Operator: resourcev1.DeviceTolerationOpExists, TolerationSeconds: &seconds}}}}}},
		ReservedFor: []resourcev1.ResourceClaimConsumerReference{{Resource: "pods", Name: "p", UID: pods["p"].UID}, {Resource: "pods", Name: "q", UID: "another"}}}
	_, err = fake.Update(ctx, Claims(), "status", claim)
	must(err)
	made, err = fake.Create(ctx, Slices(), object[resourcev1.ResourceSlice](t, `{metadata: {name: s}, spec: {driver: d, pool: {name: p, generation: 1, resourceSliceCount: 1}, nodeName: n, devices: [{name: dev, taints: [{key: k, effect: NoExecute}]}]}}`))
	must(err)
	var enqueued []reconcile.Key
	must(c.sliceChanged(ctx, reconcile.Event{Type: "ADDED", Object: made}, func(k reconcile.Key) { enqueued = append(enqueued, k) }))
	if len(enqueued) != 1 || enqueued[0].Name != "c" {
		t.Fatalf("the slice wakes %v", enqueued)
	}
	for _, want := range []time.Duration{30 * time.Second, 10 * time.Second} {
		if again, err := c.reconcile(ctx, enqueued[0]); err != nil || again != want {
			t.Fatalf("again in %v, %v; want %v", again, err, want)
		}
		clock.Step(20 * time.Second)
	}
	_, err = c.reconcile(ctx, enqueued[0])
	must(err)
	if p, err := reconcile.Get[*corev1.Pod](ctx, fake, reconcile.Pods(), "default", "p"); err != nil || p != nil && p.DeletionTimestamp == nil {
		t.Errorf("%+v, %v", p, err)
	}
	if q, err := reconcile.Get[*corev1.Pod](ctx, fake, reconcile.Pods(), "default", "q"); err != nil || q == nil || q.DeletionTimestamp != nil {
		t.Errorf("a pod that the claim isn't reserved for is gone: %+v, %v", q, err)
	}
	events.Flush(ctx)
	all, err := reconcile.List[*corev1.Event](ctx, fake, reconcile.Events(), "", nil)
	if err != nil || len(all) != 1 || all[0].Reason != "DeviceTaintManagerEviction" || all[0].InvolvedObject.Name != "p" {
		t.Errorf("%+v, %v", all, err)
	}
}
