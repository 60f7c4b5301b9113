package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/nodeautoscaler"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/reconciletest"
)

// cloud is a NodeProvider whose nodes join after a while, and the cluster around it: a scheduler, nodes' agents that end
// pods at once, and a controller that replaces the pods that go.
type cloud struct {
	t      *testing.T
	clock  *clocktesting.FakeClock
	fake   *reconciletest.Fake
	loop   *reconcile.Controller
	events *reconcile.Recorder

	groups   []NodeGroup
	joinsIn  time.Duration // 0: never
	pending  []coming
	serial   int
	requests []string // what was asked, in order
	returned []string
	canceled int
	down     bool // Request fails
	guarded  func(name string) bool
	again    time.Time
}

type coming struct {
	group string
	at    time.Time
}

func newCloud(t *testing.T, groups ...NodeGroup) *cloud {
	c := &cloud{t: t, clock: clocktesting.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)), groups: groups, joinsIn: 2 * time.Minute}
	c.fake = reconciletest.New(c.clock.Now)
	env := reconcile.Env{Client: c.fake, Clock: c.clock}
	c.events = reconcile.NewRecorder(env)
	c.loop = nodeautoscaler.New(env, c.events, nodeautoscaler.Config{Provider: c, Simulator: newSimulator, Evict: c.evict})
	c.create(reconcile.Namespaces(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "n"}})
	for _, g := range groups {
		for range g.Size {
			c.join(g.Name)
		}
	}
	return c
}

func nodeGroup(name string, least, most, size int, cpu string) NodeGroup {
	capacity := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse("64Gi"), corev1.ResourcePods: resource.MustParse("110")}
	return NodeGroup{Name: name, Min: least, Max: most, Size: size, Template: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"size": name}},
		Status: corev1.NodeStatus{Capacity: capacity, Allocatable: capacity}}}
}

func (c *cloud) Groups(context.Context) ([]NodeGroup, error) { return slices.Clone(c.groups), nil }

func (c *cloud) group(name string) *NodeGroup {
	return &c.groups[slices.IndexFunc(c.groups, func(g NodeGroup) bool { return g.Name == name })]
}

func (c *cloud) Request(_ context.Context, group string, count int) error {
	c.requests = append(c.requests, fmt.Sprintf("%s+%d", group, count))
	if c.down {
		return errors.New("out of machines")
	}
	c.group(group).Size += count
	for range count {
		c.pending = append(c.pending, coming{group, c.clock.Now().Add(c.joinsIn)})
	}
	return nil
}

func (c *cloud) Cancel(_ context.Context, group string, count int) error {
	c.canceled += count
	c.group(group).Size -= count
	for range count {
		at := slices.IndexFunc(c.pending, func(p coming) bool { return p.group == group })
		c.pending = slices.Delete(c.pending, at, at+1)
	}
	return nil
}

func (c *cloud) Return(_ context.Context, group, node string) error {
	for _, p := range c.pods() {
		if p.Spec.NodeName == node {
			c.t.Errorf("node %s is returned with pod %s on it", node, p.Name)
		}
	}
	c.group(group).Size--
	c.returned = append(c.returned, node)
	return nil
}

func (c *cloud) create(gvr schema.GroupVersionResource, o api.Object) {
	c.t.Helper()
	if _, err := c.fake.Create(c.t.Context(), gvr, o); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cloud) join(group string) {
	c.serial++
	n := c.group(group).Template.DeepCopy()
	n.Name = fmt.Sprintf("%s-%d", group, c.serial)
	n.Labels[NodeGroupLabel] = group
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	c.create(reconcile.Nodes(), n)
}

func (c *cloud) pods() []*corev1.Pod {
	pods, err := reconcile.List[*corev1.Pod](c.t.Context(), c.fake, reconcile.Pods(), "", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return pods
}

func (c *cloud) nodes() []*corev1.Node {
	nodes, err := reconcile.List[*corev1.Node](c.t.Context(), c.fake, reconcile.Nodes(), "", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return nodes
}

func cpuPod(name, cpu string, change ...func(*corev1.Pod)) *corev1.Pod {
	owner := true
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: name, Labels: map[string]string{"app": "a"},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "rs", UID: "rs-" + "a", Controller: &owner}}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}}}}}}
	for _, f := range change {
		f(p)
	}
	return p
}

