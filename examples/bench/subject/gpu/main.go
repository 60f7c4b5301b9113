// Command gpu measures the choice of GPUs, in a process of its own, and prints the results by name as JSON.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"time"

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

func main() {
	results := map[string]float64{}
	choices(results)
	prices(results)
	if err := decisions(results); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(results); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// median times calls of do, the median of which is what one takes when nothing else is on the core.
func median(count int, do func()) time.Duration {
	times := make([]time.Duration, count)
	for i := range times {
		start := time.Now()
		do()
		times[i] = time.Since(start)
	}
	slices.Sort(times)
	return times[count/2]
}

// choices times every size of 8 and of 16 GPUs, on machines with and without order in their links; the worst machine counts.
func choices(results map[string]float64) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{8, 16} {
		var machines []*topology.Matrix
		for _, link := range []func(i, j int) topology.Link{
			func(i, j int) topology.Link { return topology.Link{PCI: tree(i, j)} },
			func(i, j int) topology.Link { return topology.Link{PCI: tree(i, j), NVLinks: 6} },
			func(i, j int) topology.Link {
				return topology.Link{PCI: topology.PCILevel(1 + r.IntN(6)), NVLinks: r.IntN(7)}
			},
			func(i, j int) topology.Link { return topology.Link{NVLinks: r.IntN(2)} },
		} {
			m, err := topology.NewMatrix(n, link)
			if err != nil {
				panic(err)
			}
			machines = append(machines, m)
		}
		for size := 1; size < n; size++ {
			worst := time.Duration(0)
			for _, m := range machines {
				worst = max(worst, median(201, func() { m.Choose(topology.All(n), 0, size) }))
			}
			results[fmt.Sprintf("choose/%d/%d", n, size)] = micros(worst)
			any := fmt.Sprintf("choose/%d/any", n)
			results[any] = max(results[any], micros(worst))
		}
	}
}

func tree(i, j int) topology.PCILevel {
	switch {
	case i/2 == j/2:
		return topology.SingleSwitch
	case i/4 == j/4:
		return topology.HostBridge
	case i/8 == j/8:
		return topology.SameNUMA
	}
	return topology.CrossNUMA
}

// workload is a mix of the usual kind: most ask for one whole GPU or a large part of one.
func workload() []topology.PodClass {
	var mix []topology.PodClass
	for _, c := range []struct {
		share     float64
		milli, n  int
		cpu, many int64
	}{
		{0.48, 1000, 1, 8000, 5}, {0.13, 0, 0, 8000, 4}, {0.13, 810, 1, 6000, 3}, {0.09, 470, 1, 6000, 3}, {0.04, 320, 1, 4000, 3},
		{0.03, 650, 1, 6000, 3}, {0.02, 230, 1, 4000, 2}, {0.02, 460, 1, 4000, 2}, {0.02, 160, 1, 2000, 2}, {0.01, 590, 1, 4000, 2},
		{0.01, 550, 1, 4000, 1}, {0.006, 1000, 8, 64000, 2}, {0.004, 1000, 4, 32000, 2}, {0.004, 1000, 2, 16000, 2}, {0.005, 370, 1, 4000, 1},
	} {
		for k := range c.many {
			mix = append(mix, topology.PodClass{Frequency: c.share / float64(c.many), GPUMilli: c.milli, GPUs: c.n, CPUMilli: c.cpu + 1000*k, Memory: (c.cpu + 1000*k) << 21})
		}
	}
	return mix
}

func prices(results map[string]float64) {
	mix := workload()
	results["price/ms"] = micros(median(9, func() { topology.NewPrices(mix, nil) })) / 1000
	for i := range mix {
		if mix[i].GPUs == 1 && mix[i].GPUMilli < topology.Whole {
			mix[i].GPUMilli += i % 7 // no common unit: the longest way
		}
	}
	results["price/odd/ms"] = micros(median(9, func() { topology.NewPrices(mix, nil) })) / 1000
}

