package metrics

import (
	"context"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	custommetrics "k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"

	"github.com/pintle/pintle/orchestrator/api"
)

// devicePrefix begins the names of NVIDIA's DCGM exporter: what begins so and names a pod is that pod's metric.
const devicePrefix = "DCGM_"

// series is one value with its labels.
type series struct {
	metric string
	labels map[string]string
	value  float64
}

// deviceReading is what a node's devices said.
type deviceReading struct {
	at     time.Time
	series []series
}

// readDevices reads the metrics of devices that pods have.
func readDevices(r io.Reader) ([]series, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(r)
	if err != nil {
		return nil, err
	}
	var out []series
	for _, name := range slices.Sorted(maps.Keys(families)) {
		if !strings.HasPrefix(name, devicePrefix) {
			continue
		}
		for _, m := range families[name].GetMetric() {
			one := series{metric: name, labels: map[string]string{}}
			for _, l := range m.GetLabel() {
				one.labels[l.GetName()] = l.GetValue()
			}
			switch {
			case m.GetGauge() != nil:
				one.value = m.GetGauge().GetValue()
			case m.GetCounter() != nil:
				one.value = m.GetCounter().GetValue()
			default:
				one.value = m.GetUntyped().GetValue()
			}
			if one.labels["pod"] != "" && !math.IsNaN(one.value) && !math.IsInf(one.value, 0) {
				out = append(out, one)
			}
		}
	}
	return out, nil
}

// summed says whether a pod with several GPUs has the sum of their values; of a utilization, a clock or a temperature
// it has the mean.
func summed(metric string) bool {
	for _, part := range []string{"_FB_", "POWER", "ENERGY", "COUNT", "ECC_", "ROWS", "THROUGHPUT", "BYTES"} {
		if strings.Contains(metric, part) {
			return true
		}
	}
	return false
}

// podValue is the value of one metric for one pod, of all its series that selector matches.
func podValue(all []series, metric, namespace, pod string, selector labels.Selector) (value float64, ok bool) {
	n := 0
	for _, s := range all {
		if s.metric != metric || s.labels["namespace"] != namespace || s.labels["pod"] != pod || selector != nil && !selector.Matches(labels.Set(s.labels)) {
			continue
		}
		value += s.value
		n++
	}
	if n > 0 && !summed(metric) {
		value /= float64(n)
	}
	return value, n > 0
}

// readDevicesOf asks those of the nodes whose last answer is older than a resolution, at the same time.
func (s *Service) readDevicesOf(ctx context.Context, nodes []string) map[string]deviceReading {
	out := map[string]deviceReading{}
	var mu sync.Mutex
	var asking sync.WaitGroup
	for _, node := range nodes {
		s.mu.Lock()
		known, ok := s.devices[node]
		s.mu.Unlock()
		if ok && s.cfg.Clock.Since(known.at) < s.cfg.Resolution {
			out[node] = known
			continue
		}
		asking.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, nodePatience)
			defer cancel()
			got := deviceReading{at: s.cfg.Clock.Now()}
			err := s.nodes.get(ctx, node, "/metrics/devices", func(r io.Reader) (err error) {
				got.series, err = readDevices(r)
				return err
			})
			if err != nil {
				s.cfg.Logger.Debug("a node's devices don't answer", "node", node, "error", err)
				return
			}
			s.mu.Lock()
			s.devices[node] = got
			s.mu.Unlock()
			mu.Lock()
			out[node] = got
			mu.Unlock()
		})
	}
	asking.Wait()
	return out
}

// deviceMetrics are the names that pods' GPUs may have values for. Nobody is asked: discovery must be quick.
func deviceMetrics() (out []api.CustomMetric) {
	for _, name := range []string{
		"DCGM_FI_DEV_DEC_UTIL", "DCGM_FI_DEV_ENC_UTIL", "DCGM_FI_DEV_FB_FREE", "DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_GPU_TEMP", "DCGM_FI_DEV_GPU_UTIL",
		"DCGM_FI_DEV_MEMORY_TEMP", "DCGM_FI_DEV_MEM_CLOCK", "DCGM_FI_DEV_MEM_COPY_UTIL", "DCGM_FI_DEV_POWER_USAGE", "DCGM_FI_DEV_SM_CLOCK", "DCGM_FI_DEV_XID_ERRORS",
	} {
		out = append(out, api.CustomMetric{Resource: corev1.Resource("pods"), Namespaced: true, Name: name})
	}
	return out
}

// deviceValues answers a query for pods with what their GPUs say.
func (s *Service) deviceValues(ctx context.Context, q api.CustomMetricQuery) (out []custommetrics.MetricValue, err error) {
	if q.Resource != corev1.Resource("pods") || !strings.HasPrefix(q.Metric, devicePrefix) {
		return nil, nil
	}
	pods, err := s.cfg.Pods(ctx, q.Namespace, q.Objects)
	if err != nil {
		return nil, err
	}
	pods = slices.DeleteFunc(slices.Clone(pods), func(p *corev1.Pod) bool { return q.Name != "" && p.Name != q.Name || p.Spec.NodeName == "" })
	nodes := map[string]bool{}
	for _, p := range pods {
		nodes[p.Spec.NodeName] = true
	}
	readings := s.readDevicesOf(ctx, slices.Sorted(maps.Keys(nodes)))
	for _, p := range pods {
		r, ok := readings[p.Spec.NodeName]
		if !ok {
			continue
		}
		value, ok := podValue(r.series, q.Metric, p.Namespace, p.Name, q.Selector)
		if !ok {
			continue
		}
		out = append(out, custommetrics.MetricValue{
			DescribedObject: corev1.ObjectReference{Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID, APIVersion: "v1"},
			Metric:          custommetrics.MetricIdentifier{Name: q.Metric},
			Timestamp:       metav1.NewTime(r.at),
			Value:           *resource.NewMilliQuantity(int64(math.Round(value*1000)), resource.DecimalSI),
		})
	}
	return out, nil
}