// evict deletes the pod, and its controller makes another.
func (c *cloud) evict(ctx context.Context, namespace, name string) error {
	if c.guarded != nil && c.guarded(name) {
		return apierrors.NewTooManyRequests("budget", 0)
	}
	p, err := reconcile.Get[*corev1.Pod](ctx, c.fake, reconcile.Pods(), namespace, name)
	if err != nil || p == nil {
		return err
	}
	c.remove(p)
	c.serial++
	again := p.DeepCopy()
	again.ObjectMeta = metav1.ObjectMeta{Namespace: p.Namespace, Name: fmt.Sprintf("%s-%d", strings.SplitN(p.Name, "-", 2)[0], c.serial), Labels: p.Labels, OwnerReferences: p.OwnerReferences}
	again.Spec.NodeName, again.Status = "", corev1.PodStatus{}
	c.create(reconcile.Pods(), again)
	return nil
}

func (c *cloud) remove(p *corev1.Pod) {
	zero := int64(0)
	if err := c.fake.Delete(c.t.Context(), reconcile.Pods(), p.Namespace, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		c.t.Fatal(err)
	}
}

// schedule binds what fits, and says of the rest that it doesn't.
func (c *cloud) schedule() {
	sim := newSimulator()
	sim.SetNamespace("n", nil)
	for _, n := range c.nodes() {
		sim.SetNode(n)
	}
	pods := c.pods()
	for _, p := range pods {
		if p.Spec.NodeName != "" {
			sim.SetPod(p)
		}
	}
	for _, p := range pods {
		if p.Spec.NodeName != "" {
			continue
		}
		node, _ := sim.Place(c.t.Context(), p)
		m := p.DeepCopy()
		if node != "" {
			m.Spec.NodeName = node
			if _, err := c.fake.Update(c.t.Context(), reconcile.Pods(), "", m); err != nil {
				c.t.Fatal(err)
			}
			continue
		}
		if len(p.Status.Conditions) == 0 {
			m.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable}}
			if _, err := c.fake.Update(c.t.Context(), reconcile.Pods(), "status", m); err != nil {
				c.t.Fatal(err)
			}
		}
	}
}

// pass lets time go by in steps of 10 s.
func (c *cloud) pass(d time.Duration) {
	c.t.Helper()
	for range int(d / (10 * time.Second)) {
		c.clock.Step(10 * time.Second)
		now := c.clock.Now()
		c.pending = slices.DeleteFunc(c.pending, func(p coming) bool {
			if c.joinsIn == 0 || now.Before(p.at) {
				return false
			}
			c.join(p.group)
			return true
		})
		c.schedule()
		if now.Before(c.again) {
			continue
		}
		after, err := c.loop.Reconcile(c.t.Context(), reconcile.Key{Name: "all"})
		if err != nil && !c.down {
			c.t.Fatal(err)
		}
		c.again = now.Add(after - 10*time.Second)
		c.events.Flush(c.t.Context())
	}
}

func (c *cloud) running() (n int) {
	for _, p := range c.pods() {
		if p.Spec.NodeName != "" {
			n++
		}
	}
	return n
}

