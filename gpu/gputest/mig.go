package gputest

import (
	"fmt"
	"slices"

	"github.com/pintle/pintle/gpu/device"
	"github.com/pintle/pintle/gpu/topology"
)

// CreateMIG makes an instance under the rules of the real ones: MIG is on, the profile may start there, no
// memory slice is taken twice, and the compute slices are enough.
func (s *session) CreateMIG(uuid string, profileID, start int) (device.MIGInstance, error) {
	defer s.m.mu.Unlock()
	if err := s.use("CreateMIG"); err != nil {
		return device.MIGInstance{}, err
	}
	g, err := s.find(uuid)
	if err != nil {
		return device.MIGInstance{}, err
	}
	if !g.MIG.Enabled {
		return device.MIGInstance{}, fmt.Errorf("create a MIG instance on %s: %w: MIG is off", uuid, device.ErrUnsupported)
	}
	at := slices.IndexFunc(g.MIG.Profiles, func(p device.MIGProfile) bool { return p.ID == profileID })
	if at < 0 {
		return device.MIGInstance{}, fmt.Errorf("create a MIG instance of profile %d: %w", profileID, device.ErrUnsupported)
	}
	p := g.MIG.Profiles[at]
	place := slices.IndexFunc(p.Placements, func(at topology.Placement) bool { return at.Start == start })
	if place < 0 {
		return device.MIGInstance{}, fmt.Errorf("create MIG %s at slice %d: the profile can't start there", p.Name, start)
	}
	made, slices, most := 0, p.Slices, 0
	for _, q := range g.MIG.Profiles {
		most = max(most, q.Slices)
	}
	for _, i := range g.MIG.Instances {
		if i.Placement.Overlaps(p.Placements[place]) {
			return device.MIGInstance{}, fmt.Errorf("create MIG %s at slice %d: insufficient resources: %s at %s is there", p.Name, start, i.Profile, i.Placement)
		}
		if i.Profile == p.Name {
			made++
		}
		slices += i.SlicesGI
	}
	if made >= p.Max || slices > most {
		return device.MIGInstance{}, fmt.Errorf("create MIG %s: insufficient resources", p.Name)
	}
	s.m.nextGI++
	s.m.made++
	i := device.MIGInstance{
		UUID:    fmt.Sprintf("MIG-%08x-0000-5000-8000-%012x", s.m.made, g.Index+1),
		Profile: p.Name, GI: s.m.nextGI, CI: 0, Placement: p.Placements[place],
		MemoryMB: p.MemoryMB, Multiprocessors: p.Multiprocessors, SlicesGI: p.Slices, SlicesCI: p.Slices,
		CopyEngines: p.CopyEngines, Decoders: p.Decoders, Encoders: p.Encoders, JPEGs: p.JPEGs, OFAs: p.OFAs,
	}
	g.MIG.Instances = append(g.MIG.Instances, i)
	return i, nil
}

// DestroyMIG takes an instance away that no process uses.
func (s *session) DestroyMIG(uuid string, gi int) error {
	defer s.m.mu.Unlock()
	if err := s.use("DestroyMIG"); err != nil {
		return err
	}
	g, err := s.find(uuid)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(g.MIG.Instances, func(i device.MIGInstance) bool { return i.GI == gi })
	if at < 0 {
		return fmt.Errorf("destroy GPU instance %d of %s: it isn't there", gi, uuid)
	}
	for _, p := range g.processes {
		if p.GI == gi {
			return fmt.Errorf("destroy GPU instance %d of %s: in use by process %d", gi, uuid, p.PID)
		}
	}
	g.MIG.Instances = slices.Delete(g.MIG.Instances, at, at+1)
	return nil
}

// SetMIGMode turns MIG on or off: at once since Hopper, with the next Reset before.
func (s *session) SetMIGMode(uuid string, on bool) error {
	defer s.m.mu.Unlock()
	if err := s.use("SetMIGMode"); err != nil {
		return err
	}
	g, err := s.find(uuid)
	if err != nil {
		return err
	}
	switch {
	case !g.MIG.Capable:
		return fmt.Errorf("set the MIG mode of %s: %w", uuid, device.ErrUnsupported)
	case len(g.processes) > 0:
		return fmt.Errorf("set the MIG mode of %s: in use by process %d", uuid, g.processes[0].PID)
	case !on && len(g.MIG.Instances) > 0:
		return fmt.Errorf("set the MIG mode of %s: it has %d instances", uuid, len(g.MIG.Instances))
	}
	g.MIG.Pending = on
	if g.ComputeMajor >= 9 {
		g.MIG.Enabled = on
	}
	return nil
}
