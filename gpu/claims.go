package gpu

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/pintle/pintle/gpu/topology"
)

// ErrTaken is returned for a device, or a share of it, that another pod has.
var ErrTaken = errors.New("the device is taken")

// ErrUnhealthy is returned for a device that should not be used.
var ErrUnhealthy = errors.New("the device is unhealthy")

// ErrNotEnforced is returned for a memory limit that nothing would enforce, where soft is not enough.
var ErrNotEnforced = errors.New("the memory limit can't be enforced")

// Claim is what a pod has been given. Whoever schedules it chose the devices.
type Claim struct {
	Pod    string  `json:"pod"`            // its UID
	Name   string  `json:"name,omitempty"` // namespace/name, for people and metrics
	Grants []Grant `json:"grants"`
	// Init names the containers that have ended before the pod's others start, Sidecars those that run beside all
	// others, beside an init container too. What an init container has, the others may have after it.
	Init     []string `json:"init,omitempty"`
	Sidecars []string `json:"sidecars,omitempty"`
}

// place is what a grant takes something of: a GPU, or an instance that exists or is to be made.
type place struct {
	gpu, mig, profile string
	start             int
}

func placeOf(g Grant) place {
	if g.Profile != "" {
		return place{gpu: g.GPU, profile: g.Profile, start: g.Start}
	}
	return place{gpu: g.GPU, mig: g.MIG}
}

// taking is how much grants take of a place: units, or thousandths and bytes.
type taking struct {
	units, share int
	memory       int64
}

func (t taking) plus(g Grant) taking {
	if g.Share == 0 && g.Memory == 0 {
		t.units++
	}
	t.share, t.memory = t.share+g.Share, t.memory+g.Memory
	return t
}

// counted are the grants by which a claim takes devices: the lasting containers' ones, and what an init container, with
// the sidecars, takes beyond them.
func (c Claim) counted() []Grant {
	if len(c.Init) == 0 {
		return c.Grants
	}
	out := make([]Grant, 0, len(c.Grants))
	last, beside := map[place]taking{}, map[place]taking{}
	for _, g := range c.Grants {
		if slices.Contains(c.Init, g.Container) {
			continue
		}
		at := placeOf(g)
		out, last[at] = append(out, g), last[at].plus(g)
		if slices.Contains(c.Sidecars, g.Container) {
			beside[at] = beside[at].plus(g)
		}
	}
	for _, name := range c.Init {
		first := maps.Clone(beside)
		for _, g := range c.Grants {
			if g.Container != name {
				continue
			}
			at := placeOf(g)
			first[at] = first[at].plus(g)
			more := taking{first[at].units - last[at].units, first[at].share - last[at].share, first[at].memory - last[at].memory}
			if more.units <= 0 && more.share <= 0 && more.memory <= 0 {
				continue
			}
			g.Share, g.Memory = max(0, more.share), max(0, more.memory)
			if more.units <= 0 {
				g.Share = max(1, g.Share)
			}
			out, last[at] = append(out, g), last[at].plus(g)
		}
	}
	return out
}

// entire says that a grant is of all of a GPU, where GPUs are shared by fractions.
func entire(g Grant) bool { return g.Claim != "" || g.Share == 0 && g.Memory == 0 }

// shared says that two grants come from one ResourceClaim, which holds the device for all its pods.
func shared(a, b Grant) bool { return a.Claim != "" && a.Claim == b.Claim && a.Device() == b.Device() }

// Grant is one device, or a part of one, for one container.
type Grant = topology.Grant

// claims are all claims, in memory and in a file.
type claims struct {
	changing sync.Mutex // held through a change, the driver's and the file's part included
	mu       sync.Mutex // guards byPod
	file     string
	byPod    map[string]Claim
}

func (c *claims) all() map[string]Claim {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.byPod)
}

// Claims lists what pods have, by UID.
func (m *Manager) Claims() []Claim {
	byPod := m.claims.all()
	out := make([]Claim, 0, len(byPod))
	for _, pod := range slices.Sorted(maps.Keys(byPod)) {
		c := byPod[pod]
		c.Grants = slices.Clone(c.Grants)
		out = append(out, c)
	}
	return out
}

