package gpu

import "github.com/pintle/pintle/gpu/topology"

// Node is what this machine's node says of its GPUs to whoever schedules, given what pods have. It is pure.
func (inv *Inventory) Node(claims []Claim) topology.NodeGPUs {
	n := topology.NodeGPUs{Mode: string(inv.Sharing.Mode)}
	if inv.Sharing.Mode == TimeSlices || inv.Sharing.Mode == MPS {
		n.Replicas = inv.Sharing.Replicas
	}
	var at []int // positions in Devices of those that are told
	for i := range inv.Devices {
		if inv.Devices[i].UUID != "" {
			at = append(at, i)
			n.GPUs = append(n.GPUs, inv.Devices[i].node(claims))
		}
	}
	for k, i := range at {
		for _, j := range at[k+1:] {
			n.Links = append(n.Links, inv.Link(i, j).Score())
		}
	}
	return n
}

func (d *Device) node(claims []Claim) topology.NodeGPU {
	g := topology.NodeGPU{UUID: d.UUID, Model: d.Name, Memory: int64(d.MemoryBytes), NUMA: d.NUMA, MemoryLimits: d.MemoryLimits, Divided: d.MIG.Enabled}
	if !d.Healthy() {
		g.Unhealthy = d.Why()
	}
	if !d.MIG.Enabled {
		return g
	}
	g.Layout, _ = d.layout(nil)
	for _, m := range d.MIG.Instances {
		i := topology.NodeInstance{UUID: m.UUID, Profile: m.Profile, Placement: m.Placement}
		if !d.InstanceHealthy(m.UUID) {
			i.Unhealthy = d.Why()
		}
		for _, c := range claims {
			for _, o := range c.Grants {
				// By its place too: it may be there before the claim knows its UUID.
				i.Transient = i.Transient || o.GPU == d.UUID && o.Profile == m.Profile && (o.MIG == m.UUID || o.MIG == "" && o.Start == m.Placement.Start)
			}
		}
		g.Instances = append(g.Instances, i)
	}
	return g
}
