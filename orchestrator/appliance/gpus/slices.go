package gpus

import (
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/pintle/pintle/gpu"
	"github.com/pintle/pintle/runtime"
)

var _ runtime.SliceDevices = (*Devices)(nil)

// ResourceDevices implements runtime.SliceDevices: the GPUs and MIG instances as NVIDIA's driver for dynamic resource
// allocation publishes them.
func (d *Devices) ResourceDevices() (driver string, devices []runtime.ResourceDevice) {
	for _, have := range d.manager.Inventory().DRADevices() {
		out := runtime.ResourceDevice{Name: have.Name, Attributes: map[string]runtime.ResourceAttribute{}, Capacity: map[string]resource.Quantity{}}
		for name, a := range have.Attributes {
			out.Attributes[name] = runtime.ResourceAttribute{String: a.String, Version: a.Version, Int: a.Int, Bool: a.Bool}
		}
		for name, n := range have.Capacity {
			format := resource.DecimalSI
			if strings.HasSuffix(name, "memory") {
				format = resource.BinarySI
			}
			out.Capacity[name] = *resource.NewQuantity(n, format)
		}
		if !have.Healthy {
			if out.Unhealthy = have.Why; out.Unhealthy == "" {
				out.Unhealthy = "unhealthy"
			}
		}
		devices = append(devices, out)
	}
	return gpu.DRADriver, devices
}
