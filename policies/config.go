package policies

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config is what a Host needs. Its zero value works.
type Config struct {
	CacheDir string    // compiled modules are kept here; "": in memory only
	Adapters []Adapter // of other ABIs, asked in this order after pintle/v1

	// Lookup reads a cluster object as JSON for policies that were granted it, by "group/version/resource/namespace/name":
	// nil and no error if there is none. With an empty name it lists. Several policies may call it at once. nil: there
	// are no objects.
	Lookup func(ctx context.Context, name string) ([]byte, error)

	Logger  *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil: none
	Clock   Clock                 // nil: the machine's
}

// Clock tells the time: to policies that were granted it, and to the circuit breaker.
type Clock interface{ Now() time.Time }

type machineClock struct{}

func (machineClock) Now() time.Time { return time.Now() }
