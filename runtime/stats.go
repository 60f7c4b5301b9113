package runtime

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/runtime/csi"
)

// stats adds what the kubelet says of its pods to mux: which they are, and what they consume.
func (a *Agent) stats(mux *http.ServeMux) {
	handle := func(pattern string, h func(http.ResponseWriter, *http.Request) error) {
		mux.HandleFunc(pattern, func(rw http.ResponseWriter, r *http.Request) {
			defer func() {
				if p := recover(); p != nil && p != http.ErrAbortHandler {
					a.log.Error("panic in handler", "path", r.URL.Path, "panic", fmt.Sprint(p))
				}
			}()
			if err := h(rw, r); err != nil {
				http.Error(rw, err.Error(), http.StatusInternalServerError)
			}
		})
	}
	handle("GET /pods", a.servePods)
	handle("GET /stats/summary", a.serveSummary)
	handle("GET /metrics/resource", a.serveResourceMetrics)
	handle("GET /metrics/devices", a.serveDeviceMetrics)
}

func writeJSON(rw http.ResponseWriter, v any) error {
	rw.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(rw).Encode(v)
}

func (a *Agent) servePods(rw http.ResponseWriter, _ *http.Request) error {
	l := corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}}
	for _, w := range a.allWorkers() {
		l.Items = append(l.Items, *w.pod())
	}
	return writeJSON(rw, l)
}

// usage is one running container's consumption.
type usage struct {
	pod       *corev1.Pod
	container string
	started   time.Time
	stats     Stats
}

func (a *Agent) usage(ctx context.Context) []usage {
	var out []usage
	for _, w := range a.allWorkers() {
		w.mu.Lock()
		live := make([]Container, 0, len(w.live))
		for _, c := range w.live {
			if c.State == Running {
				live = append(live, c)
			}
		}
		e := w.engine
		w.mu.Unlock()
		for _, c := range live {
			if s, err := e.Stats(ctx, c.ID); err == nil {
				out = append(out, usage{w.pod(), c.Name, c.StartedAt, s})
			}
		}
	}
	slices.SortFunc(out, func(x, y usage) int {
		return strings.Compare(objectKey(x.pod)+"/"+x.container, objectKey(y.pod)+"/"+y.container)
	})
	return out
}

// machineUsage is the whole machine's, as far as it says; where it doesn't, the containers' together.
func (a *Agent) machineUsage(all []usage) Stats {
	s := Stats{Time: a.cfg.Clock()}
	for _, u := range all {
		s.CPUNanos += u.stats.CPUNanos
		s.MemoryBytes += u.stats.MemoryBytes
		s.MemoryRSS += u.stats.MemoryRSS
	}
	if d, ok := machineCPU(); ok {
		s.CPUNanos = uint64(d)
	}
	if total, available := machineMemory(); available >= 0 && total > available {
		s.MemoryBytes = uint64(total - available)
	}
	return s
}

