package gpu

import (
	"slices"
	"strings"

	"github.com/pintle/pintle/gpu/device"
	"github.com/pintle/pintle/gpu/topology"
)

// Inventory is a picture of the machine's GPUs at a moment. Nobody changes it: keep it as long as you like.
type Inventory struct {
	// Revision rises when what there is, or its health, changes; readings alone don't raise it.
	Revision uint64
	// Unavailable says why there are no GPUs, and what to do; "": the driver answers.
	Unavailable string
	System      device.System
	// Devices are in the order of their indexes. One that the driver no longer lists stays, as lost, for as
	// long as this Manager lives: a pod may have it, and it may come back.
	Devices []Device
	Sharing Sharing
}

// Device is a GPU with its health.
type Device struct {
	device.GPU
	// Reasons are why it should not be used, oldest first; none: it is healthy.
	Reasons []Reason
	// Reading is the newest; nil where none succeeded yet.
	Reading *device.Reading
}

// Healthy says whether the GPU as a whole may be used.
func (d *Device) Healthy() bool {
	return !slices.ContainsFunc(d.Reasons, func(r Reason) bool { return r.MIG == "" })
}

// InstanceHealthy says whether a MIG instance of the GPU may be used.
func (d *Device) InstanceHealthy(uuid string) bool {
	return !slices.ContainsFunc(d.Reasons, func(r Reason) bool { return r.MIG == "" || r.MIG == uuid })
}

// Why says in words what is wrong; "": nothing.
func (d *Device) Why() string {
	words := make([]string, len(d.Reasons))
	for i, r := range d.Reasons {
		words[i] = r.String()
	}
	return strings.Join(words, "; ")
}

// Device finds a GPU by UUID.
func (inv *Inventory) Device(uuid string) (*Device, bool) {
	for i := range inv.Devices {
		if inv.Devices[i].UUID == uuid {
			return &inv.Devices[i], true
		}
	}
	return nil, false
}

// Instance finds a MIG instance by UUID, and its GPU.
func (inv *Inventory) Instance(uuid string) (*Device, *device.MIGInstance, bool) {
	for i := range inv.Devices {
		for j := range inv.Devices[i].MIG.Instances {
			if inv.Devices[i].MIG.Instances[j].UUID == uuid {
				return &inv.Devices[i], &inv.Devices[i].MIG.Instances[j], true
			}
		}
	}
	return nil, nil, false
}

// Matrix is the machine's links, for topology's Choose. Sets of it count positions in Devices.
func (inv *Inventory) Matrix() (*topology.Matrix, error) {
	return topology.NewMatrix(len(inv.Devices), inv.Link)
}

// Link is how the GPUs at two positions of Devices reach each other.
func (inv *Inventory) Link(i, j int) topology.Link {
	for _, p := range inv.Devices[i].Peers {
		if p.Index == inv.Devices[j].Index {
			return topology.Link{PCI: p.PCI, NVLinks: p.NVLinks}
		}
	}
	return topology.Link{}
}

// merge is the devices after the driver was asked: what it lists, and what it once listed and doesn't now,
// which is lost. A GPU that answers nothing has no UUID, and is recognised as the one that is missing.
func merge(before []Device, now []device.GPU) []Device {
	var out []Device
	listed := map[string]bool{}
	for _, g := range now {
		if g.UUID == "" {
			continue
		}
		listed[g.UUID] = true
		d := Device{GPU: g}
		if i := slices.IndexFunc(before, func(b Device) bool { return b.UUID == g.UUID }); i >= 0 {
			d.Reasons, d.Reading = before[i].Reasons, before[i].Reading
		}
		out = append(out, d)
	}
	var missing []Device
	for _, b := range before {
		if b.UUID != "" && !listed[b.UUID] {
			b.Problem = device.ErrLost.Error()
			missing = append(missing, b)
		}
	}
	silent := 0
	for _, g := range now {
		if g.UUID != "" {
			continue
		}
		if silent++; silent > len(missing) { // never seen well: all there is to show is its problem
			out = append(out, Device{GPU: g})
		}
	}
	out = append(out, missing...)
	slices.SortStableFunc(out, func(a, b Device) int { return a.Index - b.Index })
	return out
}