// said are the messages of a reason.
func (c *cloud) said(reason string) (out []string) {
	list, err := reconcile.List[*corev1.Event](c.t.Context(), c.fake, reconcile.Events(), "", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, e := range list {
		if e.Reason == reason {
			out = append(out, e.Message)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func TestPendingPodsGetAsManyNodesAsTheyNeedAndThoseGoAgain(t *testing.T) {
	c := newCloud(t, nodeGroup("small", 0, 20, 0, "8"))
	for n := range 50 {
		c.create(reconcile.Pods(), cpuPod(fmt.Sprintf("p%02d", n), "1"))
	}
	c.pass(time.Minute)
	if got := strings.Join(c.requests, " "); got != "small+7" {
		t.Fatalf("50 pods of a CPU each on nodes of 8 asked for %q", got)
	}
	c.pass(3 * time.Minute)
	if c.running() != 50 {
		t.Fatalf("%d pods run", c.running())
	}
	if got := c.said("TriggeredScaleUp"); len(got) != 1 || got[0] != "pod triggered scale-up: [{small 0->7 (max: 20)}]" {
		t.Errorf("said %q", got)
	}
	// Nothing changes while nothing changes.
	c.pass(2 * time.Hour)
	if len(c.requests) != 1 || len(c.returned) != 0 || len(c.nodes()) != 7 {
		t.Fatalf("asked %v, returned %v with a steady load", c.requests, c.returned)
	}
	for _, p := range c.pods() {
		c.remove(p)
	}
	c.pass(9 * time.Minute)
	if len(c.returned) != 0 {
		t.Errorf("%d nodes were returned too soon", len(c.returned))
	}
	c.pass(3 * time.Minute)
	if len(c.returned) != 7 || len(c.nodes()) != 0 || c.groups[0].Size != 0 {
		t.Errorf("%d nodes were returned, %d are left", len(c.returned), len(c.nodes()))
	}
	c.pass(time.Hour)
	if len(c.requests) != 1 {
		t.Errorf("asked %v", c.requests)
	}
}

func TestTheGroupIsChosenThatHelpsAndWastesLeast(t *testing.T) {
	big, gpu := nodeGroup("big", 0, 5, 0, "64"), nodeGroup("gpu", 0, 5, 0, "8")
	gpu.Template.Spec.Taints = []corev1.Taint{{Key: "gpu", Effect: corev1.TaintEffectNoSchedule}}
	c := newCloud(t, big, nodeGroup("small", 0, 5, 0, "8"), gpu)
	c.create(reconcile.Pods(), cpuPod("a", "4"))
	c.create(reconcile.Pods(), cpuPod("b", "30", func(p *corev1.Pod) { p.OwnerReferences[0].UID = "b" }))
	c.create(reconcile.Pods(), cpuPod("c", "1", func(p *corev1.Pod) {
		p.OwnerReferences[0].UID, p.Spec.NodeSelector = "c", map[string]string{"size": "gpu"}
	}))
	c.create(reconcile.Pods(), cpuPod("d", "100", func(p *corev1.Pod) { p.OwnerReferences[0].UID = "d" }))
	c.pass(10 * time.Minute)
	if got := strings.Join(c.requests, " "); got != "big+1" {
		t.Errorf("asked for %q: one big node holds what can be helped", got)
	}
	why := strings.Join(c.said("NotTriggerScaleUp"), "\n")
	for _, part := range []string{"pod didn't trigger scale-up: 2 Insufficient cpu, 1 node(s) had untolerated taint {gpu: }", "2 node(s) didn't match Pod's node affinity/selector"} {
		if !strings.Contains(why, part) {
			t.Errorf("the events don't say %q:\n%s", part, why)
		}
	}
	c = newCloud(t, big, nodeGroup("small", 0, 5, 0, "8"))
	c.create(reconcile.Pods(), cpuPod("a", "4"))
	c.pass(10 * time.Minute)
	if got := strings.Join(c.requests, " "); got != "small+1" {
		t.Errorf("asked for %q", got)
	}
}

func TestAGroupWhoseNodesDoNotComeIsGivenUpForAnother(t *testing.T) {
	c := newCloud(t, nodeGroup("a", 0, 5, 0, "8"), nodeGroup("b", 0, 1, 0, "16"))
	c.joinsIn = 0
	c.create(reconcile.Pods(), cpuPod("p", "4"))
	c.pass(14 * time.Minute)
	if got := strings.Join(c.requests, " "); got != "a+1" || c.canceled != 0 {
		t.Fatalf("asked for %q, canceled %d", got, c.canceled)
	}
	c.pass(2 * time.Minute)
	if got := strings.Join(c.requests, " "); got != "a+1 b+1" || c.canceled != 1 {
		t.Fatalf("asked for %q, canceled %d", got, c.canceled)
	}
	c.pass(16 * time.Minute) // b doesn't come either, and a has rested
	if got := strings.Join(c.requests, " "); got != "a+1 b+1 a+1" || c.canceled != 2 {
		t.Errorf("asked for %q, canceled %d", got, c.canceled)
	}
}

func TestAFailedRequestIsNotRepeatedAtOnce(t *testing.T) {
	c := newCloud(t, nodeGroup("a", 0, 5, 0, "8"))
	c.down = true
	c.create(reconcile.Pods(), cpuPod("p", "4"))
	c.pass(time.Hour)
	if n := len(c.requests); n < 2 || n > 4 { // after 5, 10 and 20 minutes
		t.Errorf("asked %d times in an hour", n)
	}
	if got := strings.Join(c.said("NotTriggerScaleUp"), "\n"); got != "pod didn't trigger scale-up: 1 in backoff after failed scale-up" {
		t.Errorf("said %q", got)
	}
}

func TestAGangIsHelpedWholeOrNotAtAll(t *testing.T) {
	member := func(p *corev1.Pod) {
		name := "g"
		p.Spec.SchedulingGroup = &corev1.PodSchedulingGroup{PodGroupName: &name}
	}
	for _, most := range []int{2, 4} {
		c := newCloud(t, nodeGroup("a", 0, most, 0, "8"))
		c.create(schedulingv1beta1.SchemeGroupVersion.WithResource("podgroups"), &schedulingv1beta1.PodGroup{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "g"},
			Spec: schedulingv1beta1.PodGroupSpec{SchedulingPolicy: schedulingv1beta1.PodGroupSchedulingPolicy{Gang: &schedulingv1beta1.GangSchedulingPolicy{MinCount: 3}}}})
		for n := range 3 {
			c.create(reconcile.Pods(), cpuPod(fmt.Sprint("p", n), "8", member))
		}
		c.pass(time.Minute)
		want := ""
		if most == 4 {
			want = "a+3"
		}
		if got := strings.Join(c.requests, " "); got != want {
			t.Errorf("with at most %d nodes: asked for %q", most, got)
		}
	}
}

func TestAnUnderusedNodeIsDrainedUnlessABudgetForbids(t *testing.T) {
	fill := func(c *cloud) {
		// Of three nodes, each holds a pod of one CPU: one would do.
		for i, n := range c.nodes() {
			c.create(reconcile.Pods(), cpuPod(fmt.Sprintf("p%d", i), "1", func(p *corev1.Pod) { p.Spec.NodeName = n.Name }))
			c.create(reconcile.Pods(), cpuPod(fmt.Sprintf("d%d", i), "100m", func(p *corev1.Pod) {
				p.Spec.NodeName, p.OwnerReferences[0].Kind = n.Name, "DaemonSet"
				p.Labels = nil
			}))
		}
	}
	daemonsGo := func(c *cloud) { // as their controller has it
		for _, p := range c.pods() {
			if p.OwnerReferences[0].Kind == "DaemonSet" && !slices.ContainsFunc(c.nodes(), func(n *corev1.Node) bool { return n.Name == p.Spec.NodeName && !n.Spec.Unschedulable }) {
				c.remove(p)
			}
		}
	}
	wait := func(c *cloud, d time.Duration) {
		for range int(d / (10 * time.Second)) {
			c.pass(10 * time.Second)
			daemonsGo(c)
		}
	}
	t.Run("it is", func(t *testing.T) {
		c := newCloud(t, nodeGroup("a", 1, 5, 3, "8"))
		fill(c)
		wait(c, 40*time.Minute)
		if len(c.nodes()) != 1 || c.running() != 4 || len(c.requests) != 0 {
			t.Errorf("%d nodes, %d pods run, asked %v", len(c.nodes()), c.running(), c.requests)
		}
		if len(c.said("ScaleDown")) < 2 {
			t.Errorf("said %q", c.said("ScaleDown"))
		}
	})
	t.Run("a budget that allows nothing", func(t *testing.T) {
		c := newCloud(t, nodeGroup("a", 1, 5, 3, "8"))
		fill(c)
		c.create(reconcile.PodDisruptionBudgets(), &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "b"},
			Spec: policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "a"}}}})
		wait(c, 40*time.Minute)
		if len(c.nodes()) != 3 || len(c.said("ScaleDown")) != 0 {
			t.Errorf("%d nodes are left, said %q", len(c.nodes()), c.said("ScaleDown"))
		}
	})
	t.Run("one that only says so when asked", func(t *testing.T) {
		c := newCloud(t, nodeGroup("a", 1, 5, 3, "8"))
		fill(c)
		c.guarded = func(string) bool { return true }
		wait(c, 24*time.Minute)
		if len(c.nodes()) != 3 || len(c.returned) != 0 || len(c.said("ScaleDownFailed")) != 1 {
			t.Errorf("%d nodes are left, said %q", len(c.nodes()), c.said("ScaleDownFailed"))
		}
	})
	for name, block := range map[string]func(*cloud){
		"pods that must not move": func(c *cloud) {
			for _, p := range c.pods() {
				m := p.DeepCopy()
				m.Annotations = map[string]string{"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
				if _, err := c.fake.Update(c.t.Context(), reconcile.Pods(), "", m); err != nil {
					c.t.Fatal(err)
				}
			}
		},
		"nodes that are not to be touched": func(c *cloud) {
			for _, n := range c.nodes() {
				m := n.DeepCopy()
				m.Annotations = map[string]string{"cluster-autoscaler.kubernetes.io/scale-down-disabled": "true"}
				if _, err := c.fake.Update(c.t.Context(), reconcile.Nodes(), "", m); err != nil {
					c.t.Fatal(err)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCloud(t, nodeGroup("a", 1, 5, 3, "8"))
			fill(c)
			block(c)
			wait(c, 30*time.Minute)
			if len(c.nodes()) != 3 {
				t.Errorf("%d nodes are left", len(c.nodes()))
			}
		})
	}
}

func claimed(name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}}}
	}
}