// serveSummary is the part of the kubelet's summary that is known: CPU and memory of the node and per container.
func (a *Agent) serveSummary(rw http.ResponseWriter, r *http.Request) error {
	type cpu struct {
		Time  time.Time `json:"time"`
		Total uint64    `json:"usageCoreNanoSeconds"`
	}
	type mem struct {
		Time    time.Time `json:"time"`
		Working uint64    `json:"workingSetBytes"`
		RSS     uint64    `json:"rssBytes"`
	}
	type container struct {
		Name   string    `json:"name"`
		Start  time.Time `json:"startTime"`
		CPU    cpu       `json:"cpu"`
		Memory mem       `json:"memory"`
	}
	type ref struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
		UID       string `json:"uid"`
	}
	type pod struct {
		Ref        ref         `json:"podRef"`
		Containers []container `json:"containers"`
		Volumes    []podVolume `json:"volume,omitempty"`
	}
	var out struct {
		Node struct {
			Name   string `json:"nodeName"`
			CPU    cpu    `json:"cpu"`
			Memory mem    `json:"memory"`
		} `json:"node"`
		Pods []pod `json:"pods"`
	}
	out.Node.Name = a.cfg.NodeName
	out.Pods = []pod{}
	all := a.usage(r.Context())
	node := a.machineUsage(all)
	out.Node.CPU, out.Node.Memory = cpu{node.Time, node.CPUNanos}, mem{node.Time, node.MemoryBytes, node.MemoryRSS}
	for _, u := range all {
		id := ref{u.pod.Name, u.pod.Namespace, string(u.pod.UID)}
		if n := len(out.Pods); n == 0 || out.Pods[n-1].Ref != id {
			out.Pods = append(out.Pods, pod{Ref: id})
		}
		p := &out.Pods[len(out.Pods)-1]
		p.Containers = append(p.Containers, container{u.container, u.started, cpu{u.stats.Time, u.stats.CPUNanos}, mem{u.stats.Time, u.stats.MemoryBytes, u.stats.MemoryRSS}})
	}
	var volumes []csi.Stats
	for i := range out.Pods {
		w := a.find(out.Pods[i].Ref.Namespace, out.Pods[i].Ref.Name)
		if w == nil || !provided(w.pod()) {
			continue
		}
		if volumes == nil { // once for all pods: it may wait
			volumes = append([]csi.Stats{}, a.volumeStats.get(r.Context())...)
		}
		out.Pods[i].Volumes = a.podVolumes(w.pod(), volumes)
	}
	return writeJSON(rw, out)
}

func (a *Agent) serveResourceMetrics(rw http.ResponseWriter, r *http.Request) error {
	rw.Header().Set("Content-Type", "text/plain; version=0.0.4")
	all := a.usage(r.Context())
	var b strings.Builder
	node := a.machineUsage(all)
	fmt.Fprintf(&b, "# HELP node_cpu_usage_seconds_total Cumulative cpu time consumed by the node in core-seconds\n# TYPE node_cpu_usage_seconds_total counter\nnode_cpu_usage_seconds_total %g\n", float64(node.CPUNanos)/1e9)
	fmt.Fprintf(&b, "# HELP node_memory_working_set_bytes Current working set of the node in bytes\n# TYPE node_memory_working_set_bytes gauge\nnode_memory_working_set_bytes %d\n", node.MemoryBytes)
	b.WriteString("# HELP container_cpu_usage_seconds_total Cumulative cpu time consumed by the container in core-seconds\n# TYPE container_cpu_usage_seconds_total counter\n")
	for _, u := range all {
		fmt.Fprintf(&b, "container_cpu_usage_seconds_total{container=%q,namespace=%q,pod=%q} %g\n", u.container, u.pod.Namespace, u.pod.Name, float64(u.stats.CPUNanos)/1e9)
	}
	b.WriteString("# HELP container_memory_working_set_bytes Current working set of the container in bytes\n# TYPE container_memory_working_set_bytes gauge\n")
	for _, u := range all {
		fmt.Fprintf(&b, "container_memory_working_set_bytes{container=%q,namespace=%q,pod=%q} %d\n", u.container, u.pod.Namespace, u.pod.Name, u.stats.MemoryBytes)
	}
	_, err := io.WriteString(rw, b.String())
	return err
}

// serveDeviceMetrics is what the node's devices say of themselves and of the pods that have them, where Config.Devices
// is a prometheus.Collector.
func (a *Agent) serveDeviceMetrics(rw http.ResponseWriter, _ *http.Request) error {
	format := expfmt.NewFormat(expfmt.TypeTextPlain)
	rw.Header().Set("Content-Type", string(format))
	c, ok := a.cfg.Devices.(prometheus.Collector)
	if !ok {
		return nil
	}
	r := prometheus.NewRegistry()
	if err := r.Register(c); err != nil {
		return fmt.Errorf("device metrics: %w", err)
	}
	families, err := r.Gather()
	if err != nil {
		return fmt.Errorf("device metrics: %w", err)
	}
	to := expfmt.NewEncoder(rw, format)
	for _, f := range families {
		if err := to.Encode(f); err != nil {
			return fmt.Errorf("device metrics: %w", err)
		}
	}
	return nil
}
