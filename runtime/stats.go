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

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

// serveSummary is the part of the kubelet's summary that is known: CPU and memory per container.
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
	}
	var out struct {
		Node struct {
			Name string `json:"nodeName"`
		} `json:"node"`
		Pods []pod `json:"pods"`
	}
	out.Node.Name = a.cfg.NodeName
	out.Pods = []pod{}
	for _, u := range a.usage(r.Context()) {
		id := ref{u.pod.Name, u.pod.Namespace, string(u.pod.UID)}
		if n := len(out.Pods); n == 0 || out.Pods[n-1].Ref != id {
			out.Pods = append(out.Pods, pod{Ref: id})
		}
		p := &out.Pods[len(out.Pods)-1]
		p.Containers = append(p.Containers, container{u.container, u.started, cpu{u.stats.Time, u.stats.CPUNanos}, mem{u.stats.Time, u.stats.MemoryBytes, u.stats.MemoryRSS}})
	}
	return writeJSON(rw, out)
}

func (a *Agent) serveResourceMetrics(rw http.ResponseWriter, r *http.Request) error {
	rw.Header().Set("Content-Type", "text/plain; version=0.0.4")
	all := a.usage(r.Context())
	var b strings.Builder
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
