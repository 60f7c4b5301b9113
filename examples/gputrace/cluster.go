package main

import (
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/gpu/topology"
)

const product = "nvidia.com/gpu.product"

// kubeNode is a node of the list as its agent would publish it. The list doesn't say how much memory GPUs have: a share
// of one takes as much of its memory as of its time.
func kubeNode(n node) *corev1.Node {
	const memory = 16 << 30
	told := topology.NodeGPUs{Mode: "fractional"}
	for i := range n.gpus {
		told.GPUs = append(told.GPUs, topology.NodeGPU{UUID: fmt.Sprintf("GPU-%s-%d", n.name, i), Model: n.model, Memory: memory, NUMA: -1, MemoryLimits: true})
	}
	list := corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewMilliQuantity(n.cpuMilli, resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(n.memoryMiB<<20, resource.BinarySI),
		corev1.ResourcePods:   *resource.NewQuantity(1000, resource.DecimalSI),
	}
	if n.gpus > 0 {
		list[topology.GPUResource] = *resource.NewQuantity(int64(n.gpus), resource.DecimalSI)
		list[topology.ShareResource] = *resource.NewQuantity(int64(n.gpus)*topology.Whole, resource.DecimalSI)
		list[topology.MemoryResource] = *resource.NewQuantity(int64(n.gpus)*memory, resource.BinarySI)
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name:        n.name,
			Labels:      map[string]string{corev1.LabelHostname: n.name, product: n.model},
			Annotations: map[string]string{topology.NodeAnnotation: told.Format()},
		},
		Status: corev1.NodeStatus{Capacity: list, Allocatable: list},
	}
}

// kubeSpec is a pod of the list as one would write it.
func kubeSpec(p pod) corev1.PodSpec {
	list := corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewMilliQuantity(p.cpuMilli, resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(p.memoryMiB<<20, resource.BinarySI),
	}
	limits := corev1.ResourceList{}
	switch {
	case p.gpus == 1 && p.gpuMilli < topology.Whole:
		limits[topology.ShareResource] = *resource.NewQuantity(int64(p.gpuMilli), resource.DecimalSI)
	case p.gpus > 0:
		limits[topology.GPUResource] = *resource.NewQuantity(int64(p.gpus), resource.DecimalSI)
	}
	for name, q := range limits {
		list[name] = q
	}
	spec := corev1.PodSpec{Containers: []corev1.Container{{
		Name: "main", Image: "example.com/task", Resources: corev1.ResourceRequirements{Requests: list, Limits: limits},
	}}}
	if len(p.models) > 0 {
		spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{
				{Key: product, Operator: corev1.NodeSelectorOpIn, Values: p.models},
			}}},
		}}}
	}
	return spec
}

func kubePod(spec corev1.PodSpec, number int) *corev1.Pod {
	name := "pod-" + strconv.Itoa(number)
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID(name)}, Spec: spec}
}

// mixOf is the classes of a list of pods, with their frequencies. memory as in the pods' requests.
func mixOf(pods []pod) []topology.PodClass {
	index := map[string]int{}
	var out []topology.PodClass
	for _, p := range pods {
		key := fmt.Sprint(p.cpuMilli, p.memoryMiB, p.gpus, p.gpuMilli, p.models)
		i, ok := index[key]
		if !ok {
			i = len(out)
			index[key] = i
			out = append(out, topology.PodClass{CPUMilli: p.cpuMilli, Memory: p.memoryMiB << 20, GPUs: p.gpus, GPUMilli: p.gpuMilli, Models: p.models})
		}
		out[i].Frequency += 1 / float64(len(pods))
	}
	return out
}
