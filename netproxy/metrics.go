package netproxy

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics carry the names that kube-proxy uses.
type metrics struct {
	sync     prometheus.Histogram
	changes  prometheus.Counter
	failures prometheus.Counter
	repairs  prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		sync:     prometheus.NewHistogram(prometheus.HistogramOpts{Name: "kubeproxy_sync_proxy_rules_duration_seconds", Help: "Time to program one batch of Service changes.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14)}),
		changes:  prometheus.NewCounter(prometheus.CounterOpts{Name: "kubeproxy_sync_proxy_rules_service_changes_total", Help: "Services that changed."}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "kubeproxy_sync_proxy_rules_failures_total", Help: "Batches that could not be programmed."}),
		repairs:  prometheus.NewCounter(prometheus.CounterOpts{Name: "pintle_netproxy_repairs_total", Help: "Times that rules changed by somebody else were made anew."}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.sync, m.changes, m.failures, m.repairs} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) repaired() { m.repairs.Inc() }

func (m *metrics) failed() { m.failures.Inc() }

func (m *metrics) programmed(changes int, d time.Duration) {
	m.sync.Observe(d.Seconds())
	m.changes.Add(float64(changes))
}
