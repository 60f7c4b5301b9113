package gpus

import (
	"path/filepath"

	"github.com/pintle/pintle/gpu"
	"github.com/pintle/pintle/orchestrator/appliance"
	"github.com/pintle/pintle/runtime"
)

// Config says how a node uses its GPUs. The zero value gives them whole.
type Config struct {
	// Config is the Manager's. In an appliance the zero values of StateFile, Logger, Metrics and Host mean the folder
	// gpus of its DataDir, its logger, its metrics and its node.
	gpu.Config
	// DriverRoot is where the file system is seen that the driver is installed in; "": "/".
	DriverRoot string
	// OnUnhealthy is what becomes of pods on an unhealthy GPU that don't say it themselves by
	// runtime.OnUnhealthyAnnotation: evict, finish or tolerate; "": evict.
	OnUnhealthy string
}

var _ appliance.DeviceMaker = Config{}

// MakeDevices implements appliance.DeviceMaker.
func (c Config) MakeDevices(site appliance.DeviceSite) (runtime.Devices, error) {
	if c.StateFile == "" {
		c.StateFile = filepath.Join(site.DataDir, "gpus", "claims.json")
	}
	if c.Logger == nil {
		c.Logger = site.Logger
	}
	if c.Metrics == nil {
		c.Metrics = site.Metrics
	}
	if c.Host == "" {
		c.Host = site.Node
	}
	return New(c)
}
