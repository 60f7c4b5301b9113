package gpus_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/pintle/pintle/gpu"
	"github.com/pintle/pintle/gpu/gputest"
	"github.com/pintle/pintle/gpu/topology"
	"github.com/pintle/pintle/orchestrator/appliance/gpus"
	"github.com/pintle/pintle/orchestrator/orchestratortest"
	"github.com/pintle/pintle/runtime"
	"github.com/pintle/pintle/runtime/runtimetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is an agent in a cluster, on a machine of fake GPUs. The machine and the engine outlive its agents.
type node struct {
	t        *testing.T
	cluster  *orchestratortest.Cluster
	name     string
	machine  *gputest.Machine
	cfg      gpus.Config
	engines  []*runtimetest.FakeEngine
	dir      string
	registry *prometheus.Registry

	devices *gpus.Devices // of the agent that runs
	stop    func()
}

func newNode(t *testing.T, c *orchestratortest.Cluster, name string, machine *gputest.Machine, change func(*gpus.Config)) *node {
	t.Helper()
	dir := t.TempDir()
	n := &node{t: t, cluster: c, name: name, machine: machine, dir: dir, registry: prometheus.NewRegistry(),
		engines: []*runtimetest.FakeEngine{runtimetest.NewFakeEngine("", "img")}}
	n.cfg.DriverRoot = filepath.Join(dir, "root")
	if err := machine.HostFiles(n.cfg.DriverRoot, nil); err != nil {
		t.Fatal(err)
	}
	n.cfg.Config = gpu.Config{Driver: machine, Poll: 20 * time.Millisecond, Retry: 20 * time.Millisecond, StateFile: filepath.Join(dir, "claims.json"),
		Health: gpu.HealthPolicy{HealAfter: 400 * time.Millisecond}, Metrics: n.registry}
	if change != nil {
		change(&n.cfg)
	}
	n.start()
	t.Cleanup(func() {
		n.stop()
		for _, what := range machine.Misuse() {
			t.Error("the driver was misused:", what)
		}
	})
	return n
}

func (n *node) start() {
	n.t.Helper()
	devices, err := gpus.New(n.cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(n.cluster.RESTConfigAs("system:node:"+n.name, "system:nodes"))
	if err != nil {
		n.t.Fatal(err)
	}
	cfg := runtime.Config{Client: client, NodeName: n.name, DataDir: filepath.Join(n.dir, "node"), Devices: devices}
	for _, e := range n.engines {
		cfg.Engines = append(cfg.Engines, e)
	}
	agent, err := runtime.New(cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- agent.Run(ctx) }()
	n.devices, n.stop = devices, func() {
		if cancel == nil {
			return
		}
		cancel()
		cancel = nil
		if err := <-ended; err != nil {
			n.t.Error(err)
		}
	}
	select {
	case <-agent.Ready():
	case <-time.After(30 * time.Second):
		n.t.Fatal("the agent isn't ready")
	}
}

func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if is() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

// pod is bound to the node by hand, with what a scheduler would have chosen.
func (n *node) pod(name string, limits map[string]string, change func(*corev1.Pod), grants ...topology.Grant) *corev1.Pod {
	n.t.Helper()
	grace := int64(1)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", Annotations: map[string]string{}},
		Spec: corev1.PodSpec{NodeName: n.name, RestartPolicy: corev1.RestartPolicyAlways, TerminationGracePeriodSeconds: &grace,
			Containers: []corev1.Container{{Name: "c", Image: "img", Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{}}}}}}
	for k, v := range limits {
		p.Spec.Containers[0].Resources.Limits[corev1.ResourceName(k)] = resource.MustParse(v)
	}
	if len(grants) > 0 {
		p.Annotations[topology.PodAnnotation] = topology.FormatGrants(grants)
	}
	if change != nil {
		change(p)
	}
	made, err := n.cluster.Client.CoreV1().Pods("default").Create(n.t.Context(), p, metav1.CreateOptions{})
	if err != nil {
		n.t.Fatal(err)
	}
	return made
}

func (n *node) get(name string) *corev1.Pod {
	n.t.Helper()
	p, err := n.cluster.Client.CoreV1().Pods("default").Get(context.Background(), name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		n.t.Fatal(err)
	}
	return p
}

