package plugins_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/gpu/topology"
	"github.com/pintle/pintle/orchestrator/scheduler"
	"github.com/pintle/pintle/orchestrator/scheduler/devices"
	"github.com/pintle/pintle/orchestrator/scheduler/framework"
	"github.com/pintle/pintle/orchestrator/scheduler/plugins"
)

func list(pairs ...string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		out[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return out
}

// gpuNode has so many GPUs, in the mode of fractions; 0: it says nothing of GPUs.
func gpuNode(name string, gpus int, cpu string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{}}}
	n.Status.Allocatable = list("cpu", cpu, "memory", "64Gi", "pods", "110")
	if gpus > 0 {
		told := topology.NodeGPUs{Mode: "fractional"}
		for i := range gpus {
			told.GPUs = append(told.GPUs, topology.NodeGPU{UUID: fmt.Sprintf("GPU-%s-%d", name, i), Memory: 16 << 30, MemoryLimits: true})
		}
		n.Annotations[topology.NodeAnnotation] = told.Format()
		n.Status.Allocatable[topology.GPUResource] = *resource.NewQuantity(int64(gpus), resource.DecimalSI)
	}
	return n
}

func podOf(name string, requests corev1.ResourceList) *framework.Pod {
	return framework.NewPod(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID(name)},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Resources: corev1.ResourceRequirements{Requests: requests, Limits: requests}}}},
	})
}

func TestTheDefaultSchedulerChoosesDevicesOnce(t *testing.T) {
	d := scheduler.NewDecider()
	d.SetNode(gpuNode("a", 2, "8"))
	d.SetNode(gpuNode("b", 0, "8"))
	given := map[string]bool{}
	for i := range 2 {
		pod := podOf(fmt.Sprint("p", i), list(topology.GPUResource, "1"))
		to, err := d.Decide(context.Background(), pod)
		if err != nil {
			t.Fatal(err)
		}
		grants, err := topology.ParseGrants(to.Annotations[topology.PodAnnotation])
		if err != nil || to.Node != "a" || len(grants) != 1 || grants[0].Container != "main" || given[grants[0].GPU] {
			t.Fatalf("%+v: %v", to, err)
		}
		given[grants[0].GPU] = true
		d.Assume(pod, to)
	}
	_, err := d.Decide(context.Background(), podOf("p2", list(topology.GPUResource, "1")))
	var fit *scheduler.FitError
	if !errors.As(err, &fit) || fit.Reasons["Insufficient nvidia.com/gpu"] != 2 {
		t.Fatalf("%v", err)
	}
	if !strings.Contains(err.Error(), "short of 1 nvidia.com/gpu on ") {
		t.Errorf("the nearest miss isn't said: %v", err)
	}
	d.Forget("p0")
	if to, err := d.Decide(context.Background(), podOf("p2", list(topology.GPUResource, "1"))); err != nil || to.Node != "a" {
		t.Errorf("after one went: %+v, %v", to, err)
	}
}

func TestPodsWithoutGPUsKeepOffTheirCPUs(t *testing.T) {
	mix := []topology.PodClass{{Frequency: 1, CPUMilli: 4000, GPUMilli: topology.Whole, GPUs: 1}}
	d := scheduler.NewDecider(scheduler.Profile{Plugins: []framework.Plugin{
		plugins.NodeResourcesFit{Ignore: devices.Counts}, plugins.NewGPU(plugins.GPUOptions{Prices: topology.NewPrices(mix, nil)}),
	}})
	d.SetNode(gpuNode("gpus", 2, "9"))
	d.SetNode(gpuNode("plain", 0, "8"))
	to, err := d.Decide(context.Background(), podOf("p", list("cpu", "4")))
	if err != nil || to.Node != "plain" || len(to.Annotations) != 0 {
		t.Errorf("%+v, %v", to, err)
	}
}

func TestParts(t *testing.T) {
	// 500 and 300 are asked for. A hole of 500 on one GPU, of 600 on another: 300 belongs in neither by chance.
	d := scheduler.NewDecider(scheduler.Profile{Plugins: []framework.Plugin{plugins.NodeResourcesFit{Ignore: devices.Counts}, plugins.NewGPU(plugins.GPUOptions{})}})
	d.SetNode(gpuNode("a", 1, "8"))
	d.SetNode(gpuNode("b", 1, "8"))
	put := func(name, node string, share int) {
		pod := podOf(name, list(topology.ShareResource, fmt.Sprint(share)))
		d.Assume(pod, scheduler.Decision{Node: node, Annotations: map[string]string{
			topology.PodAnnotation: topology.FormatGrants([]topology.Grant{{Container: "main", GPU: "GPU-" + node + "-0", Share: share}}),
		}})
	}
	put("x", "a", 500)
	put("y", "b", 400)
	to, err := d.Decide(context.Background(), podOf("p", list(topology.ShareResource, "500")))
	if err != nil || to.Node != "a" {
		t.Errorf("with nothing learned, the best fit: %+v, %v", to, err)
	}
}

// Whatever comes and goes through the whole decision, no GPU gives more than it has.
func TestTheDeciderNeverGivesMoreThanThereIs(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	pricer := devices.NewPricer()
	d := scheduler.NewDecider(scheduler.Profile{Plugins: []framework.Plugin{plugins.NodeResourcesFit{Ignore: devices.Counts}, plugins.NewGPU(plugins.GPUOptions{Pricer: pricer})}})
	for i := range 6 {
		d.SetNode(gpuNode(fmt.Sprint("n", i), 1+i%4, "32"))
	}
	taken, here := map[string]int{}, map[string][]topology.Grant{}
	placed, refused := 0, 0
	for i := range 2000 {
		if pricer.Due() {
			pricer.Reprice()
		}
		if len(here) > 0 && r.IntN(5) < 2 {
			for name, grants := range here {
				for _, g := range grants {
					taken[g.GPU] -= g.Share
				}
				delete(here, name)
				d.Forget(types.UID(name))
				break
			}
		}
		requests := list(topology.ShareResource, fmt.Sprint(50*(1+r.IntN(19))), "cpu", "1")
		if r.IntN(3) == 0 {
			requests = list(topology.GPUResource, fmt.Sprint(1+r.IntN(3)), "cpu", "1")
		}
		pod := podOf(fmt.Sprint("p", i), requests)
		to, err := d.Decide(context.Background(), pod)
		if err != nil {
			refused++
			continue
		}
		placed++
		grants, err := topology.ParseGrants(to.Annotations[topology.PodAnnotation])
		if err != nil || len(grants) == 0 {
			t.Fatalf("%+v: %v", to, err)
		}
		for _, g := range grants {
			if taken[g.GPU] += g.Share; taken[g.GPU] > topology.Whole || !strings.HasPrefix(g.GPU, "GPU-"+to.Node+"-") {
				t.Fatalf("%s on %s has given %d", g.GPU, to.Node, taken[g.GPU])
			}
		}
		d.Assume(pod, to)
		here[pod.Name] = grants
	}
	if placed < 300 || refused < 100 || pricer.Latest().Prices == nil {
		t.Errorf("%d placed, %d refused: that shows little", placed, refused)
	}
}
