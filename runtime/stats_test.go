package runtime_test

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/pintle/pintle/runtime"
	"github.com/pintle/pintle/runtime/runtimetest"
)

// counted are devices that show a metric.
type counted struct {
	nearOne
	prometheus.Collector
}

func TestANodeReportsWhatItAndItsPodsUse(t *testing.T) {
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "DCGM_FI_DEV_GPU_UTIL", Help: "h", ConstLabels: prometheus.Labels{"pod": "p"}})
	gauge.Set(7)
	client, engine, dir := fake.NewClientset(), runtimetest.NewFakeEngine("", "img"), t.TempDir()
	a, err := runtime.New(runtime.Config{Client: client, NodeName: "n1", DataDir: dir, Engines: []runtime.Engine{engine}, Devices: counted{nearOne{make(chan struct{})}, gauge}})
	if err != nil {
		t.Fatal(err)
	}
	n := run(t, a, client, engine, dir)
	n.create(pod("p"))
	n.eventually("ready", func() bool { return condition(n.get("p"), corev1.PodReady) })
	get := func(path string) string {
		rec := httptest.NewRecorder()
		n.agent.Handler().ServeHTTP(rec, httptest.NewRequest("GET", path, nil))
		return rec.Body.String()
	}
	var summary struct {
		Node struct {
			CPU struct {
				Total uint64 `json:"usageCoreNanoSeconds"`
			} `json:"cpu"`
			Memory struct {
				Working uint64 `json:"workingSetBytes"`
			} `json:"memory"`
		} `json:"node"`
		Pods []struct {
			Ref struct {
				Name, Namespace, UID string
			} `json:"podRef"`
		} `json:"pods"`
	}
	if err := json.Unmarshal([]byte(get("/stats/summary")), &summary); err != nil {
		t.Fatal(err)
	}
	if summary.Node.CPU.Total == 0 || summary.Node.Memory.Working == 0 || len(summary.Pods) != 1 || summary.Pods[0].Ref.UID != "uid-p" {
		t.Errorf("%+v", summary)
	}
	for path, want := range map[string]string{"/metrics/resource": "node_cpu_usage_seconds_total ", "/metrics/devices": `DCGM_FI_DEV_GPU_UTIL{pod="p"} 7`} {
		if got := get(path); !strings.Contains(got, want) {
			t.Errorf("%s: no %q in\n%s", path, want, got)
		}
	}
}
