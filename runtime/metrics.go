package runtime

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics carry the kubelet's names where it has them.
type metrics struct {
	start    prometheus.Histogram
	restarts prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		start: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "kubelet_pod_start_sli_duration_seconds",
			Help: "From the moment the agent sees a pod until all its containers are ready.", Buckets: prometheus.ExponentialBuckets(0.05, 2, 12)}),
		restarts: prometheus.NewCounter(prometheus.CounterOpts{Name: "kubelet_restarted_containers_total", Help: "Containers that were started again after they ended."}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.start, m.restarts} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) started(d time.Duration) { m.start.Observe(d.Seconds()) }
func (m *metrics) restarted()              { m.restarts.Inc() }
