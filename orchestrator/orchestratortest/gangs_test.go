package orchestratortest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/utils/ptr"

	"github.com/pintle/pintle/orchestrator/api"
)

const gpus = corev1.ResourceName("nvidia.com/gpu")

// gangCluster is a cluster of nodes with GPUs that no agent stands behind: pods are bound, and gone as soon as they are deleted.
type gangCluster struct {
	*Cluster
	t   *testing.T
	ctx context.Context
}

func startGangs(t *testing.T) *gangCluster {
	return &gangCluster{Cluster: Start(t), t: t, ctx: t.Context()}
}

func (c *gangCluster) node(name, rack string, n int64) {
	c.t.Helper()
	c.AddNode(c.t, name)
	patch := func(body string, subresources ...string) {
		c.t.Helper()
		if _, err := c.Client.CoreV1().Nodes().Patch(c.ctx, name, types.MergePatchType, []byte(body), metav1.PatchOptions{}, subresources...); err != nil {
			c.t.Fatal(err)
		}
	}
	patch(fmt.Sprintf(`{"metadata":{"labels":{"rack":%q}}}`, rack))
	patch(fmt.Sprintf(`{"status":{"allocatable":{%q:"%d"},"capacity":{%q:"%d"}}}`, gpus, n, gpus, n), "status")
}

