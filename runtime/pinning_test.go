package runtime_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/pintle/pintle/runtime"
	"github.com/pintle/pintle/runtime/cpus"
	"github.com/pintle/pintle/runtime/runtimetest"
)

// nearOne are devices on NUMA node 1, for pods that are called gpu.
type nearOne struct{ changed chan struct{} }

func (nearOne) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (nearOne) Ready() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}
func (nearOne) State() runtime.DeviceState                        { return runtime.DeviceState{} }
func (d nearOne) Changed() <-chan struct{}                        { return d.changed }
func (nearOne) Manages(corev1.ResourceName) bool                  { return false }
func (nearOne) Wants(p *corev1.Pod) bool                          { return strings.HasPrefix(p.Name, "gpu") }
func (nearOne) Claim(context.Context, *corev1.Pod) error          { return nil }
func (nearOne) LimitMemory(types.UID, string, string) error       { return nil }
func (nearOne) Unhealthy(types.UID) (why string, since time.Time) { return "", time.Time{} }
func (nearOne) Release(types.UID) error                           { return nil }
func (nearOne) Reconcile([]types.UID) error                       { return nil }
func (d nearOne) Injection(p *corev1.Pod, _ string) (runtime.Injection, error) {
	if d.Wants(p) {
		return runtime.Injection{NUMA: []int{1}}, nil
	}
	return runtime.Injection{}, nil
}

func TestWholeCPUsAreAContainersOwnNearItsDevices(t *testing.T) {
	machine := &cpus.Machine{Memory: map[int]int64{0: 8 << 30, 1: 8 << 30}}
	for id := range 8 {
		machine.CPUs = append(machine.CPUs, cpus.CPU{ID: id, NUMA: id / 4, Core: fmt.Sprint(id)})
	}
	client, engine, dir := fake.NewClientset(), runtimetest.NewFakeEngine("", "img"), t.TempDir()
	launch := func() *node {
		cfg := runtime.Config{Client: client, NodeName: "n1", DataDir: dir, Engines: []runtime.Engine{engine}, Devices: nearOne{make(chan struct{})},
			CPUManagerPolicy: runtime.CPUStatic, ReservedCPUs: 1, Capacity: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("8"), corev1.ResourceMemory: resource.MustParse("64Gi")}}
		cfg.SetMachine(machine)
		a, err := runtime.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return run(t, a, client, engine, dir)
	}
	n := launch()
	guaranteed := func(name, cpu, memory string) *corev1.Pod {
		p := pod(name)
		p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
		return p
	}
	place := func(name string, attempt int) string {
		s, _ := engine.Spec(fmt.Sprintf("uid-%s-c-%d", name, attempt))
		return s.Resources.CPUSet + " " + s.Resources.MemSet
	}
	runs := func(p *corev1.Pod, want string) {
		t.Helper()
		n.create(p)
		n.eventually(p.Name+" runs", func() bool { return condition(n.get(p.Name), corev1.PodReady) })
		n.eventually(p.Name+" is at "+want+", not "+place(p.Name, 0), func() bool { return place(p.Name, 0) == want })
	}
	runs(pod("shares"), "0-7 ")
	runs(guaranteed("gpu", "1", "1Gi"), "4 1")
	runs(guaranteed("own", "1", "8Gi"), "1 0")
	runs(guaranteed("big", "1", "8Gi"), "2 ") // no node has so much memory left for it alone
	runs(guaranteed("half", "500m", "1Gi"), "0,3,5-7 ")
	n.eventually("who shares moved away", func() bool { return place("shares", 0) == "0,3,5-7 " })
	node, err := client.CoreV1().Nodes().Get(t.Context(), "n1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	capacity, allocatable := node.Status.Capacity[corev1.ResourceCPU], node.Status.Allocatable[corev1.ResourceCPU]
	if capacity.Value()-allocatable.Value() != 1 {
		t.Errorf("%v CPUs, of which %v are allocatable", capacity.Value(), allocatable.Value())
	}

	n.stop()
	n = launch()
	n.engine.Exit("uid-gpu-c-0", 1)
	n.eventually("its next attempt has the same CPU", func() bool { return place("gpu", 1) == "4 1" })
	n.remove("own")
	n.eventually("what ended is shared again", func() bool { return place("shares", 0) == "0-1,3,5-7 " })

	n.stop()
	path := filepath.Join(dir, "cpu_manager_state")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(raw), `"online":"0-7"`, `"online":"0-3"`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := runtime.Config{Client: client, NodeName: "n1", DataDir: dir, Engines: []runtime.Engine{engine}, CPUManagerPolicy: runtime.CPUStatic}
	cfg.SetMachine(machine)
	a, err := runtime.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "delete the file") {
		t.Errorf("with the file of other CPUs: %v", err)
	}
}