func TestPodsWhoseVolumesAreToBeMadeGetANode(t *testing.T) {
	c := newCloud(t, nodeGroup("small", 0, 5, 0, "8"))
	late, class := storagev1.VolumeBindingWaitForFirstConsumer, "late"
	c.create(reconcile.StorageClasses(), &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: class}, Provisioner: "example.com/x", VolumeBindingMode: &late})
	c.create(reconcile.PersistentVolumeClaims(), &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "data"}, Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: &class}})
	c.create(reconcile.Pods(), cpuPod("a", "1", claimed("data")))
	c.create(reconcile.Pods(), cpuPod("b", "1", claimed("none")))
	c.pass(time.Minute)
	if got := strings.Join(c.requests, " "); got != "small+1" {
		t.Errorf("asked for %q", got)
	}
	if got := c.said("NotTriggerScaleUp"); len(got) != 1 || !strings.Contains(got[0], `persistentvolumeclaim "none" not found`) {
		t.Errorf("of the pod whose claim isn't there it is said %q", got)
	}
}

func TestANodeWithAClaimsVolumeIsNotReturned(t *testing.T) {
	g := nodeGroup("small", 0, 5, 1, "8")
	g.Template.Labels[corev1.LabelHostname] = "host"
	c := newCloud(t, g)
	v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "v"}, Spec: corev1.PersistentVolumeSpec{ClaimRef: &corev1.ObjectReference{Namespace: "n", Name: "data"},
		NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{"host"}}}}}}}}}
	c.create(reconcile.PersistentVolumes(), v)
	c.pass(time.Hour)
	if len(c.returned) != 0 {
		t.Fatalf("the node that has the data of a claim was returned")
	}
	if err := c.fake.Delete(t.Context(), reconcile.PersistentVolumes(), "", "v", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.pass(time.Hour)
	if len(c.returned) != 1 {
		t.Errorf("the node wasn't returned when the volume was gone")
	}
}
