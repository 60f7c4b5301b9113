package appliance

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pintle/pintle/runtime"
)

// DeviceMaker makes the devices of a node, once, in New. The package gpus has one for NVIDIA's GPUs.
type DeviceMaker interface {
	// MakeDevices must start nothing.
	MakeDevices(site DeviceSite) (runtime.Devices, error)
}

// DeviceSite is where devices are made.
type DeviceSite struct {
	Node    string // its name
	DataDir string // the appliance's: a folder of their own there is the devices' to use
	Logger  *slog.Logger
	Metrics prometheus.Registerer // nil: none. To be used while the devices run
}

// devices are the node's: those that the config holds, or that it says how to make; nil: none.
func (a *Appliance) devices() (runtime.Devices, error) {
	if a.cfg.GPUs == nil {
		return a.cfg.Devices, nil
	}
	return a.cfg.GPUs.MakeDevices(DeviceSite{Node: a.cfg.Node, DataDir: a.cfg.DataDir, Logger: a.cfg.Logger.With("part", "gpus"), Metrics: a.metrics.Registerer()})
}