// Claim checks what was chosen for a pod against what is there and what others have, makes the MIG instances
// that it asks for, and keeps it. The same claim again changes nothing and is no error, also where a device
// has become unhealthy meanwhile. All of it is given, or nothing.
func (m *Manager) Claim(c Claim) error {
	m.claims.changing.Lock()
	defer m.claims.changing.Unlock()
	byPod := m.claims.all()
	if held, ok := byPod[c.Pod]; ok {
		if !sameGrants(held, c) {
			return fmt.Errorf("claim for pod %s: it has other devices already; release them first", c.Pod)
		}
		if !lostInstance(m.Inventory(), held) {
			return nil
		}
		if err := m.releaseLocked(c.Pod); err != nil { // a reset took the instance that was made for it: it is made anew
			return err
		}
		byPod = m.claims.all()
	}
	c.Grants = slices.Clone(c.Grants)
	inv := m.Inventory()
	err := admit(inv, byPod, c)
	if err == nil && inv.Sharing.Mode == MPS {
		err = m.cfg.MPS.serves()
	}
	if err != nil {
		return fmt.Errorf("claim for pod %s: %w", c.Pod, err)
	}
	byPod[c.Pod] = c
	if err := m.claims.store(byPod); err != nil { // first, so that instances made next are never forgotten
		return err
	}
	if !slices.ContainsFunc(c.Grants, func(g Grant) bool { return g.Profile != "" }) {
		return nil
	}
	byPod = maps.Clone(byPod)
	made, err := m.makeInstances(inv, c)
	if err == nil {
		byPod[c.Pod] = made
		return m.claims.store(byPod)
	}
	if left := m.destroyInstances(made); left != nil { // kept, so that a Release can try again
		byPod[c.Pod] = made
		return errors.Join(err, left, m.claims.store(byPod))
	}
	delete(byPod, c.Pod)
	return errors.Join(err, m.claims.store(byPod))
}

// lostInstance says whether an instance that was made for a claim is gone, as after a reboot.
func lostInstance(inv *Inventory, held Claim) bool {
	return inv.Unavailable == "" && slices.ContainsFunc(held.Grants, func(g Grant) bool {
		if g.Profile == "" {
			return false
		}
		_, _, there := inv.Instance(g.MIG)
		return !there
	})
}

// sameGrants ignores the UUIDs of instances that were made for the claim.
func sameGrants(held, asked Claim) bool {
	strip := func(c Claim) []Grant {
		out := slices.Clone(c.Grants)
		for i := range out {
			if out[i].Profile != "" {
				out[i].MIG = ""
			}
		}
		return out
	}
	return slices.Equal(strip(held), strip(asked))
}

// admit decides whether a claim can be given. It is pure.
func admit(inv *Inventory, byPod map[string]Claim, c Claim) error {
	if c.Pod == "" || len(c.Grants) == 0 {
		return errors.New("a claim needs a pod and at least one grant")
	}
	others := make([]Grant, 0, len(byPod))
	for _, pod := range slices.Sorted(maps.Keys(byPod)) {
		others = append(others, byPod[pod].counted()...)
	}
	grants := c.counted()
	for i, g := range grants {
		before := slices.DeleteFunc(slices.Concat(others, grants[:i]), func(o Grant) bool { return shared(o, g) })
		if err := admitGrant(inv, before, g); err != nil {
			return err
		}
	}
	return nil
}

func admitGrant(inv *Inventory, others []Grant, g Grant) error {
	d, ok := inv.Device(g.GPU)
	if !ok {
		return fmt.Errorf("GPU %s is not on this machine", g.GPU)
	}
	switch {
	case g.MIG == "" && !d.Healthy() || g.MIG != "" && !d.InstanceHealthy(g.MIG):
		return fmt.Errorf("GPU %s: %w: %s", g.GPU, ErrUnhealthy, d.Why())
	case g.MIG != "" && g.Profile != "":
		return errors.New("a grant names a MIG instance, or a profile to make one of, not both")
	case g.MIG != "" || g.Profile != "":
		return admitMIG(d, others, g)
	case d.MIG.Enabled:
		return fmt.Errorf("GPU %s is divided by MIG: grant one of its instances", g.GPU)
	}
	whole := topology.Share{Milli: topology.Whole, Memory: int64(d.MemoryBytes)}
	part := func(g Grant) topology.Share {
		if entire(g) {
			return whole
		}
		return g.Part(int64(d.MemoryBytes))
	}
	units := func(g Grant) int {
		if g.Claim != "" { // it has the GPU to itself, however GPUs are shared
			return inv.Sharing.shares()
		}
		return 1
	}
	same, free := 0, whole
	var claimed []string
	for _, o := range others {
		if o.GPU != g.GPU || o.Claim != "" && slices.Contains(claimed, o.Claim) {
			continue
		}
		if o.Claim != "" {
			claimed = append(claimed, o.Claim)
		}
		same += units(o)
		free = free.Minus(part(o))
	}
	if inv.Sharing.Mode != Fractions {
		if g.Share != 0 || g.Memory != 0 {
			return fmt.Errorf("GPU %s is shared as %q: a share and a memory limit need the mode %q", g.GPU, inv.Sharing.Mode, Fractions)
		}
		if same+units(g) > inv.Sharing.shares() {
			return fmt.Errorf("GPU %s: %w: %d of %d shares", g.GPU, ErrTaken, same, inv.Sharing.shares())
		}
		return nil
	}
	asked := part(g)
	switch {
	case entire(g):
		if !asked.Fits(free) {
			return fmt.Errorf("GPU %s: %w: all of it is asked for", g.GPU, ErrTaken)
		}
	case g.Share < 1 || g.Share > topology.Whole:
		return fmt.Errorf("GPU %s: a share must be 1 to %d thousandths, not %d", g.GPU, topology.Whole, g.Share)
	case g.Memory < 0 || uint64(g.Memory) > d.MemoryBytes:
		return fmt.Errorf("GPU %s has %d bytes of memory, not %d", g.GPU, d.MemoryBytes, g.Memory)
	case !asked.Fits(free):
		return fmt.Errorf("GPU %s: %w: %d thousandths and %d bytes are free, %d and %d are asked for", g.GPU, ErrTaken, free.Milli, free.Memory, asked.Milli, asked.Memory)
	case g.Share < topology.Whole && !g.Soft && !d.MemoryLimits:
		return fmt.Errorf("GPU %s: %w: this driver limits no cgroup's memory; say that soft is enough, use MPS or a MIG instance", g.GPU, ErrNotEnforced)
	}
	return nil
}

