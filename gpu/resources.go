package gpu

import "github.com/pintle/pintle/gpu/topology"

// Quantity is how much of an extended resource a node has, and how much of it works.
type Quantity struct {
	Capacity, Allocatable int
}

// Resources are the node's extended resources: nvidia.com/gpu, counted in shares where GPUs are shared, and
// nvidia.com/mig-<profile> for the instances that exist. A GPU divided by MIG is none of nvidia.com/gpu.
// With the mode Fractions there are thousandths and bytes of GPUs beside. What is unhealthy is in the capacity and not
// allocatable.
func (inv *Inventory) Resources() map[string]Quantity {
	out := map[string]Quantity{}
	add := func(name string, n int, healthy bool) {
		q := out[name]
		q.Capacity += n
		if healthy {
			q.Allocatable += n
		}
		out[name] = q
	}
	for i := range inv.Devices {
		d := &inv.Devices[i]
		if d.UUID == "" {
			continue
		}
		if !d.MIG.Enabled {
			add(ResourceGPU, inv.Sharing.shares(), d.Healthy())
			if inv.Sharing.Mode == Fractions {
				add(topology.ShareResource, topology.Whole, d.Healthy())
				add(topology.MemoryResource, int(d.MemoryBytes), d.Healthy())
			}
			continue
		}
		for j := range d.MIG.Instances {
			m := &d.MIG.Instances[j]
			add(MIGResource(m.Profile), 1, d.InstanceHealthy(m.UUID))
		}
	}
	return out
}
