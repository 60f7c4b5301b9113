package gpus_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/pintle/pintle/gpu"
	"github.com/pintle/pintle/gpu/gputest"
	"github.com/pintle/pintle/gpu/topology"
	"github.com/pintle/pintle/orchestrator/appliance"
	"github.com/pintle/pintle/orchestrator/appliance/gpus"
)

func TestAnAppliancePublishesAndMeasuresItsGPUs(t *testing.T) {
	registry := prometheus.NewRegistry()
	a, err := appliance.New(appliance.Config{Name: "gpus", Node: "here", DataDir: t.TempDir(), Engine: appliance.Wasm, Address: "127.0.0.1:0", Metrics: registry,
		GPUs: gpus.Config{Config: gpu.Config{Driver: gputest.DGXA100()}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if families, err := registry.Gather(); err != nil || len(families) > 0 {
			t.Errorf("after the end %d metrics are left, %v", len(families), err)
		}
	}()
	select {
	case <-a.Ready():
	case <-time.After(time.Minute):
		t.Fatal("the appliance isn't ready")
	}
	client, err := kubernetes.NewForConfig(a.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	until(t, "eight GPUs are published", func() bool {
		node, err := client.CoreV1().Nodes().Get(ctx, "here", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		q := node.Status.Allocatable[topology.GPUResource]
		return q.Value() == 8 && node.Annotations[topology.NodeAnnotation] != ""
	})
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	hosts := map[string]int{}
	for _, f := range families {
		if f.GetName() != "DCGM_FI_DEV_GPU_TEMP" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "Hostname" {
					hosts[l.GetValue()]++
				}
			}
		}
	}
	if hosts["here"] != 8 {
		t.Errorf("temperatures are of %v", hosts)
	}
}

// A node with the GPUs of its machine: it has none where there is no driver, and says why.
func Example() {
	a, err := appliance.New(appliance.Config{Name: "box", DataDir: "/var/lib/box", GPUs: gpus.Config{
		Config: gpu.Config{Sharing: gpu.Sharing{Mode: gpu.TimeSlices, Replicas: 4}},
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = a.Run // until its context ends
}
