package consolidation

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/pintle/pintle/gpu/topology"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/reconciletest"
)

func start() time.Time { return time.Unix(1_800_000_000, 0) }

func node(name string, gpus int, change ...func(*corev1.Node)) *corev1.Node {
	told := topology.NodeGPUs{Mode: fractional}
	for i := range gpus {
		told.GPUs = append(told.GPUs, topology.NodeGPU{UUID: fmt.Sprintf("%s-%d", name, i), Model: "M", Memory: 16 << 30})
	}
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{topology.NodeAnnotation: told.Format()}}}
	n.Status.Allocatable = corev1.ResourceList{"cpu": resource.MustParse("8"), "memory": resource.MustParse("64Gi")}
	for _, f := range change {
		f(n)
	}
	return n
}

// part is a ready pod of a ReplicaSet that has so many thousandths of a GPU of a node.
func part(name, node string, gpu, milli int, change ...func(*corev1.Pod)) *corev1.Pod {
	controller := true
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), Labels: map[string]string{"app": name},
		Annotations:     map[string]string{topology.PodAnnotation: topology.FormatGrants([]topology.Grant{{Container: "c", GPU: fmt.Sprintf("%s-%d", node, gpu), Share: milli}})},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: name, UID: types.UID("rs-" + name), Controller: &controller}}}}
	asks := corev1.ResourceList{"cpu": resource.MustParse("1"), topology.ShareResource: *resource.NewQuantity(int64(milli), resource.DecimalSI)}
	p.Spec = corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: asks, Limits: asks}}}}
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}
	for _, f := range change {
		f(p)
	}
	return p
}

// waiting asks for whole GPUs in vain.
func waiting(name string, gpus int, change ...func(*corev1.Pod)) *corev1.Pod {
	asks := corev1.ResourceList{"cpu": resource.MustParse("1"), topology.GPUResource: *resource.NewQuantity(int64(gpus), resource.DecimalSI)}
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)}}
	p.Spec.Containers = []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: asks, Limits: asks}}}
	p.Status = corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable}}}
	for _, f := range change {
		f(p)
	}
	return p
}

func annotated(key, value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Annotations[key] = value }
}

func budget(app string, allowed int32) *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: app},
		Spec:   policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}},
		Status: policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: allowed}}
}

