package reconcile

import (
	"errors"
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts reconciles under the names that controller-runtime made known.
type Metrics struct {
	total *prometheus.CounterVec

	mu     sync.Mutex
	depths map[string]func() int
}

// NewMetrics registers with reg; a nil reg keeps the counts to itself.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "controller_runtime_reconcile_total",
			Help: "Number of reconciles by controller and result.",
		}, []string{"controller", "result"}),
		depths: map[string]func() int{},
	}
	if reg == nil {
		return m, nil
	}
	var have prometheus.AlreadyRegisteredError
	if err := reg.Register(m.total); errors.As(err, &have) {
		// The part is made anew at every change of leadership: it goes on counting where it stopped.
		if c, ok := have.ExistingCollector.(*prometheus.CounterVec); ok {
			m.total = c
			return m, nil
		}
		return nil, fmt.Errorf("register metrics: %w", err)
	} else if err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return m, nil
}

func (m *Metrics) reconciled(controller, result string) {
	m.total.WithLabelValues(controller, result).Inc()
}

func (m *Metrics) watchDepth(name string, f func() int) (unregister func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.depths[name] = f
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.depths, name)
	}
}

// Depth is the number of keys that wait for a worker of the named controller.
func (m *Metrics) Depth(name string) int {
	m.mu.Lock()
	f := m.depths[name]
	m.mu.Unlock()
	if f == nil {
		return 0
	}
	return f()
}