func ready(p *corev1.Pod) bool {
	return p != nil && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func (n *node) running(name string) {
	n.t.Helper()
	defer func() {
		if p := n.get(name); n.t.Failed() && p != nil {
			n.t.Logf("%s: %+v", name, p.Status.ContainerStatuses)
		}
	}()
	until(n.t, name+" runs", func() bool {
		p := n.get(name)
		if p != nil && p.Status.Phase == corev1.PodFailed {
			n.t.Fatalf("%s failed: %s: %s", name, p.Status.Reason, p.Status.Message)
		}
		return ready(p)
	})
}

// fails waits until the pod has failed for a reason, in words that hold some.
func (n *node) fails(name, reason string, words ...string) *corev1.Pod {
	n.t.Helper()
	until(n.t, name+" fails", func() bool { p := n.get(name); return p != nil && p.Status.Phase == corev1.PodFailed })
	p := n.get(name)
	for _, w := range words {
		if !strings.Contains(p.Status.Message, w) {
			n.t.Errorf("%s failed with %q, which doesn't say %q", name, p.Status.Message, w)
		}
	}
	if p.Status.Reason != reason {
		n.t.Errorf("%s failed for %s: %s, not for %s", name, p.Status.Reason, p.Status.Message, reason)
	}
	return p
}

func (n *node) remove(name string) {
	n.t.Helper()
	if err := n.cluster.Client.CoreV1().Pods("default").Delete(n.t.Context(), name, metav1.DeleteOptions{}); err != nil {
		n.t.Fatal(err)
	}
	until(n.t, name+" is gone", func() bool { return n.get(name) == nil })
}

func (n *node) object() *corev1.Node {
	n.t.Helper()
	o, err := n.cluster.Client.CoreV1().Nodes().Get(context.Background(), n.name, metav1.GetOptions{})
	if err != nil {
		n.t.Fatal(err)
	}
	return o
}

func (n *node) published() topology.NodeGPUs {
	n.t.Helper()
	g, err := topology.ParseNodeGPUs(n.object().Annotations[topology.NodeAnnotation])
	if err != nil {
		n.t.Fatal(err)
	}
	return g
}

func (n *node) has(resource string) (capacity, allocatable int64) {
	o := n.object()
	c, a := o.Status.Capacity[corev1.ResourceName(resource)], o.Status.Allocatable[corev1.ResourceName(resource)]
	return c.Value(), a.Value()
}

// sees is what the GPU files and the variable are that a container was made with.
func (n *node) sees(p *corev1.Pod, container string) (files []string, visible string) {
	n.t.Helper()
	spec, ok := n.engines[0].Spec(fmt.Sprintf("%s-%s-0", p.UID, container))
	if !ok {
		n.t.Fatalf("%s has no container %s", p.Name, container)
	}
	for _, d := range spec.Devices {
		files = append(files, d.ContainerPath)
	}
	for _, e := range spec.Env {
		if v, ok := strings.CutPrefix(e, "NVIDIA_VISIBLE_DEVICES="); ok {
			visible = v
		}
	}
	slices.Sort(files)
	return files, visible
}

func (n *node) event(kind, name, reason string) (message string) {
	n.t.Helper()
	until(n.t, "event "+reason+" of "+name, func() bool {
		l, err := n.cluster.Client.CoreV1().Events("default").List(context.Background(), metav1.ListOptions{})
		if err != nil {
			n.t.Fatal(err)
		}
		for _, e := range l.Items {
			if e.InvolvedObject.Kind == kind && e.InvolvedObject.Name == name && e.Reason == reason {
				message = e.Message
				return true
			}
		}
		return false
	})
	return message
}

func TestWholeGPUsOfSeveralNodes(t *testing.T) {
	c := orchestratortest.Start(t)
	big, small := newNode(t, c, "big", gputest.DGXH100(), nil), newNode(t, c, "small", gputest.TwoL4(), nil)
	for n, want := range map[*node]int64{big: 8, small: 2} {
		until(t, "GPUs are published", func() bool { _, a := n.has(topology.GPUResource); return a == want })
		g := n.published()
		if int64(len(g.GPUs)) != want || int64(len(g.Links)) != want*(want-1)/2 || g.Mode != "none" {
			t.Errorf("%s publishes %+v", n.name, g)
		}
		if got := n.object().Labels["nvidia.com/gpu.count"]; got != fmt.Sprint(want) {
			t.Errorf("%s is labelled with %q GPUs", n.name, got)
		}
	}
	grant := func(n *node, i int) topology.Grant { return topology.Grant{Container: "c", GPU: n.machine.UUID(i)} }
	two := map[string]string{topology.GPUResource: "2"}
	p := big.pod("a", two, nil, grant(big, 2), grant(big, 5))
	big.running("a")
	files, visible := big.sees(p, "c")
	if want := []string{"/dev/nvidia-uvm", "/dev/nvidia2", "/dev/nvidia5", "/dev/nvidiactl"}; !slices.Equal(files, want) {
		t.Errorf("the container sees %v, not %v", files, want)
	}
	if want := big.machine.UUID(2) + "," + big.machine.UUID(5); visible != want {
		t.Errorf("NVIDIA_VISIBLE_DEVICES is %q, not %q", visible, want)
	}
	q := small.pod("b", map[string]string{topology.GPUResource: "1"}, nil, grant(small, 1))
	small.running("b")
	if files, _ := small.sees(q, "c"); !slices.Contains(files, "/dev/nvidia1") || slices.Contains(files, "/dev/nvidia0") {
		t.Errorf("the container sees %v", files)
	}
	none := big.pod("none", nil, nil)
	big.running("none")
	if files, visible := big.sees(none, "c"); len(files) > 0 || visible != "void" {
		t.Errorf("a pod without GPUs sees %v, %q", files, visible)
	}

	// Two compete for GPU 5, and each way of lying about it is refused.
	big.pod("late", two, nil, grant(big, 5), grant(big, 6))
	big.fails("late", "UnexpectedAdmissionError", "the device is taken", big.machine.UUID(5))
	big.event("Pod", "late", "UnexpectedAdmissionError")
	big.pod("unbound", two, nil)
	big.fails("unbound", "UnexpectedAdmissionError", topology.PodAnnotation)
	big.pod("greedy", map[string]string{topology.GPUResource: "1"}, nil, grant(big, 0), grant(big, 1))
	big.fails("greedy", "UnexpectedAdmissionError", "asks for 1 nvidia.com/gpu and was granted 2")
	big.pod("thief", nil, nil, grant(big, 0))
	big.fails("thief", "UnexpectedAdmissionError", "asks for 0 nvidia.com/gpu and was granted 1")
	big.pod("elsewhere", map[string]string{topology.GPUResource: "1"}, nil, topology.Grant{Container: "c", GPU: "GPU-elsewhere"})
	big.fails("elsewhere", "UnexpectedAdmissionError", "is not on this machine")
	if claims := big.devices.Manager().Claims(); len(claims) != 1 {
		t.Errorf("after refusals %d pods have GPUs, not 1", len(claims))
	}

	// What ends gives its GPUs to who comes at once after.
	job := big.pod("job", two, func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyNever }, grant(big, 0), grant(big, 1))
	big.running("job")
	big.engines[0].Exit(fmt.Sprintf("%s-c-0", job.UID), 0)
	until(t, "the job is done", func() bool { return big.get("job").Status.Phase == corev1.PodSucceeded })
	big.pod("next", two, nil, grant(big, 0), grant(big, 1))
	big.running("next")
	big.remove("a")
	big.pod("heir", two, nil, grant(big, 2), grant(big, 5))
	big.running("heir")
}

