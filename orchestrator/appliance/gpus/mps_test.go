package gpus_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/gpu"
	"github.com/pintle/pintle/gpu/gputest"
	"github.com/pintle/pintle/gpu/topology"
	"github.com/pintle/pintle/orchestrator/appliance/gpus"
	"github.com/pintle/pintle/orchestrator/scheduler"
	"github.com/pintle/pintle/orchestrator/scheduler/framework"
	"github.com/pintle/pintle/orchestrator/scheduler/plugins"
)

// Pods that share a GPU by MPS get what CUDA's clients need of it: the daemon's pipes, a fair part of the threads and of the
// memory, and the GPU, which the scheduler gives to as many of them as may share it and no more. Without the daemon they don't run.
func TestPodsThatShareByMPSGetItsPipesAndLimits(t *testing.T) {
	machine := gputest.TwoL4()
	dir := t.TempDir()
	root, pipes := filepath.Join(dir, "root"), filepath.Join(dir, "mps")
	if err := machine.HostFiles(root, nil); err != nil {
		t.Fatal(err)
	}
	devices, err := gpus.New(gpus.Config{DriverRoot: root, Config: gpu.Config{Driver: machine, StateFile: filepath.Join(dir, "claims.json"),
		Sharing: gpu.Sharing{Mode: gpu.MPS, Replicas: 2}, MPS: gpu.MPSConfig{Dir: pipes}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- devices.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	<-devices.Ready()

	state := devices.State()
	if got := state.Allocatable[topology.GPUResource]; got.Value() != 4 {
		t.Fatalf("%v are offered, want 2 GPUs twice each", got.Value())
	}
	allocatable := corev1.ResourceList{"cpu": resource.MustParse("8"), "memory": resource.MustParse("64Gi"), "pods": resource.MustParse("110")}
	for name, q := range state.Allocatable {
		allocatable[name] = q
	}
	d := scheduler.NewDecider(scheduler.Profile{Plugins: append([]framework.Plugin{plugins.NewGPU(plugins.GPUOptions{})}, plugins.Default()...)})
	d.SetNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Annotations: state.Annotations, Labels: state.Labels}, Status: corev1.NodeStatus{Allocatable: allocatable}})
	decided := func(name string) (*corev1.Pod, error) {
		asks := corev1.ResourceList{"cpu": resource.MustParse("1"), topology.GPUResource: resource.MustParse("1")}
		pod := framework.NewPod(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: asks, Limits: asks}}}}})
		to, err := d.Decide(ctx, pod)
		if err != nil {
			return nil, err
		}
		return d.Assume(pod, to).Pod, nil
	}
	first, err := decided("p0")
	if err != nil {
		t.Fatal(err)
	}
	if err := devices.Claim(ctx, first); !errors.Is(err, gpu.ErrNoMPS) {
		t.Fatalf("without the daemon: %v", err)
	}
	if err := os.MkdirAll(pipes, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(pipes, "control"), nil, 0o600); err != nil { // the daemon's pipe
		t.Fatal(err)
	}
	users := map[string]int{}
	for i, pod := range []*corev1.Pod{first, nil, nil, nil} {
		if pod == nil {
			if pod, err = decided(fmt.Sprint("p", i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := devices.Claim(ctx, pod); err != nil {
			t.Fatal(err)
		}
		grants, err := topology.ParseGrants(pod.Annotations[topology.PodAnnotation])
		if err != nil || len(grants) != 1 {
			t.Fatalf("%s: %v %v", pod.Name, grants, err)
		}
		users[grants[0].GPU]++
		given, err := devices.Injection(pod, "c")
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"CUDA_MPS_PIPE_DIRECTORY=/tmp/nvidia-mps", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=50", "NVIDIA_VISIBLE_DEVICES=" + grants[0].GPU} {
			if !slices.Contains(given.Env, want) {
				t.Errorf("%s: %v lacks %s", pod.Name, given.Env, want)
			}
		}
		if !slices.ContainsFunc(given.Env, func(e string) bool { return strings.HasPrefix(e, "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT=0=") }) {
			t.Errorf("%s: %v lacks a limit of memory", pod.Name, given.Env)
		}
		pipe := false
		for _, m := range given.Mounts {
			pipe = pipe || m.HostPath == pipes && m.ContainerPath == "/tmp/nvidia-mps"
		}
		if !pipe || len(given.Devices) == 0 {
			t.Errorf("%s: mounts %+v, devices %+v", pod.Name, given.Mounts, given.Devices)
		}
	}
	for uuid, n := range users {
		if n != 2 {
			t.Errorf("%s has %d clients", uuid, n)
		}
	}
	if pod, err := decided("p4"); err == nil {
		t.Errorf("a fifth client is taken: %v", pod.Annotations)
	}
}
