package runtime_test

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

	"github.com/pintle/pintle/runtime"
	"github.com/pintle/pintle/runtime/runtimetest"
)

func amounts(cpu, memory string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
}

// apart makes the client's status updates leave the spec alone, and the others the status, as an API server's do.
func apart(client *fake.Clientset) *fake.Clientset {
	client.PrependReactor("update", "pods", func(a k8stesting.Action) (bool, kruntime.Object, error) {
		wanted := a.(k8stesting.UpdateAction).GetObject().(*corev1.Pod)
		stored, err := client.Tracker().Get(a.GetResource(), wanted.Namespace, wanted.Name)
		if err != nil {
			return true, nil, err
		}
		now := stored.(*corev1.Pod).DeepCopy()
		if a.GetSubresource() == "status" {
			now.Status = wanted.Status
		} else {
			status := now.Status
			now = wanted.DeepCopy()
			now.Status = status
		}
		return true, now, client.Tracker().Update(a.GetResource(), now, wanted.Namespace)
	})
	return client
}

// small starts an agent of a node with 2 CPUs and 2 GiB.
func small(t *testing.T, client *fake.Clientset, engine *runtimetest.FakeEngine, dir string) *node {
	a, err := runtime.New(runtime.Config{Client: client, NodeName: "n1", DataDir: dir, Engines: []runtime.Engine{engine}, Capacity: amounts("2", "2Gi")})
	if err != nil {
		t.Fatal(err)
	}
	return run(t, a, client, engine, dir)
}

func sizedPod(name, cpu, memory string) *corev1.Pod {
	p := pod(name)
	p.Generation = 1
	p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: amounts(cpu, memory), Limits: amounts(cpu, memory)}
	return p
}

// resize changes the spec, as the resize subresource does.
func (n *node) resize(name, cpu, memory string) {
	n.t.Helper()
	p := n.get(name).DeepCopy()
	p.Generation++
	p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: amounts(cpu, memory), Limits: amounts(cpu, memory)}
	if _, err := n.client.CoreV1().Pods("default").Update(n.t.Context(), p, metav1.UpdateOptions{}); err != nil {
		n.t.Fatal(err)
	}
}

func pendingReason(p *corev1.Pod) string {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodResizePending && c.Status == corev1.ConditionTrue {
			return c.Reason + ": " + c.Message
		}
	}
	return ""
}

// has says whether the status reports the container at that size, complete.
func has(p *corev1.Pod, cpu, memory string) bool {
	st := p.Status.ContainerStatuses[0]
	return st.Resources != nil && st.Resources.Limits.Cpu().Cmp(resource.MustParse(cpu)) == 0 && st.Resources.Limits.Memory().Cmp(resource.MustParse(memory)) == 0 &&
		st.AllocatedResources.Cpu().Cmp(resource.MustParse(cpu)) == 0 && !condition(p, corev1.PodResizeInProgress) && p.Status.ObservedGeneration == p.Generation
}

func (n *node) eventReasons() (out []string) {
	l, err := n.client.CoreV1().Events("default").List(n.t.Context(), metav1.ListOptions{})
	if err != nil {
		n.t.Fatal(err)
	}
	for _, e := range l.Items {
		out = append(out, e.Reason)
	}
	return out
}

func TestARunningContainerIsResizedWithoutARestart(t *testing.T) {
	client, engine, dir := apart(fake.NewClientset()), runtimetest.NewFakeEngine("", "img"), t.TempDir()
	n := small(t, client, engine, dir)
	n.create(sizedPod("a", "500m", "256Mi"))
	n.eventually("ready", func() bool { return condition(n.get("a"), corev1.PodReady) })
	n.resize("a", "1", "512Mi")
	n.eventually("resized", func() bool { return has(n.get("a"), "1", "512Mi") })
	spec, _ := engine.Spec("uid-a-c-0")
	if spec.Resources.CPUQuota != 100000 || spec.Resources.MemoryLimit != 512<<20 || spec.Resources.CPUShares != 1024 {
		t.Errorf("the container has %+v", spec.Resources)
	}
	if box, _ := engine.SandboxSpec("uid-a"); box.Resources.CPUQuota != 100000 || box.Resources.MemoryLimit != 512<<20 {
		t.Errorf("the sandbox has %+v", box.Resources)
	}
	calls := engine.Calls()
	if i, j := slices.Index(calls, "ResizeSandbox uid-a"), slices.Index(calls, "ResizeContainer uid-a-c-0"); i < 0 || j < i {
		t.Errorf("what grows grows from the outside: %v", calls)
	}
	n.eventually("told", func() bool {
		r := n.eventReasons()
		return slices.Contains(r, "ResizeStarted") && slices.Contains(r, "ResizeCompleted")
	})

	// Its memory isn't taken from under it.
	engine.Memory.Store(300 << 20)
	n.resize("a", "1", "256Mi")
	n.eventually("in progress, with its problem", func() bool {
		p := n.get("a")
		return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodResizeInProgress && c.Reason == corev1.PodReasonError && strings.Contains(c.Message, "below its current usage") && c.ObservedGeneration == 3
		})
	})
	if st := n.get("a").Status.ContainerStatuses[0]; st.Resources.Limits.Memory().Value() != 512<<20 || st.AllocatedResources.Memory().Value() != 256<<20 {
		t.Errorf("has %v, allocated %v", st.Resources.Limits.Memory(), st.AllocatedResources.Memory())
	}

	// An agent that comes anew goes on with it.
	n.stop()
	engine.Memory.Store(100 << 20)
	n = small(t, client, engine, dir)
	n.eventually("shrunk", func() bool { return has(n.get("a"), "1", "256Mi") })
	if spec, _ := engine.Spec("uid-a-c-0"); spec.Resources.MemoryLimit != 256<<20 {
		t.Errorf("the container has %+v", spec.Resources)
	}
	if p := n.get("a"); p.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Error("it was restarted")
	}
}

