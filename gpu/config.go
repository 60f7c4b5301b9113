package gpu

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config says how a Manager works. Its zero value manages this machine's GPUs and keeps claims in memory.
type Config struct {
	// Driver knows the GPUs; nil: NVML{}.
	Driver Driver

	// StateFile is where claims are kept, so that they outlive this process. It is replaced as a whole, and
	// synced, with every claim. "" keeps them in memory: a restart then forgets who has what, until
	// Reconcile is told.
	StateFile string

	// Sharing says how GPUs are divided among pods. The zero value gives them whole.
	Sharing Sharing
	MPS     MPSConfig

	Health HealthPolicy

	// Poll is how often GPUs are read: temperature, errors, links; 0: 5 s. Events come at once.
	Poll time.Duration
	// Retry is how often a driver that is absent is looked for; 0: 10 s.
	Retry time.Duration

	Logger  *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil: none. Registered while Run runs
	Host    string                // the label Hostname of metrics; "" leaves it out

	Now func() time.Time // nil: time.Now
}

func (c *Config) complete() error {
	if c.Driver == nil {
		c.Driver = NVML{}
	}
	if c.Poll < 0 || c.Retry < 0 {
		return fmt.Errorf("gpu.Config: Poll and Retry must not be negative")
	}
	if c.Poll == 0 {
		c.Poll = 5 * time.Second
	}
	if c.Retry == 0 {
		c.Retry = 10 * time.Second
	}
	if c.MPS.Dir == "" {
		c.MPS.Dir = "/tmp/nvidia-mps"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if err := c.Health.complete(); err != nil {
		return err
	}
	return c.Sharing.check()
}
