package resourceclaim

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/reconciletest"
)

func object[T any](t testing.TB, text string) *T {
	t.Helper()
	o := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), o); err != nil {
		t.Fatalf("%s\n%v", text, err)
	}
	return o
}

func TestDecideWhoUsesAClaim(t *testing.T) {
	const protected = `metadata: {name: c, finalizers: [resource.kubernetes.io/delete-protection]}`
	const owned = `metadata: {name: c, ownerReferences: [{apiVersion: v1, kind: Pod, name: p, uid: u, controller: true}]}`
	const used = `status: {allocation: {}, reservedFor: [{resource: pods, name: p, uid: u}]}`
	running := `{metadata: {name: p, uid: u}, spec: {nodeName: n}, status: {phase: Running}}`
	for name, tt := range map[string]struct{ claim, pod, want string }{
		"in use":                           {`{` + protected + `, ` + used + `}`, running, "users 1, allocated"},
		"its pod has succeeded":            {`{` + protected + `, ` + used + `}`, `{metadata: {name: p, uid: u}, spec: {nodeName: n}, status: {phase: Succeeded}}`, "users 0, unprotected"},
		"its pod is gone":                  {`{` + protected + `, ` + used + `}`, ``, "users 0, unprotected"},
		"another pod of the name":          {`{` + protected + `, ` + used + `}`, `{metadata: {name: p, uid: v}, spec: {nodeName: n}}`, "users 0, unprotected"},
		"its pod ends":                     {`{` + protected + `, ` + used + `}`, `{metadata: {name: p, uid: u, deletionTimestamp: "2026-01-01T00:00:00Z"}, spec: {nodeName: n}, status: {phase: Running}}`, "users 1, allocated"},
		"its pod never was bound and ends": {`{` + protected + `, ` + used + `}`, `{metadata: {name: p, uid: u, deletionTimestamp: "2026-01-01T00:00:00Z"}}`, "users 0, unprotected"},
		"one of two pods is gone": {`{` + protected + `, status: {allocation: {}, reservedFor: [{resource: pods, name: p, uid: u}, {resource: pods, name: q, uid: w}]}}`, running,
			"users 1, allocated, written"},
		"reserved for something else":       {`{` + protected + `, status: {allocation: {}, reservedFor: [{apiGroup: x.y, resource: things, name: p, uid: u}]}}`, ``, "users 1, allocated"},
		"allocated and never reserved":      {`{` + protected + `, status: {allocation: {}}}`, ``, "users 0, allocated"},
		"the same, and it is to go":         {`{metadata: {name: c, finalizers: [resource.kubernetes.io/delete-protection], deletionTimestamp: "2026-01-01T00:00:00Z"}, status: {allocation: {}}}`, ``, "users 0, unprotected"},
		"it is to go, in use":               {`{metadata: {name: c, finalizers: [resource.kubernetes.io/delete-protection], deletionTimestamp: "2026-01-01T00:00:00Z"}, ` + used + `}`, running, "users 1, allocated"},
		"protected for nothing":             {`{` + protected + `}`, ``, "users 0, unprotected"},
		"nobody's":                          {`{metadata: {name: c}}`, ``, "users 0"},
		"made for a pod that runs":          {`{` + owned + `, ` + used + `}`, running, "users 1, allocated"},
		"made for a pod that has ended":     {`{` + owned + `, ` + used + `}`, `{metadata: {name: p, uid: u}, status: {phase: Failed}}`, "users 0, removed"},
		"made for a pod that waits":         {`{` + owned + `}`, `{metadata: {name: p, uid: u}, status: {phase: Pending}}`, "users 0"},
		"made for a pod that will not come": {`{` + owned + `}`, `{metadata: {name: p, uid: u, deletionTimestamp: "2026-01-01T00:00:00Z"}}`, "users 0, removed"},
		"made for a pod that is gone":       {`{` + owned + `}`, ``, "users 0"}, // the garbage collector's
	} {
		t.Run(name, func(t *testing.T) {
			c := object[resourcev1.ResourceClaim](t, tt.claim)
			todo := decideClaim(c, func(name string) *corev1.Pod {
				if tt.pod == "" || name != "p" {
					return nil
				}
				return object[corev1.Pod](t, tt.pod)
			})
			status := &c.Status
			if todo.status != nil {
				status = todo.status
			}
			got := fmt.Sprintf("users %d", len(status.ReservedFor))
			for word, yes := range map[string]bool{", allocated": status.Allocation != nil, ", unprotected": todo.unprotected, ", removed": todo.remove} {
				if yes {
					got += word
				}
			}
			if strings.HasSuffix(tt.want, ", written") {
				got += ", written"
				if todo.status == nil {
					t.Error("not written")
				}
			}
			if got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

func TestDecideWhatAPodNeeds(t *testing.T) {
	template := object[resourcev1.ResourceClaimTemplate](t, `{metadata: {name: t}, spec: {metadata: {labels: {a: b}, annotations: {x: w}}, spec: {devices: {requests: [{name: r, exactly: {deviceClassName: c}}]}}}}`)
	pod := func(more string) *corev1.Pod {
		p := object[corev1.Pod](t, `{metadata: {name: p, namespace: ns, uid: u}, spec: {resourceClaims: [{name: made, resourceClaimTemplateName: t}, {name: given, resourceClaimName: g}]}`+more+`}`)
		return p
	}
	find := func(name string) *resourcev1.ResourceClaimTemplate {
		if name == "t" {
			return template
		}
		return nil
	}
	given := object[resourcev1.ResourceClaim](t, `{metadata: {name: g}, status: {allocation: {}}}`)
	claim := func(name string) *resourcev1.ResourceClaim {
		if name == "g" {
			return given
		}
		return nil
	}
	todo := decidePod(pod(""), nil, claim, find)
	if len(todo.create) != 1 || len(todo.statuses) != 0 || len(todo.problems) != 0 || len(todo.reserve) != 0 {
		t.Fatalf("%+v", todo)
	}
	made := todo.create[0]
	owner := metav1.GetControllerOf(made)
	if made.GenerateName != "p-made-" || made.Namespace != "ns" || made.Labels["a"] != "b" || made.Annotations["x"] != "w" || made.Annotations[resourcev1.PodResourceClaimAnnotation] != "made" ||
		owner == nil || owner.UID != "u" || owner.Kind != "Pod" || owner.BlockOwnerDeletion == nil || !*owner.BlockOwnerDeletion || made.Spec.Devices.Requests[0].Name != "r" {
		t.Errorf("%+v", made)
	}
	// It is there: it is named, and not made again.
	made.Name = "p-made-x"
	todo = decidePod(pod(""), []*resourcev1.ResourceClaim{made}, claim, find)
	if len(todo.create) != 0 || len(todo.statuses) != 1 || *todo.statuses[0].ResourceClaimName != "p-made-x" {
		t.Errorf("%+v", todo)
	}
	// Two are: the status says which.
	other := made.DeepCopy()
	other.Name = "p-made-a"
	p := pod("")
	p.Status.ResourceClaimStatuses = todo.statuses
	if todo = decidePod(p, []*resourcev1.ResourceClaim{other, made}, claim, find); *todo.statuses[0].ResourceClaimName != "p-made-x" {
		t.Errorf("%+v", todo)
	}
	// One that goes doesn't count.
	gone := made.DeepCopy()
	gone.DeletionTimestamp = &metav1.Time{Time: time.Now()}
	if todo = decidePod(pod(""), []*resourcev1.ResourceClaim{gone}, claim, find); len(todo.create) != 1 {
		t.Errorf("%+v", todo)
	}
	// A pod that was bound by hand gets its reservation.
	p = pod("")
	p.Spec.NodeName = "n1"
	if todo = decidePod(p, []*resourcev1.ResourceClaim{made}, claim, find); len(todo.reserve) != 1 || todo.reserve[0].Name != "g" {
		t.Errorf("%+v", todo)
	}
	p = pod("")
	p.Spec.ResourceClaims[0].ResourceClaimTemplateName = &[]string{"nix"}[0]
	if todo = decidePod(p, nil, claim, find); len(todo.problems) != 1 || !strings.Contains(todo.problems[0], `resource claim template "nix" not found`) {
		t.Errorf("%+v", todo)
	}
	for _, ended := range []string{`, status: {phase: Succeeded}`, `, status: {phase: Failed}`} {
		if todo = decidePod(pod(ended), nil, claim, find); len(todo.create) != 0 {
			t.Errorf("%s: %+v", ended, todo)
		}
	}
}

// What one claim goes through, on the fake API: made, allocated, used, given back, removed.
func TestAClaimsLife(t *testing.T) {
	api := reconciletest.New(nil)
	ctx := t.Context()
	c := &shell{reconcile.Env{Client: api}.WithDefaults(), nil}
	must := func(o any, err error) any {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	must(api.Create(ctx, Templates(), object[resourcev1.ResourceClaimTemplate](t, `{metadata: {name: t, namespace: default}, spec: {spec: {devices: {requests: [{name: r, exactly: {deviceClassName: c}}]}}}}`)))
	pod := must(api.Create(ctx, reconcile.Pods(), object[corev1.Pod](t, `{metadata: {name: p, namespace: default}, spec: {containers: [{name: c, image: i}], resourceClaims: [{name: gpu, resourceClaimTemplateName: t}]}}`))).(*corev1.Pod)
	settle := func() *resourcev1.ResourceClaim {
		t.Helper()
		var last *resourcev1.ResourceClaim
		for range 4 {
			if err := c.pod(ctx, podKey("default", "p")); err != nil {
				t.Fatal(err)
			}
			last = nil
			for _, o := range must(api.List(ctx, Claims(), "default", nil)).([]apiObject) {
				if err := c.claim(ctx, claimKey("default", o.GetName())); err != nil {
					t.Fatal(err)
				}
				last = o.(*resourcev1.ResourceClaim)
			}
		}
		return last
	}
	claim := settle()
	if api.Creates("resourceclaims") != 1 || claim == nil {
		t.Fatalf("%d claims were made", api.Creates("resourceclaims"))
	}
	pod = must(api.Get(ctx, reconcile.Pods(), "default", "p")).(*corev1.Pod)
	if s := pod.Status.ResourceClaimStatuses; len(s) != 1 || s[0].Name != "gpu" || *s[0].ResourceClaimName != claim.Name {
		t.Fatalf("%+v", s)
	}
	protect := claim.DeepCopy()
	protect.Finalizers = []string{resourcev1.Finalizer}
	allocated := must(api.Update(ctx, Claims(), "", protect)).(*resourcev1.ResourceClaim).DeepCopy()
	allocated.Status.Allocation = &resourcev1.AllocationResult{}
	allocated.Status.ReservedFor = []resourcev1.ResourceClaimConsumerReference{{Resource: "pods", Name: "p", UID: types.UID(pod.UID)}}
	must(api.Update(ctx, Claims(), "status", allocated))
	if claim = settle(); claim.Status.Allocation == nil || len(claim.Status.ReservedFor) != 1 || !slices.Contains(claim.Finalizers, resourcev1.Finalizer) {
		t.Fatalf("a claim in use was changed: %+v", claim)
	}
	ended := pod.DeepCopy()
	ended.Status.Phase = corev1.PodSucceeded
	must(api.Update(ctx, reconcile.Pods(), "status", ended))
	if claim = settle(); claim != nil {
		t.Fatalf("the claim of a pod that has ended is still there: %+v", claim)
	}
}

type apiObject = api.Object