func TestAResizeThatAsksForARestartGetsOneAndOnlyThatContainer(t *testing.T) {
	n := small(t, apart(fake.NewClientset()), runtimetest.NewFakeEngine("", "img"), t.TempDir())
	p := sizedPod("a", "200m", "128Mi")
	p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure // it ends with 0 on SIGTERM, and is to run again nevertheless
	p.Spec.Containers[0].ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: "cpu", RestartPolicy: "NotRequired"}, {ResourceName: "memory", RestartPolicy: "RestartContainer"}}
	p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "other", Image: "img"})
	n.create(p)
	n.eventually("ready", func() bool { return condition(n.get("a"), corev1.PodReady) })
	n.resize("a", "300m", "128Mi")
	n.eventually("resized", func() bool { return has(n.get("a"), "300m", "128Mi") })
	if n.get("a").Status.ContainerStatuses[0].RestartCount != 0 {
		t.Error("restarted for cpu")
	}
	n.resize("a", "300m", "256Mi")
	n.eventually("restarted at its new size", func() bool {
		p := n.get("a")
		return has(p, "300m", "256Mi") && p.Status.ContainerStatuses[0].RestartCount == 1 && condition(p, corev1.PodReady)
	})
	if spec, _ := n.engine.Spec("uid-a-c-1"); spec.Resources.MemoryLimit != 256<<20 {
		t.Errorf("the container has %+v", spec.Resources)
	}
	if n.get("a").Status.ContainerStatuses[1].RestartCount != 0 {
		t.Error("the other container was restarted")
	}
}

func TestAResizeThatDoesNotFitWaitsAndTheMoreUrgentComesFirst(t *testing.T) {
	n := small(t, apart(fake.NewClientset()), runtimetest.NewFakeEngine("", "img"), t.TempDir())
	urgent := sizedPod("urgent", "500m", "128Mi")
	priority := int32(100)
	urgent.Spec.Priority = &priority
	for _, p := range []*corev1.Pod{sizedPod("big", "1", "128Mi"), sizedPod("plain", "500m", "128Mi"), urgent} {
		n.create(p)
		n.eventually("ready", func() bool { return condition(n.get(p.Name), corev1.PodReady) })
	}
	n.resize("plain", "1", "128Mi")
	n.eventually("deferred", func() bool {
		return pendingReason(n.get("plain")) == "Deferred: Node didn't have enough resource: cpu, requested: 1000, used: 1500, capacity: 2000"
	})
	n.resize("urgent", "1", "128Mi")
	n.eventually("deferred", func() bool { return strings.HasPrefix(pendingReason(n.get("urgent")), "Deferred") })
	if st := n.get("plain").Status.ContainerStatuses[0]; st.AllocatedResources.Cpu().MilliValue() != 500 || st.RestartCount != 0 {
		t.Errorf("plain has %v", st.AllocatedResources)
	}
	n.resize("big", "500m", "128Mi") // what it gives back is enough for one
	n.eventually("the urgent one is resized", func() bool { return has(n.get("urgent"), "1", "128Mi") })
	if r := pendingReason(n.get("plain")); !strings.HasPrefix(r, "Deferred") {
		t.Errorf("the other one's resize is %q", r)
	}
	n.remove("big")
	n.eventually("then the other", func() bool { return has(n.get("plain"), "1", "128Mi") && pendingReason(n.get("plain")) == "" })

	n.resize("plain", "3", "128Mi")
	n.eventually("infeasible", func() bool {
		return pendingReason(n.get("plain")) == "Infeasible: Node didn't have enough capacity: cpu, requested: 3000, capacity: 2000"
	})
	n.eventually("told", func() bool {
		r := n.eventReasons()
		return slices.Contains(r, "ResizeDeferred") && slices.Contains(r, "ResizeInfeasible")
	})
	n.resize("plain", "1", "128Mi")
	n.eventually("taken back", func() bool { return pendingReason(n.get("plain")) == "" && has(n.get("plain"), "1", "128Mi") })
}