func (c *gangCluster) group(name string, least int32, change func(*schedulingv1beta1.PodGroup)) {
	c.t.Helper()
	g := &schedulingv1beta1.PodGroup{ObjectMeta: metav1.ObjectMeta{Name: name}}
	g.Spec.SchedulingPolicy.Gang = &schedulingv1beta1.GangSchedulingPolicy{MinCount: least}
	if change != nil {
		change(g)
	}
	if _, err := c.Client.SchedulingV1beta1().PodGroups("default").Create(c.ctx, g, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *gangCluster) class(name string, value int32) {
	c.t.Helper()
	if _, err := c.Client.SchedulingV1().PriorityClasses().Create(c.ctx, &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: value}, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

// pod makes one that asks for n GPUs, of a group if that isn't "".
func (c *gangCluster) pod(namespace, name, group string, n int64, change ...func(*corev1.Pod)) {
	c.t.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{TerminationGracePeriodSeconds: ptr.To[int64](0),
		Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
	if n > 0 {
		list := corev1.ResourceList{gpus: *resource.NewQuantity(n, resource.DecimalSI)}
		p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Limits: list, Requests: list}
	}
	if group != "" {
		p.Spec.SchedulingGroup = &corev1.PodSchedulingGroup{PodGroupName: &group}
	}
	for _, f := range change {
		f(p)
	}
	if _, err := c.Client.CoreV1().Pods(namespace).Create(c.ctx, p, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *gangCluster) get(namespace, name string) *corev1.Pod {
	c.t.Helper()
	p, err := c.Client.CoreV1().Pods(namespace).Get(c.ctx, name, metav1.GetOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return p
}

// on is which pods whose names start so have nodes, as "pod@node".
func (c *gangCluster) on(namespace, prefix string) (out []string) {
	c.t.Helper()
	list, err := c.Client.CoreV1().Pods(namespace).List(c.ctx, metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, p := range list.Items {
		if strings.HasPrefix(p.Name, prefix) && p.Spec.NodeName != "" {
			out = append(out, p.Name+"@"+p.Spec.NodeName)
		}
	}
	return out
}

func (c *gangCluster) count(namespace, prefix string, want int) {
	c.t.Helper()
	eventually(c.t, fmt.Sprintf("%d of %s on nodes", want, prefix), func(context.Context) (bool, error) {
		return len(c.on(namespace, prefix)) == want, nil
	})
}

// says waits for a pod that tells why it isn't scheduled.
func (c *gangCluster) says(namespace, name, text string) {
	c.t.Helper()
	said := ""
	c.t.Cleanup(func() {
		if c.t.Failed() {
			c.t.Logf("%s says %q, not %q", name, said, text)
		}
	})
	eventually(c.t, name+" that says "+text, func(context.Context) (bool, error) {
		for _, condition := range c.get(namespace, name).Status.Conditions {
			if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse {
				said = condition.Message
			}
		}
		return strings.Contains(said, text), nil
	})
}

func (c *gangCluster) groupSays(name, condition string, status metav1.ConditionStatus, text string) {
	c.t.Helper()
	eventually(c.t, name+" that says "+text, func(context.Context) (bool, error) {
		g, err := c.Client.SchedulingV1beta1().PodGroups("default").Get(c.ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		have := meta.FindStatusCondition(g.Status.Conditions, condition)
		return have != nil && have.Status == status && strings.Contains(have.Message, text), nil
	})
}

func (c *gangCluster) remove(namespace, name string) {
	c.t.Helper()
	if err := c.Client.CoreV1().Pods(namespace).Delete(c.ctx, name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}); err != nil {
		c.t.Fatal(err)
	}
}

func TestAGangIsPlacedWholeOrSaysWhyNot(t *testing.T) {
	t.Parallel()
	c := startGangs(t)
	c.node("one", "a", 4)
	c.node("two", "a", 4)
	c.pod("default", "train-0", "train", 1)
	c.says("default", "train-0", "gang train: there is no PodGroup of that name")
	c.group("train", 9, nil)
	c.says("default", "train-0", "gang train: 1 of 9 pods have come")
	for i := 1; i < 9; i++ {
		c.pod("default", fmt.Sprint("train-", i), "train", 1)
	}
	c.says("default", "train-8", "gang train: 8/9 members can be placed: 0/2 nodes are available: 2 Insufficient nvidia.com/gpu.")
	c.groupSays("train", schedulingv1beta1.PodGroupInitiallyScheduled, metav1.ConditionFalse, "gang train: 8/9 members can be placed")
	// What isn't held for it is there for others.
	c.pod("default", "small", "", 2)
	c.count("default", "small", 1)
	if on := c.on("default", "train"); len(on) > 0 {
		t.Fatalf("a part of the gang is on nodes: %v", on)
	}
	c.node("three", "a", 4)
	c.count("default", "train", 9)
	c.groupSays("train", schedulingv1beta1.PodGroupInitiallyScheduled, metav1.ConditionTrue, "members have nodes")
	// Members beyond the minimum are placed as they come, one by one.
	c.pod("default", "train-9", "train", 1)
	c.count("default", "train", 10)
	c.pod("default", "train-10", "train", 1)
	c.says("default", "train-10", "gang train: 10/11 members can be placed (9 must be): 0/3 nodes are available")
}

// Two gangs that don't fit beside each other and whose pods come in turns: one is there whole, the other not at all, and when
// the first has gone the second has its turn.
func TestTwoGangsDontHoldUpEachOther(t *testing.T) {
	t.Parallel()
	c := startGangs(t)
	c.node("one", "a", 4)
	c.node("two", "a", 4)
	label := func(p *corev1.Pod) { p.Labels = map[string]string{api.LabelPodGroup: "second"} }
	c.group("first", 6, nil)
	c.group("second", 6, nil)
	for i := range 6 {
		c.pod("default", fmt.Sprint("first-", i), "first", 1)
		c.pod("default", fmt.Sprint("second-", i), "", 1, label)
	}
	eventually(t, "a gang on nodes", func(context.Context) (bool, error) {
		a, b := len(c.on("default", "first")), len(c.on("default", "second"))
		return a+b == 6 && a*b == 0, nil
	})
	there, waiting := "first", "second"
	if len(c.on("default", "second")) > 0 {
		there, waiting = waiting, there
	}
	c.says("default", waiting+"-0", "gang "+waiting+": 2/6 members can be placed")
	for i := range 6 {
		if n := len(c.on("default", waiting)); n != 0 && n != 6 {
			t.Fatalf("%d members are on nodes", n)
		}
		c.remove("default", fmt.Sprint(there, "-", i))
	}
	c.count("default", waiting, 6)
}

func TestAGangSharesOneRack(t *testing.T) {
	t.Parallel()
	c := startGangs(t)
	for _, rack := range []string{"a", "b", "c"} {
		c.node(rack+"1", rack, 4)
		c.node(rack+"2", rack, 4)
	}
	pin := func(node string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{corev1.LabelHostname: node} }
	}
	c.pod("default", "x", "", 2, pin("a1")) // 6 are left in a,
	c.pod("default", "y", "", 1, pin("b1")) // 7 in b and 8 in c
	c.count("default", "x", 1)
	c.count("default", "y", 1)
	rack := func(g *schedulingv1beta1.PodGroup) {
		g.Spec.SchedulingConstraints = &schedulingv1beta1.PodGroupSchedulingConstraints{Topology: []schedulingv1beta1.TopologyConstraint{{Key: "rack"}}}
	}
	for name, size := range map[string]int32{"seven": 7, "eight": 8} {
		c.group(name, size, rack)
		for i := range size {
			c.pod("default", fmt.Sprint(name, "-", i), name, 1)
		}
	}
	for name, want := range map[string]string{"seven": "b", "eight": "c"} {
		c.count("default", name, len(map[string][]int{"seven": make([]int, 7), "eight": make([]int, 8)}[name]))
		for _, at := range c.on("default", name) {
			if _, node, _ := strings.Cut(at, "@"); node[:1] != want {
				t.Errorf("%s: not in rack %s", at, want)
			}
		}
	}
	c.group("nine", 9, rack)
	for i := range 9 {
		c.pod("default", fmt.Sprint("nine-", i), "nine", 1)
	}
	c.says("default", "nine-0", "gang nine: 6/9 members can be placed in rack=a, the best of 3 domains: 0/6 nodes are available")
	c.remove("default", "x")
	for i := range 8 { // even the empty rack c is too small, while all together are not
		c.remove("default", fmt.Sprint("eight-", i))
	}
	c.says("default", "nine-0", "gang nine: 8/9 members can be placed in rack=")
	if on := c.on("default", "nine"); len(on) > 0 {
		t.Errorf("a part of the gang is on nodes: %v", on)
	}
}

// A gang of a higher class takes the room of a gang that is only disrupted as a whole: all of that one's pods end, nobody
// else does, and all of the first have their nodes.
func TestAGangPreemptsAWholeGang(t *testing.T) {
	t.Parallel()
	c := startGangs(t)
	c.class("high", 100)
	c.class("middle", 50)
	c.node("one", "a", 4)
	c.node("two", "a", 4)
	c.group("low", 3, func(g *schedulingv1beta1.PodGroup) {
		g.Spec.DisruptionMode = &schedulingv1beta1.DisruptionMode{All: &schedulingv1beta1.AllDisruptionMode{}}
	})
	for i := range 3 {
		c.pod("default", fmt.Sprint("low-", i), "low", 1)
	}
	c.pod("default", "bystander", "", 2, func(p *corev1.Pod) { p.Spec.PriorityClassName = "middle" })
	c.pod("default", "kept", "", 1, func(p *corev1.Pod) { p.Spec.PriorityClassName = "high" })
	c.count("default", "low", 3)
	c.count("default", "bystander", 1)
	c.count("default", "kept", 1)
	c.group("urgent", 5, func(g *schedulingv1beta1.PodGroup) { g.Spec.PriorityClassName = "high" })
	for i := range 5 {
		c.pod("default", fmt.Sprint("urgent-", i), "urgent", 1)
	}
	c.count("default", "urgent", 5)
	c.groupSays("low", schedulingv1beta1.DisruptionTarget, metav1.ConditionTrue, "preempting to accommodate")
	if on := c.on("default", ""); len(on) != 7 || len(c.on("default", "low")) > 0 {
		t.Errorf("there are %v", on)
	}
	// One that would have to end more than it may ends nobody.
	c.group("huge", 8, func(g *schedulingv1beta1.PodGroup) { g.Spec.PriorityClassName = "high" })
	for i := range 8 {
		c.pod("default", fmt.Sprint("huge-", i), "huge", 1)
	}
	c.says("default", "huge-0", "gang huge: 0/8 members can be placed")
	if on := c.on("default", ""); len(on) != 7 {
		t.Errorf("there are %v", on)
	}
	// A single pod that needs the room of one member ends the whole gang, too.
	for i := range 5 {
		c.remove("default", fmt.Sprint("urgent-", i))
	}
	for i := range 8 {
		c.remove("default", fmt.Sprint("huge-", i))
	}
	for i := range 3 {
		c.pod("default", fmt.Sprint("low-", i), "low", 1)
	}
	c.count("default", "low", 3)
	c.pod("default", "single", "", 3, func(p *corev1.Pod) { p.Spec.PriorityClassName = "middle" })
	c.count("default", "single", 1)
	c.count("default", "low", 0)
	c.count("default", "bystander", 1)
}

func TestAGangThatIsDisruptedTogetherRestartsWhole(t *testing.T) {
	t.Parallel()
	c := startGangs(t)
	c.node("one", "a", 8)
	c.group("train", 3, func(g *schedulingv1beta1.PodGroup) {
		g.Spec.DisruptionMode = &schedulingv1beta1.DisruptionMode{All: &schedulingv1beta1.AllDisruptionMode{}}
	})
	c.group("single", 2, nil)
	gang := func() {
		for i := range 3 {
			c.pod("default", fmt.Sprint("train-", i), "train", 1)
		}
		c.count("default", "train", 3)
	}
	for i := range 2 {
		c.pod("default", fmt.Sprint("single-", i), "single", 1)
	}
	c.count("default", "single", 2)
	gone := func(but string) {
		t.Helper()
		eventually(t, "the others' end", func(context.Context) (bool, error) {
			list, err := c.Client.CoreV1().Pods("default").List(c.ctx, metav1.ListOptions{})
			return err == nil && !slices.ContainsFunc(list.Items, func(p corev1.Pod) bool {
				return strings.HasPrefix(p.Name, "train") && p.Name != but
			}), err
		})
	}
	gang()
	failed := c.get("default", "train-1") // as the node's agent writes it when a GPU is lost
	failed.Status.Phase, failed.Status.Reason = corev1.PodFailed, "Evicted"
	failed.Status.Conditions = append(failed.Status.Conditions, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue,
		Reason: "TerminationByKubelet", LastTransitionTime: metav1.Now()})
	if _, err := c.Client.CoreV1().Pods("default").UpdateStatus(c.ctx, failed, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	gone("train-1")
	c.remove("default", "train-1")
	gang() // made anew, it starts whole
	c.remove("default", "train-2")
	gone("")
	gang()
	time.Sleep(50 * time.Millisecond) // and stays: what was lost before is no reason any more
	c.count("default", "train", 3)
	c.remove("default", "single-0")
	time.Sleep(50 * time.Millisecond)
	c.count("default", "single", 1)
}

func TestAGangIsToldThatItHasWaitedTooLong(t *testing.T) {
	t.Parallel()
	c := startGangs(t)
	c.node("one", "a", 1)
	c.group("train", 2, func(g *schedulingv1beta1.PodGroup) {
		g.Annotations = map[string]string{api.AnnotationGroupTimeout: "1s"}
	})
	c.pod("default", "train-0", "train", 1)
	c.pod("default", "train-1", "train", 1)
	eventually(t, "an event of the group", func(context.Context) (bool, error) {
		list, err := c.Client.CoreV1().Events("default").List(c.ctx, metav1.ListOptions{})
		return err == nil && slices.ContainsFunc(list.Items, func(e corev1.Event) bool {
			return e.Reason == "GroupTimeout" && e.InvolvedObject.Kind == "PodGroup" && e.InvolvedObject.Name == "train" && strings.Contains(e.Message, "longer than 1s")
		}), err
	})
	c.node("two", "a", 1)
	c.count("default", "train", 2) // it is tried again all the same
}

func (c *gangCluster) queue(q *api.Queue) {
	c.t.Helper()
	client, err := dynamic.NewForConfig(c.RESTConfig())
	if err != nil {
		c.t.Fatal(err)
	}
	q.APIVersion, q.Kind = api.SchedulingGroupVersion().String(), "Queue"
	spec := map[string]any{"cohort": q.Spec.Cohort, "weight": int64(q.Spec.Weight), "nominalQuota": map[string]any{}, "namespaces": []any{}}
	for r, n := range q.Spec.NominalQuota {
		spec["nominalQuota"].(map[string]any)[string(r)] = n.String()
	}
	for _, n := range q.Spec.Namespaces {
		spec["namespaces"] = append(spec["namespaces"].([]any), n)
	}
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": q.APIVersion, "kind": q.Kind, "metadata": map[string]any{"name": q.Name}, "spec": spec}}
	if _, err := client.Resource(api.SchedulingGroupVersion().WithResource("queues")).Create(c.ctx, u, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *gangCluster) queueStatus(name, path, want string) {
	c.t.Helper()
	client, err := dynamic.NewForConfig(c.RESTConfig())
	if err != nil {
		c.t.Fatal(err)
	}
	var have string
	eventually(c.t, name+"'s "+path+" "+want, func(context.Context) (bool, error) {
		u, err := client.Resource(api.SchedulingGroupVersion().WithResource("queues")).Get(c.ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		value, _, _ := unstructured.NestedFieldNoCopy(u.Object, strings.Split(path, "/")...)
		have = fmt.Sprint(value)
		return have == want, nil
	})
}

// Two teams share 8 GPUs, 4 each: a training gang borrows what the notebooks' team leaves unused, whose pod takes its own back
// by ending the gang as a whole; what there's no quota for waits, and says why.
func TestTeamsShareQuotaAndTakeItBack(t *testing.T) {
	t.Parallel()
	c := startGangs(t)
	c.node("one", "a", 8)
	c.node("two", "a", 8) // more than there is quota for
	if _, err := c.Client.CoreV1().Namespaces().Create(c.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "notebooks"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	four := corev1.ResourceList{gpus: resource.MustParse("4")}
	c.queue(&api.Queue{ObjectMeta: metav1.ObjectMeta{Name: "training"}, Spec: api.QueueSpec{Namespaces: []string{"default"}, Cohort: "all", Weight: 1, NominalQuota: four}})
	c.queue(&api.Queue{ObjectMeta: metav1.ObjectMeta{Name: "interactive"}, Spec: api.QueueSpec{Namespaces: []string{"notebooks"}, Cohort: "all", Weight: 1, NominalQuota: four}})
	c.queueStatus("training", "status/observedGeneration", "1")
	c.queueStatus("interactive", "status/observedGeneration", "1")
	c.group("train", 6, func(g *schedulingv1beta1.PodGroup) {
		g.Spec.DisruptionMode = &schedulingv1beta1.DisruptionMode{All: &schedulingv1beta1.AllDisruptionMode{}}
	})
	for i := range 6 {
		c.pod("default", fmt.Sprint("train-", i), "train", 1)
	}
	c.count("default", "train", 6)
	c.queueStatus("training", "status/borrowed", "map[nvidia.com/gpu:2]")
	c.queueStatus("training", "status/admitted", "map[nvidia.com/gpu:6]")
	c.queueStatus("training", "status/admittedPods", "6")
	c.pod("default", "more", "", 3)
	c.says("default", "more", "queue training: 6 of 4 nvidia.com/gpu used, 3 wanted, cohort all has 2 to lend")
	c.pod("default", "never", "", 9)
	c.says("default", "never", "queue training: 9 nvidia.com/gpu wanted, it can have 8 at most")
	c.queueStatus("training", "status/pendingPods", "2")
	c.pod("notebooks", "fits", "", 2)
	c.count("notebooks", "fits", 1)
	c.count("default", "train", 6)
	c.pod("notebooks", "own", "", 1)
	c.count("notebooks", "own", 1)
	c.count("default", "train", 0)
	c.count("default", "more", 1) // within the quota that the gang has left
}