func TestAnInitContainerLeavesItsGPUToTheOthers(t *testing.T) {
	c := orchestratortest.Start(t)
	n := newNode(t, c, "n", gputest.TwoL4(), nil)
	p := n.pod("a", map[string]string{topology.GPUResource: "1"}, func(p *corev1.Pod) {
		first := *p.Spec.Containers[0].DeepCopy()
		first.Name = "first"
		p.Spec.InitContainers = []corev1.Container{first}
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "beside", Image: "img"})
	}, topology.Grant{Container: "first", GPU: n.machine.UUID(0)}, topology.Grant{Container: "c", GPU: n.machine.UUID(0)})
	id := fmt.Sprintf("%s-first-0", p.UID)
	until(t, "the init container runs", func() bool { return slices.Contains(n.engines[0].Calls(), "StartContainer "+id) })
	n.engines[0].Exit(id, 0)
	n.running("a")
	for container, want := range map[string]string{"first": n.machine.UUID(0), "c": n.machine.UUID(0), "beside": "void"} {
		if _, visible := n.sees(p, container); visible != want {
			t.Errorf("%s sees %q, not %q", container, visible, want)
		}
	}
}

func TestGPUsInTimeSlices(t *testing.T) {
	c := orchestratortest.Start(t)
	n := newNode(t, c, "n", gputest.TwoL4(), func(c *gpus.Config) { c.Sharing = gpu.Sharing{Mode: gpu.TimeSlices, Replicas: 2} })
	until(t, "shares are published", func() bool { _, a := n.has(topology.GPUResource); return a == 4 })
	one, g := map[string]string{topology.GPUResource: "1"}, topology.Grant{Container: "c", GPU: n.machine.UUID(0)}
	n.pod("a", one, nil, g)
	n.pod("b", one, nil, g)
	n.running("a")
	n.running("b")
	n.pod("late", one, nil, g)
	n.fails("late", "UnexpectedAdmissionError", "the device is taken", "2 of 2 shares")

	families, err := n.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, f := range families {
		if f.GetName() != "DCGM_FI_DEV_GPU_UTIL" {
			continue
		}
		for _, m := range f.GetMetric() {
			l := map[string]string{}
			for _, p := range m.GetLabel() {
				l[p.GetName()] = p.GetValue()
			}
			found[l["gpu"]+" "+l["namespace"]+" "+l["pod"]+" "+l["container"]] = true
		}
	}
	for _, want := range []string{"0 default a c", "0 default b c", "1   "} {
		if !found[want] {
			t.Errorf("no metric for %q among %v", want, found)
		}
	}
}

