package gpus_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/pintle/pintle/gpu"
	"github.com/pintle/pintle/gpu/gputest"
	"github.com/pintle/pintle/gpu/topology"
	"github.com/pintle/pintle/internal/containertest"
	"github.com/pintle/pintle/orchestrator/appliance/gpus"
	"github.com/pintle/pintle/orchestrator/orchestratortest"
	"github.com/pintle/pintle/runtime"
	"github.com/pintle/pintle/runtime/containerd"
)

// The GPUs are files that mknod made: GPU 0 reads as /dev/zero does, so that a container that opens it finds zeros.
func TestARealContainerSeesExactlyItsDevices(t *testing.T) {
	containertest.Need(t)
	machine := gputest.TwoL4()
	machine.SetMemoryLimits(true)
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	if err := machine.HostFiles(root, mknodZero); err != nil {
		t.Fatal(err)
	}
	devices, err := gpus.New(gpus.Config{DriverRoot: root, Config: gpu.Config{Driver: machine, StateFile: filepath.Join(dir, "claims.json"), Sharing: gpu.Sharing{Mode: gpu.Fractions}}})
	if err != nil {
		t.Fatal(err)
	}
	engine, err := containerd.New(containerd.Config{Name: fmt.Sprintf("g%d", os.Getpid()), DataDir: filepath.Join(dir, "containerd"), PodCIDR: netip.MustParsePrefix("10.232.0.0/24")})
	if err != nil {
		t.Fatal(err)
	}
	c := orchestratortest.Start(t)
	client, err := kubernetes.NewForConfig(c.RESTConfigAs("system:node:n", "system:nodes"))
	if err != nil {
		t.Fatal(err)
	}
	agent, err := runtime.New(runtime.Config{Client: client, NodeName: "n", DataDir: filepath.Join(dir, "node"), Devices: devices, CPUManagerPolicy: runtime.CPUStatic, Engines: []runtime.Engine{engine}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- agent.Run(ctx) }()
	t.Cleanup(func() {
		if err := errors.Join(agent.RemoveAll(context.Background()), func() error { cancel(); return <-ended }(), engine.Teardown(context.Background())); err != nil {
			t.Error(err)
		}
		if claims := devices.Manager().Claims(); len(claims) > 0 {
			t.Errorf("after RemoveAll pods have %v", claims)
		}
	})
	if _, err := agent.ImportImages(ctx, bytes.NewReader(containertest.Busybox(t, "box:1", "NVIDIA_VISIBLE_DEVICES=all"))); err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, cluster: c, name: "n", machine: machine}
	script := `busybox ls /dev | busybox grep nvidia; echo visible $NVIDIA_VISIBLE_DEVICES
		for l in /usr/lib/x86_64-linux-gnu/libcuda.so.* /usr/bin/nvidia-smi; do [ -e $l ] && echo file $l; done
		for i in 0 1; do busybox head -c 3 /dev/nvidia$i 2>/dev/null | busybox wc -c; done
		echo x 2>/dev/null > /usr/bin/nvidia-smi && echo written
		echo done; trap 'exit 0' TERM; while :; do busybox sleep 0.1; done`
	uuid := machine.UUID(0)
	p := n.pod("a", map[string]string{topology.ShareResource: "500"}, func(p *corev1.Pod) {
		p.Spec.Containers[0].Image, p.Spec.Containers[0].Args = "box:1", []string{script}
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "beside", Image: "box:1", Args: []string{script}})
	}, topology.Grant{Container: "c", GPU: uuid, Share: 500})
	n.running("a")
	said := func(container string) (lines []string) {
		until(t, container+" has looked", func() bool {
			lines = nil
			raw, _ := os.ReadFile(filepath.Join(dir, "node", "logs", string(p.UID), container, "0.log"))
			for line := range strings.Lines(string(raw)) {
				if _, text, ok := strings.Cut(strings.TrimSpace(line), " F "); ok {
					lines = append(lines, text)
				}
			}
			return slices.Contains(lines, "done")
		})
		return lines
	}
	if got, want := said("c"), []string{"nvidia-uvm", "nvidia0", "nvidiactl", "visible " + uuid,
		"file /usr/lib/x86_64-linux-gnu/libcuda.so.580.159.04", "file /usr/bin/nvidia-smi", "3", "0", "done"}; !slices.Equal(got, want) {
		t.Errorf("the container with GPU 0 says\n%q, not\n%q", got, want)
	}
	if got, want := said("beside"), []string{"visible void", "0", "0", "done"}; !slices.Equal(got, want) {
		t.Errorf("the container beside says\n%q, not\n%q", got, want)
	}
	// The pod above shares what the next one leaves.
	allowed := func(p *corev1.Pod, container string) string {
		var pid string
		boxes, err := engine.Containers(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range boxes {
			if c.SandboxID == string(p.UID) && c.Name == container {
				pid = fmt.Sprint(c.PID)
			}
		}
		status, _ := os.ReadFile("/proc/" + pid + "/status")
		for line := range strings.Lines(string(status)) {
			if list, ok := strings.CutPrefix(line, "Cpus_allowed_list:"); ok {
				return strings.TrimSpace(list)
			}
		}
		return ""
	}
	all := allowed(p, "c")
	pinned := n.pod("pinned", map[string]string{"cpu": "1", "memory": "256Mi"}, func(p *corev1.Pod) {
		p.Spec.Containers[0].Image, p.Spec.Containers[0].Args = "box:1", []string{"while :; do busybox sleep 0.1; done"}
	})
	n.running("pinned")
	one := allowed(pinned, "c")
	if strings.ContainsAny(one, ",-") || one == "" {
		t.Errorf("a pod with one whole CPU runs on %q of %q", one, all)
	}
	until(t, "the others leave its CPU", func() bool { rest := allowed(p, "c"); return rest != all && !strings.Contains(rest, one) })
	n.remove("pinned")
	until(t, "they have it again", func() bool { return allowed(p, "c") == all })

	limits := machine.Limits(0)
	if len(limits) != 1 {
		t.Fatalf("memory limits: %v", limits)
	}
	for cgroup, bytes := range limits {
		procs, err := os.ReadFile(filepath.Join(cgroup, "cgroup.procs"))
		if err != nil || len(procs) == 0 || bytes == 0 {
			t.Errorf("the limit of %d bytes is on %s, which has the processes %q: %v", bytes, cgroup, procs, err)
		}
	}
}