// decisions fills 1,213 nodes with 6,212 GPUs to about 90 % and times the decisions while pods come and go.
func decisions(results map[string]float64) error {
	for _, name := range []string{"given", "learned"} {
		mix := workload()
		o, pricer := plugins.GPUOptions{}, devices.NewPricer()
		if name == "given" {
			o.Prices = topology.NewPrices(mix, nil)
		} else {
			o.Pricer = pricer
		}
		d := scheduler.NewDecider(scheduler.Profile{Plugins: []framework.Plugin{
			plugins.NodeUnschedulable{}, plugins.TaintToleration{}, plugins.NodeAffinity{}, plugins.NodeResourcesFit{Ignore: devices.Counts}, plugins.NewGPU(o),
		}})
		for i := range 1213 {
			d.SetNode(node(i))
		}
		times, err := churn(d, mix, func() {
			if name == "learned" && pricer.Due() {
				pricer.Reprice()
			}
		})
		if err != nil {
			return err
		}
		slices.Sort(times)
		results["decide/"+name+"/p50"] = micros(times[len(times)/2])
		results["decide/"+name+"/p99"] = micros(times[len(times)*99/100])
	}
	return nil
}

func churn(d *scheduler.Decider, mix []topology.PodClass, before func()) (times []time.Duration, err error) {
	r := rand.New(rand.NewPCG(4, 5))
	type placed struct {
		uid  types.UID
		size int
	}
	var here []placed
	used := 0
	for i := 0; len(times) < 10_000; i++ {
		for used > 6212*9*topology.Whole/10 {
			k := r.IntN(len(here))
			d.Forget(here[k].uid)
			used -= here[k].size
			here[k] = here[len(here)-1]
			here = here[:len(here)-1]
		}
		at, c := r.Float64(), 0
		for c < len(mix)-1 && at >= mix[c].Frequency {
			at -= mix[c].Frequency
			c++
		}
		pod := framework.NewPod(pod(i, &mix[c]))
		before()
		start := time.Now()
		to, err := d.Decide(context.Background(), pod)
		took := time.Since(start)
		if i > 8_000 { // it is full
			times = append(times, took)
		}
		if fit := (*scheduler.FitError)(nil); errors.As(err, &fit) {
			continue
		} else if err != nil {
			return nil, err
		}
		d.Assume(pod, to)
		here = append(here, placed{pod.UID, mix[c].GPUs * mix[c].GPUMilli})
		used += mix[c].GPUs * mix[c].GPUMilli
	}
	return times, nil
}

// node is one of a cluster of the public trace's size: 617 nodes with 8 GPUs, 518 with 2, 54 with 4 and 24 with one.
func node(i int) *corev1.Node {
	count, cpu := 8, int64(96_000)
	switch {
	case i >= 617+518+54:
		count, cpu = 1, 16_000
	case i >= 617+518:
		count, cpu = 4, 48_000
	case i >= 617:
		count, cpu = 2, 104_000
	}
	told := topology.NodeGPUs{Mode: "fractional"}
	for g := range count {
		told.GPUs = append(told.GPUs, topology.NodeGPU{UUID: fmt.Sprintf("GPU-%d-%d", i, g), Model: "M", Memory: 16 << 30, NUMA: -1, MemoryLimits: true})
		for h := g + 1; h < count; h++ {
			told.Links = append(told.Links, topology.Link{PCI: tree(g, h)}.Score())
		}
	}
	list := corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewMilliQuantity(cpu, resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(384<<30, resource.BinarySI),
		corev1.ResourcePods:   *resource.NewQuantity(250, resource.DecimalSI),
	}
	name := fmt.Sprintf("node-%04d", i)
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}, Annotations: map[string]string{topology.NodeAnnotation: told.Format()}},
		Status:     corev1.NodeStatus{Capacity: list, Allocatable: list},
	}
}

func pod(i int, c *topology.PodClass) *corev1.Pod {
	list := corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewMilliQuantity(c.CPUMilli, resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(c.Memory, resource.BinarySI),
	}
	switch {
	case c.GPUs > 0 && c.GPUMilli == topology.Whole:
		list[topology.GPUResource] = *resource.NewQuantity(int64(c.GPUs), resource.DecimalSI)
	case c.GPUs > 0:
		list[topology.ShareResource] = *resource.NewQuantity(int64(c.GPUMilli), resource.DecimalSI)
	}
	name := fmt.Sprint("pod-", i)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID(name)},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "example.com/task", Resources: corev1.ResourceRequirements{Requests: list, Limits: list}}}},
	}
}
