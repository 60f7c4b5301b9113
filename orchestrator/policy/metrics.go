package policy

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pintle/pintle/policies/abi"
)

// metrics count what became of writes. How long calls take and what they use the host says.
type metrics struct{ writes *prometheus.CounterVec }

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{writes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pintle_admission_policy_writes_total",
		Help: "Writes that a policy was asked about, by what became of its answer: allowed, refused, audited or warned (refusals that its mode lets pass), " +
			"failed (it could not be asked, and the write was refused) or ignored (likewise, and it passed)."}, []string{"policy", "outcome"})}
	if r == nil {
		return m, nil
	}
	if err := r.Register(m.writes); err != nil {
		return nil, fmt.Errorf("policy: register metrics: %w", err)
	}
	return m, nil
}

func (m *metrics) decided(policy, outcome string) { m.writes.WithLabelValues(policy, outcome).Inc() }

// forget drops a policy's rows, so that they are no more than there are policies.
func (m *metrics) forget(key policyKey) {
	if key.kind == abi.Admission {
		m.writes.DeletePartialMatch(prometheus.Labels{"policy": key.name})
	}
}