func TestDecide(t *testing.T) {
	job := func(p *corev1.Pod) { p.OwnerReferences[0].Kind = "Job" }
	large := func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests["cpu"] = resource.MustParse("7") }
	emptyDir := func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	}
	tainted := func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "k", Effect: corev1.TaintEffectNoSchedule}} }
	two := []*corev1.Node{node("a", 1), node("b", 1)}
	halves := func(change ...func(*corev1.Pod)) []*corev1.Pod {
		return []*corev1.Pod{part("p", "a", 0, 300, change...), part("q", "b", 0, 600, annotated(MovableAnnotation, "false")), waiting("w", 1)}
	}
	none := "no node can be given the whole GPUs that pods wait for"
	for _, tc := range []struct {
		name string
		in   input
		want string // the moves, or why there are none
	}{
		{"one makes way", input{nodes: two, pods: halves()}, "a for w: p a→b"},
		{"nobody waits", input{nodes: two, pods: halves()[:2]}, "no pod waits for whole GPUs"},
		{"nobody waits, and it is always done", input{nodes: two, pods: halves()[:2], always: true}, " for : p a→b"},
		{"it says that it stays", input{nodes: two, pods: halves(annotated(MovableAnnotation, "false"))}, none},
		{"it says so in others' words", input{nodes: two, pods: halves(annotated(safeToEvict, "false"))}, none},
		{"so, too", input{nodes: two, pods: halves(annotated(doNotDisrupt, "true"))}, none},
		{"its work would be lost", input{nodes: two, pods: halves(job)}, none},
		{"it says that it may move all the same", input{nodes: two, pods: halves(job, annotated(MovableAnnotation, "true"))}, "a for w: p a→b"},
		{"nothing makes it anew", input{nodes: two, pods: halves(func(p *corev1.Pod) { p.OwnerReferences = nil })}, none},
		{"it keeps files on its node", input{nodes: two, pods: halves(emptyDir)}, none},
		{"it isn't ready", input{nodes: two, pods: halves(func(p *corev1.Pod) { p.Status.Conditions = nil })}, none},
		{"it is ending", input{nodes: two, pods: halves(func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: start()} })}, none},
		{"its controller's pods were moved just now", input{nodes: two, pods: halves(), resting: func(o types.UID) bool { return o == "rs-p" }}, none},
		{"its budget allows it", input{nodes: two, pods: halves(), budgets: []*policyv1.PodDisruptionBudget{budget("p", 1)}}, "a for w: p a→b"},
		{"its budget doesn't", input{nodes: two, pods: halves(), budgets: []*policyv1.PodDisruptionBudget{budget("p", 0)}}, none},
		{"two budgets", input{nodes: two, pods: halves(), budgets: []*policyv1.PodDisruptionBudget{budget("p", 1), budget("p", 1)}}, none},
		{"it may not run there", input{nodes: []*corev1.Node{node("a", 1), node("b", 1, tainted)}, pods: halves()}, none},
		{"who waits may not run there", input{nodes: []*corev1.Node{node("a", 1, tainted), node("b", 1)}, pods: halves()}, none},
		{"a pod that asks for a part comes", input{nodes: two, pods: append(halves(), func() *corev1.Pod {
			p := part("new", "", 0, 200)
			p.CreationTimestamp = metav1.NewTime(start())
			return p
		}())}, "a pod that asks for a part of a GPU has just come: it goes first"},
		{"one that has waited for long doesn't count", input{nodes: two, pods: append(halves(), part("old", "", 0, 200))}, "a for w: p a→b"},
		{"CPU is short for who waits", input{nodes: two, pods: append(halves()[:2], part("x", "a", 9, 1, func(p *corev1.Pod) { p.Annotations = nil; large(p) }), waiting("w", 1, large))}, none},
		{"there is an idle GPU: it isn't that which is waited for", input{nodes: append(two, node("c", 1)), pods: halves()}, none},
		{"where the fewest move", input{nodes: []*corev1.Node{node("a", 2), node("b", 2), node("c", 2)}, pods: []*corev1.Pod{
			part("a0", "a", 0, 100), part("a0x", "a", 0, 100), part("a1", "a", 1, 1000),
			part("b0", "b", 0, 300), part("b1", "b", 1, 1000),
			part("c0", "c", 0, 500, annotated(MovableAnnotation, "false")), part("c1", "c", 1, 1000), waiting("w", 1)}}, "b for w: b0 b→c"},
		{"two on one node", input{nodes: []*corev1.Node{node("a", 2), node("b", 1), node("c", 1)}, pods: []*corev1.Pod{
			part("a0", "a", 0, 300), part("a1", "a", 1, 400), part("b0", "b", 0, 600, annotated(MovableAnnotation, "false")),
			part("c0", "c", 0, 700, annotated(MovableAnnotation, "false")), waiting("w", 2)}}, "a for w: a0 a→c a1 a→b"},
		{"no more than is allowed", input{nodes: []*corev1.Node{node("a", 2), node("b", 1), node("c", 1)}, most: 1, pods: []*corev1.Pod{
			part("a0", "a", 0, 300), part("a1", "a", 1, 400), part("b0", "b", 0, 600, annotated(MovableAnnotation, "false")),
			part("c0", "c", 0, 700, annotated(MovableAnnotation, "false")), waiting("w", 2)}}, none},
		{"GPU memory counts like time", input{nodes: two, pods: []*corev1.Pod{
			part("p", "a", 0, 300, annotated(topology.PodAnnotation, topology.FormatGrants([]topology.Grant{{GPU: "a-0", Share: 300, Memory: 8 << 30}}))),
			part("q", "b", 0, 600, annotated(MovableAnnotation, "false")), waiting("w", 1)}}, none},
		{"a claim's GPU is nobody's", input{nodes: two, pods: []*corev1.Pod{part("p", "a", 0, 300),
			part("q", "b", 0, 600, annotated(topology.PodAnnotation, topology.FormatGrants([]topology.Grant{{GPU: "b-0", Claim: "default/c"}}))), waiting("w", 1)}}, none},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.in.now = start()
			if tc.in.most == 0 {
				tc.in.most = 5
			}
			if tc.in.resting == nil {
				tc.in.resting = func(types.UID) bool { return false }
			}
			p := decide(tc.in)
			got := p.why
			if len(p.moves) > 0 {
				name := ""
				if p.for1 != nil {
					name = p.for1.Name
				}
				got = p.node + " for " + name + ":"
				for _, m := range p.moves {
					got += fmt.Sprintf(" %s %s→%s", m.pod.Name, m.from, m.to)
				}
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestPodsAreMovedSlowlyAndItIsSaid(t *testing.T) {
	for _, dry := range []bool{true, false} {
		t.Run(fmt.Sprint("dry run ", dry), func(t *testing.T) {
			ctx, clock := context.Background(), clocktesting.NewFakeClock(start())
			fake := reconciletest.New(clock.Now)
			must := func(gvr string, err error) {
				t.Helper()
				if err != nil {
					t.Fatal(gvr, err)
				}
			}
			add := func(p *corev1.Pod) {
				status := p.Status
				made, err := fake.Create(ctx, reconcile.Pods(), p)
				must("pods", err)
				m := made.(*corev1.Pod).DeepCopy()
				m.Status = status
				_, err = fake.Update(ctx, reconcile.Pods(), "status", m)
				must("pods", err)
			}
			for _, n := range []*corev1.Node{node("a", 1), node("b", 1)} {
				_, err := fake.Create(ctx, reconcile.Nodes(), n)
				must("nodes", err)
			}
			add(part("p", "a", 0, 300))
			add(part("q", "b", 0, 600, annotated(MovableAnnotation, "false")))
			add(waiting("w", 1))
			made, err := fake.Create(ctx, reconcile.PodDisruptionBudgets(), budget("p", 1))
			must("budgets", err)
			b := made.(*policyv1.PodDisruptionBudget).DeepCopy()
			b.Status = policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: 1, ObservedGeneration: b.Generation}
			_, err = fake.Update(ctx, reconcile.PodDisruptionBudgets(), "status", b)
			must("budgets", err)

			env := reconcile.Env{Client: fake, Clock: clock}
			events := reconcile.NewRecorder(env)
			c := &shell{Config{Enabled: true, DryRun: dry}.withDefaults(), env.WithDefaults(), events, map[types.UID]time.Time{}}
			look := func() (s Status) {
				t.Helper()
				if again, err := c.reconcile(ctx, reconcile.Key{}); err != nil || again != time.Minute {
					t.Fatal(again, err)
				}
				m, err := reconcile.Get[*corev1.ConfigMap](ctx, fake, reconcile.ConfigMaps(), StatusNamespace, StatusName)
				if err != nil || m == nil {
					t.Fatal("no status", err)
				}
				if err := json.Unmarshal([]byte(m.Data["status"]), &s); err != nil {
					t.Fatal(err)
				}
				return s
			}
			s := look()
			if s.DryRun != dry || s.For != "default/w" || s.Node != "a" || len(s.Moves) != 1 || s.Moves[0] != (Move{"default/p", "a", "b"}) || dry != (s.Moved == 0) {
				t.Errorf("%+v", s)
			}
			p, err := reconcile.Get[*corev1.Pod](ctx, fake, reconcile.Pods(), "default", "p")
			must("pods", err)
			if dry {
				if p == nil || p.DeletionTimestamp != nil || fake.Creates("events") > 0 {
					t.Errorf("a dry run moved %+v", p)
				}
				writes := fake.Writes()
				if look(); fake.Writes() != writes {
					t.Error("the same plan is written again")
				}
				return
			}
			if p != nil && (p.DeletionTimestamp == nil || p.Status.Conditions[len(p.Status.Conditions)-1].Type != corev1.DisruptionTarget) {
				t.Errorf("%+v", p)
			}
			events.Flush(ctx)
			all, err := reconcile.List[*corev1.Event](ctx, fake, reconcile.Events(), "", nil)
			if err != nil || len(all) != 1 || all[0].Reason != "GPUConsolidation" || !strings.HasPrefix(all[0].Message, "Moved to free a whole GPU on a") {
				t.Errorf("events: %+v, %v", all, err)
			}
			have, err := reconcile.Get[*policyv1.PodDisruptionBudget](ctx, fake, reconcile.PodDisruptionBudgets(), "default", "p")
			if err != nil || have.Status.DisruptionsAllowed != 0 || len(have.Status.DisruptedPods) != 1 {
				t.Errorf("the budget: %+v, %v", have, err)
			}
			// The one that is made anew comes back to where it was, and isn't moved again at once.
			if p != nil {
				zero := int64(0)
				must("pods", fake.Delete(ctx, reconcile.Pods(), "default", "p", metav1.DeleteOptions{GracePeriodSeconds: &zero}))
			}
			must("budgets", fake.Delete(ctx, reconcile.PodDisruptionBudgets(), "default", "p", metav1.DeleteOptions{}))
			again := part("p", "a", 0, 300)
			again.UID = "p2"
			add(again)
			if s := look(); s.Moved != 1 || s.Why == "" {
				t.Errorf("%+v", s)
			}
			clock.Step(10 * time.Minute)
			if s := look(); s.Moved != 2 {
				t.Errorf("after the cool-down: %+v", s)
			}
		})
	}
}