func TestMIGInstancesAreMadeForAPodAndGoWithIt(t *testing.T) {
	c := orchestratortest.Start(t)
	n := newNode(t, c, "n", gputest.DGXH100(), nil)
	uuid := n.machine.UUID(0)
	if err := n.devices.Manager().Divide(uuid, true); err != nil {
		t.Fatal(err)
	}
	until(t, "the GPU is divided", func() bool { g := n.published(); return g.GPUs[0].Divided && len(g.GPUs[0].Layout) > 0 })
	until(t, "a divided GPU is no whole one", func() bool { _, a := n.has(topology.GPUResource); return a == 7 })
	ask := map[string]string{topology.MIGPrefix + "1g.10gb": "1"}
	grant := topology.Grant{Container: "c", GPU: uuid, Profile: "1g.10gb", Start: 2}
	p := n.pod("a", ask, nil, grant)
	n.running("a")
	files, visible := n.sees(p, "c")
	if !strings.HasPrefix(visible, "MIG-") || len(files) != 5 || !slices.Contains(files, "/dev/nvidia0") { // ctl, uvm, the GPU, two that open the instance
		t.Errorf("the container sees %v, %q", files, visible)
	}
	until(t, "the instance is published as the pod's", func() bool {
		i := n.published().GPUs[0].Instances
		return len(i) == 1 && i[0].UUID == visible && i[0].Transient && i[0].Placement.Start == 2
	})
	n.pod("late", ask, nil, grant)
	n.fails("late", "UnexpectedAdmissionError", "the device is taken")
	n.pod("wrong", map[string]string{topology.MIGPrefix + "2g.20gb": "1"}, nil, topology.Grant{Container: "c", GPU: uuid, Profile: "1g.10gb", Start: 3})
	n.fails("wrong", "UnexpectedAdmissionError", "asks for 0 nvidia.com/mig-1g.10gb and was granted 1")
	n.remove("a")
	until(t, "the instance is gone", func() bool { return len(n.published().GPUs[0].Instances) == 0 })
	if capacity, _ := n.has(topology.MIGPrefix + "1g.10gb"); capacity != 0 {
		until(t, "its resource is gone", func() bool { c, _ := n.has(topology.MIGPrefix + "1g.10gb"); return c == 0 })
	}
}