func admitMIG(d *Device, others []Grant, g Grant) error {
	if g.Share != 0 || g.Memory != 0 {
		return errors.New("a MIG instance is given whole: it takes no share and no memory limit")
	}
	if !d.MIG.Enabled {
		return fmt.Errorf("GPU %s is not divided by MIG: its mode is off", g.GPU)
	}
	if g.MIG != "" {
		for i := range d.MIG.Instances {
			if d.MIG.Instances[i].UUID == g.MIG {
				for _, o := range others {
					if o.MIG == g.MIG {
						return fmt.Errorf("MIG instance %s: %w", g.MIG, ErrTaken)
					}
				}
				return nil
			}
		}
		return fmt.Errorf("MIG instance %s is not on GPU %s", g.MIG, g.GPU)
	}
	layout, there := d.layout(others)
	p, ok := layout.Profile(g.Profile)
	if !ok {
		return fmt.Errorf("GPU %s has no MIG profile %s", g.GPU, g.Profile)
	}
	for _, at := range layout.Free(there, p) {
		if at.Start == g.Start {
			return nil
		}
	}
	return fmt.Errorf("GPU %s, MIG %s at slice %d: %w", g.GPU, g.Profile, g.Start, ErrTaken)
}

// Release takes back what a pod has. It is no error that it has nothing. Instances that were made for it are
// destroyed; where that fails the claim stays, so that it can be tried again.
func (m *Manager) Release(pod string) error {
	m.claims.changing.Lock()
	defer m.claims.changing.Unlock()
	return m.releaseLocked(pod)
}

func (m *Manager) releaseLocked(pod string) error {
	byPod := m.claims.all()
	c, ok := byPod[pod]
	if !ok {
		return nil
	}
	if err := m.destroyInstances(c); err != nil {
		return fmt.Errorf("release the devices of pod %s: %w", pod, err)
	}
	delete(byPod, pod)
	return m.claims.store(byPod)
}

// Reconcile compares the claims with the pods that run, by UID: claims of others are released, and listed.
// Call it when the agent starts and has learnt what runs, after Ready. The claims of those that run stay as
// they were, whatever became of the devices.
func (m *Manager) Reconcile(running []string) (released []Claim, err error) {
	m.claims.changing.Lock()
	defer m.claims.changing.Unlock()
	m.adoptLocked()
	for _, c := range m.Claims() {
		if slices.Contains(running, c.Pod) {
			continue
		}
		if e := m.releaseLocked(c.Pod); e != nil {
			err = errors.Join(err, e)
			continue
		}
		released = append(released, c)
	}
	return released, err
}

// Holders says which pods have a GPU, or a part of it, in order.
func (m *Manager) Holders(gpu string) []string {
	var out []string
	for _, c := range m.Claims() {
		if slices.ContainsFunc(c.Grants, func(g Grant) bool { return g.GPU == gpu || g.MIG == gpu && gpu != "" }) {
			out = append(out, c.Pod)
		}
	}
	return out
}

func podName(c Claim) (namespace, name string) {
	namespace, name, ok := strings.Cut(c.Name, "/")
	if !ok {
		return "", c.Name
	}
	return namespace, name
}
