package gpus_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/gpu"
	"github.com/pintle/pintle/gpu/gputest"
	"github.com/pintle/pintle/gpu/topology"
	"github.com/pintle/pintle/orchestrator/appliance/gpus"
	"github.com/pintle/pintle/orchestrator/orchestratortest"
)

// Nobody names a node or a device: the scheduler chooses both, and the node gives what was chosen.
func TestTheSchedulerChoosesTheDevices(t *testing.T) {
	c := orchestratortest.Start(t)
	big := newNode(t, c, "big", gputest.DGXH100(), nil)
	parts := newNode(t, c, "parts", gputest.TwoL4(), func(cfg *gpus.Config) { cfg.Sharing = gpu.Sharing{Mode: gpu.Fractions} })
	until(t, "both are published", func() bool { return len(big.published().GPUs) == 8 && len(parts.published().GPUs) == 2 })

	anywhere := func(p *corev1.Pod) { p.Spec.NodeName = "" }
	ask := func(name string, limits map[string]string, change func(*corev1.Pod)) {
		big.pod(name, limits, func(p *corev1.Pod) {
			anywhere(p)
			if change != nil {
				change(p)
			}
		})
	}
	given := func(name string) (string, []topology.Grant) {
		p := big.get(name)
		grants, err := topology.ParseGrants(p.Annotations[topology.PodAnnotation])
		if err != nil {
			t.Fatal(err)
		}
		return p.Spec.NodeName, grants
	}

	taken := map[string]string{}
	for _, name := range []string{"train-0", "train-1"} {
		ask(name, map[string]string{topology.GPUResource: "4"}, nil)
		big.running(name)
		node, grants := given(name)
		if node != "big" || len(grants) != 4 {
			t.Fatalf("%s is on %q with %+v", name, node, grants)
		}
		for _, g := range grants {
			if other := taken[g.GPU]; other != "" {
				t.Errorf("%s and %s have %s", other, name, g.GPU)
			}
			taken[g.GPU] = name
		}
	}
	// Halves share a GPU before they open another; that nothing enforces their memory must be said to be enough.
	soft := func(p *corev1.Pod) { p.Annotations[topology.SoftAnnotation] = "true" }
	gpuOf := map[string]string{}
	for _, name := range []string{"half-0", "half-1"} {
		ask(name, map[string]string{topology.ShareResource: "500"}, soft)
		parts.running(name)
		node, grants := given(name)
		if node != "parts" || len(grants) != 1 || grants[0].Share != 500 {
			t.Fatalf("%s is on %q with %+v", name, node, grants)
		}
		gpuOf[name] = grants[0].GPU
	}
	if gpuOf["half-0"] != gpuOf["half-1"] {
		t.Errorf("two halves opened two GPUs: %v", gpuOf)
	}

	// What isn't there is waited for, and said; what ends makes room.
	ask("late", map[string]string{topology.GPUResource: "4"}, nil)
	if said := big.event("Pod", "late", "FailedScheduling"); !strings.Contains(said, "Insufficient nvidia.com/gpu") {
		t.Errorf("the event says %q", said)
	}
	big.remove("train-0")
	big.running("late")
	if node, grants := given("late"); node != "big" || len(grants) != 4 {
		t.Errorf("late is on %q with %+v", node, grants)
	}
}