func TestFractionsAreEnforcedOrRefused(t *testing.T) {
	c := orchestratortest.Start(t)
	fractions := func(c *gpus.Config) { c.Sharing.Mode = gpu.Fractions }
	machine := gputest.TwoL4()
	n := newNode(t, c, "n", machine, fractions)
	ask := map[string]string{topology.ShareResource: "250"}
	grant := topology.Grant{Container: "c", GPU: machine.UUID(0), Share: 250}
	n.pod("hard", ask, nil, grant)
	n.fails("hard", "UnexpectedAdmissionError", "can't be enforced")
	soft := grant
	soft.Soft = true
	n.pod("soft", ask, nil, soft)
	n.running("soft")
	n.pod("more", map[string]string{topology.ShareResource: "500"}, nil, soft)
	n.fails("more", "UnexpectedAdmissionError", "asks for 500 thousandths of a GPU and was granted 250")

	limiting := gputest.TwoL4()
	limiting.SetMemoryLimits(true)
	m := newNode(t, c, "m", limiting, fractions)
	p := m.pod("limited", ask, nil, topology.Grant{Container: "c", GPU: limiting.UUID(1), Share: 250})
	m.running("limited")
	limits := limiting.Limits(1)
	if got, want := limits[fmt.Sprintf("/cgroup/%s-c-0", p.UID)], uint64(24<<30)/4; len(limits) != 1 || got < want*9/10 || got > want {
		t.Errorf("the limits are %v, not about %d bytes", limits, want)
	}
	whole := m.pod("whole", map[string]string{topology.GPUResource: "1"}, nil, topology.Grant{Container: "c", GPU: limiting.UUID(0), Share: topology.Whole})
	m.running("whole")
	if l := limiting.Limits(0); len(l) > 0 {
		t.Errorf("a whole GPU is limited for %s: %v", whole.Name, l)
	}
}

func TestAnXIDEvictsByPolicyAndTheGPUHeals(t *testing.T) {
	c := orchestratortest.Start(t)
	n := newNode(t, c, "n", gputest.DGXA100(), nil)
	one := map[string]string{topology.GPUResource: "1"}
	policy := func(p string) func(*corev1.Pod) {
		return func(pod *corev1.Pod) { pod.Annotations[runtime.OnUnhealthyAnnotation] = p }
	}
	grant := func(i int) topology.Grant { return topology.Grant{Container: "c", GPU: n.machine.UUID(i)} }
	forever := func(p *corev1.Pod) {
		p.Spec.Tolerations = []corev1.Toleration{{Key: runtime.UnhealthyDeviceKey, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}}
	}
	n.pod("evicted", one, nil, grant(0))
	n.pod("tolerates", one, policy("tolerate"), grant(1))
	finishing := n.pod("finishes", one, policy("finish"), grant(2))
	n.pod("tolerant", one, forever, grant(3))
	n.pod("healthy", one, nil, grant(4))
	for _, name := range []string{"evicted", "tolerates", "finishes", "tolerant", "healthy"} {
		n.running(name)
	}
	for i := range 4 {
		n.machine.XID(i, 48)
	}
	p := n.fails("evicted", "Evicted", "unhealthy", "XID", n.machine.UUID(0))
	if !slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue && c.Reason == corev1.PodReasonTerminationByKubelet && strings.Contains(c.Message, "XID")
	}) {
		t.Errorf("the evicted pod is no disruption's target: %+v", p.Status.Conditions)
	}
	if m := n.event("Pod", "evicted", "Evicted"); !strings.Contains(m, "XID") {
		t.Errorf("the pod's event says %q", m)
	}
	if m := n.event("Node", "n", "DeviceUnhealthy"); !strings.Contains(m, "XID") {
		t.Errorf("the node's event says %q", m)
	}
	// A container that finishes isn't started on the bad GPU again, as long as it is bad: see below for the healed one.
	n.event("Node", "n", "DeviceHealthy") // by quiet, without a restart
	until(t, "all are allocatable again", func() bool { _, a := n.has(topology.GPUResource); return a == 8 })
	for _, g := range n.published().GPUs {
		if g.Unhealthy != "" {
			t.Errorf("GPU %s is published as unhealthy: %s", g.UUID, g.Unhealthy)
		}
	}
	n.pod("again", one, nil, grant(0))
	n.running("again")

	n.machine.Lose(2)
	until(t, "the lost one isn't allocatable", func() bool { c, a := n.has(topology.GPUResource); return c == 8 && a == 7 })
	until(t, "the scheduler is told", func() bool { return n.published().GPUs[2].Unhealthy != "" })
	n.pod("late", one, func(p *corev1.Pod) {}, topology.Grant{Container: "c", GPU: n.machine.UUID(2)})
	n.fails("late", "UnexpectedAdmissionError", "unhealthy")
	if p := n.get("finishes"); !ready(p) {
		t.Errorf("a pod that may finish doesn't run: %+v", p.Status)
	}
	n.engines[0].Exit(fmt.Sprintf("%s-c-0", finishing.UID), 1)
	n.fails("finishes", "Evicted", n.machine.UUID(2))
	for _, name := range []string{"tolerates", "tolerant", "healthy"} {
		if p := n.get(name); !ready(p) || p.Status.ContainerStatuses[0].RestartCount != 0 {
			t.Errorf("%s doesn't run on: %+v", name, p.Status)
		}
	}
	n.machine.Reset(2)
	until(t, "it is back", func() bool { _, a := n.has(topology.GPUResource); return a == 8 })
}

