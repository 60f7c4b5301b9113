package gpu

import (
	"fmt"
	"slices"

	"github.com/pintle/pintle/gpu/device"
	"github.com/pintle/pintle/gpu/topology"
)

// layout is how the GPU can be divided, and what of it is taken: by instances that exist, and by those that
// grants were promised and that don't exist yet.
func (d *Device) layout(grants []Grant) (topology.Layout, []topology.Instance) {
	layout := make(topology.Layout, 0, len(d.MIG.Profiles))
	for _, p := range d.MIG.Profiles {
		if p.Max > 0 && p.Max < len(p.Placements) {
			p.Profile.Only = p.Max
		}
		layout = append(layout, p.Profile)
	}
	id := func(name string) int {
		p, ok := layout.Profile(name)
		if !ok {
			return -1
		}
		return p.ID
	}
	var there []topology.Instance
	for _, i := range d.MIG.Instances {
		there = append(there, topology.Instance{ProfileID: id(i.Profile), Placement: i.Placement})
	}
	for _, g := range grants {
		if g.GPU != d.UUID || g.Profile == "" {
			continue
		}
		p, _ := layout.Profile(g.Profile)
		for _, at := range p.Placements {
			if at.Start == g.Start && !slices.ContainsFunc(d.MIG.Instances, func(i device.MIGInstance) bool { return i.Placement == at }) {
				there = append(there, topology.Instance{ProfileID: p.ID, Placement: at})
			}
		}
	}
	return layout, there
}

// withSession calls do with the driver, or says that there is none.
func (m *Manager) withSession(do func(Session) error) error {
	m.using.RLock()
	defer m.using.RUnlock()
	if m.session == nil {
		return &device.ErrUnavailable{Reason: m.Inventory().Unavailable}
	}
	return do(m.session)
}

// refreshed publishes what a change of instances led to. Where it fails, the driver is gone: whoever follows
// the session notices, and reads everything from the next.
func (m *Manager) refreshed(s Session) {
	if err := m.refresh(s); err != nil {
		m.cfg.Logger.Warn("read the GPUs after a change of MIG instances", "error", err)
	}
}

// makeInstances makes what the claim asks for, in order. With an error it returns what was made so far.
func (m *Manager) makeInstances(inv *Inventory, c Claim) (Claim, error) {
	c.Grants = slices.Clone(c.Grants)
	err := m.withSession(func(s Session) error {
		for i := range c.Grants {
			g := &c.Grants[i]
			if g.Profile == "" {
				continue
			}
			if j := slices.IndexFunc(c.Grants[:i], func(o Grant) bool { return placeOf(o) == placeOf(*g) }); j >= 0 { // an init container's
				g.MIG = c.Grants[j].MIG
				continue
			}
			d, _ := inv.Device(g.GPU)
			layout, _ := d.layout(nil)
			p, _ := layout.Profile(g.Profile)
			made, err := s.CreateMIG(g.GPU, p.ID, g.Start)
			if err != nil {
				return err
			}
			g.MIG = made.UUID
		}
		m.refreshed(s)
		return nil
	})
	return c, err
}

// destroyInstances destroys what was made for a claim. What is gone already is no error.
func (m *Manager) destroyInstances(c Claim) error {
	if !slices.ContainsFunc(c.Grants, func(g Grant) bool { return g.Profile != "" && g.MIG != "" }) {
		return nil
	}
	return m.withSession(func(s Session) error {
		gpus, err := s.GPUs()
		if err != nil {
			return err
		}
		var done []string
		for _, g := range c.Grants {
			if g.Profile == "" || g.MIG == "" || slices.Contains(done, g.MIG) {
				continue
			}
			done = append(done, g.MIG)
			for _, d := range gpus {
				for _, i := range d.MIG.Instances {
					if i.UUID != g.MIG {
						continue
					}
					if err := s.DestroyMIG(d.UUID, i.GI); err != nil {
						return fmt.Errorf("destroy MIG instance %s: %w", g.MIG, err)
					}
				}
			}
		}
		m.refreshed(s)
		return nil
	})
}

// Divide turns a GPU's MIG mode on or off, where no pod has any of it. Before Hopper the mode changes with the
// next reset: Inventory shows it as Pending until then.
func (m *Manager) Divide(gpu string, on bool) error {
	m.claims.changing.Lock()
	defer m.claims.changing.Unlock()
	if holders := m.Holders(gpu); len(holders) > 0 {
		return fmt.Errorf("set the MIG mode of GPU %s: %w: pod %s has some of it", gpu, ErrTaken, holders[0])
	}
	return m.withSession(func(s Session) error {
		if err := s.SetMIGMode(gpu, on); err != nil {
			return err
		}
		m.refreshed(s)
		return nil
	})
}

// adoptLocked finds the instances that were made for claims by a process that ended before it could note
// them: they are of the profile, where the claim wanted them.
func (m *Manager) adoptLocked() {
	byPod := m.claims.all()
	inv := m.Inventory()
	changed := false
	for pod, c := range byPod {
		for i := range c.Grants {
			g := c.Grants[i]
			if g.Profile == "" || g.MIG != "" {
				continue
			}
			d, ok := inv.Device(g.GPU)
			if !ok {
				continue
			}
			for _, there := range d.MIG.Instances {
				if there.Profile == g.Profile && there.Placement.Start == g.Start {
					c.Grants = slices.Clone(c.Grants)
					c.Grants[i].MIG = there.UUID
					byPod[pod], changed = c, true
				}
			}
		}
	}
	if !changed {
		return
	}
	if err := m.claims.store(byPod); err != nil {
		m.cfg.Logger.Error("keep the MIG instances that were found again", "error", err)
	}
}