func TestARestartKeepsAllocationsAndReleasesWhatIsGone(t *testing.T) {
	c := orchestratortest.Start(t)
	n := newNode(t, c, "n", gputest.DGXH100(), nil)
	divided := n.machine.UUID(7)
	if err := n.devices.Manager().Divide(divided, true); err != nil {
		t.Fatal(err)
	}
	until(t, "the GPU is divided", func() bool { return n.published().GPUs[7].Divided })
	one := map[string]string{topology.GPUResource: "1"}
	grant := func(i int) topology.Grant { return topology.Grant{Container: "c", GPU: n.machine.UUID(i)} }
	kept := n.pod("kept", one, nil, grant(3))
	n.pod("gone", one, nil, grant(4))
	n.pod("mig", map[string]string{topology.MIGPrefix + "1g.10gb": "1"}, nil, topology.Grant{Container: "c", GPU: divided, Profile: "1g.10gb", Start: 0})
	for _, name := range []string{"kept", "gone", "mig"} {
		n.running(name)
	}
	n.stop()
	zero := int64(0)
	for _, name := range []string{"gone", "mig"} {
		if err := c.Client.CoreV1().Pods("default").Delete(t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
			t.Fatal(err)
		}
	}
	n.start()
	until(t, "what is gone is released", func() bool {
		claims := n.devices.Manager().Claims()
		return len(claims) == 1 && claims[0].Pod == string(kept.UID) && len(n.published().GPUs[7].Instances) == 0
	})
	n.pod("late", one, nil, grant(3))
	n.fails("late", "UnexpectedAdmissionError", "the device is taken")
	n.pod("free", one, nil, grant(4))
	n.running("free")
	if p := n.get("kept"); !ready(p) || p.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Errorf("the pod that was there: %+v", p.Status)
	}
	n.engines[0].Exit(fmt.Sprintf("%s-c-0", kept.UID), 1)
	until(t, "it restarts", func() bool {
		p := n.get("kept")
		return ready(p) && p.Status.ContainerStatuses[0].RestartCount == 1
	})
	if spec, _ := n.engines[0].Spec(fmt.Sprintf("%s-c-1", kept.UID)); !slices.Contains(spec.Env, "NVIDIA_VISIBLE_DEVICES="+n.machine.UUID(3)) {
		t.Errorf("its container has %v", spec.Env)
	}
	for label, want := range map[string]bool{"nvidia.com/gpu.count": true, "nvidia.com/mig-1g.10gb.count": false} {
		if _, has := n.object().Labels[label]; has != want {
			t.Errorf("that the node has the label %s is %v", label, has)
		}
	}
	n.machine.Unload("it was removed")
	until(t, "labels of GPUs are gone, and nothing is allocatable", func() bool {
		_, has := n.object().Labels["nvidia.com/gpu.count"]
		_, a := n.has(topology.GPUResource)
		return !has && a == 0
	})
}

func TestWASIContainersGetNoGPUs(t *testing.T) {
	c := orchestratortest.Start(t)
	n := newNode(t, c, "n", gputest.TwoL4(), nil)
	n.stop()
	n.engines = []*runtimetest.FakeEngine{runtimetest.NewFakeEngine("wasm", "img")}
	n.start()
	n.pod("a", map[string]string{topology.GPUResource: "1"}, nil, topology.Grant{Container: "c", GPU: n.machine.UUID(0)})
	n.fails("a", "UnexpectedAdmissionError", "WASI containers can't use devices")
}
