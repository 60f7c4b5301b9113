package gputest

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/pintle/pintle/gpu"
	"github.com/pintle/pintle/gpu/device"
)

// Machine is a machine with GPUs and a driver. It implements gpu.Driver.
type Machine struct {
	mu     sync.Mutex // guards the rest
	system device.System
	gpus   []*fakeGPU
	loaded bool
	why    string // it isn't loaded
	epoch  int    // rises with every unload: older sessions are over
	opened int
	misuse []string
	queue  []device.Event
	wake   chan struct{} // closed and replaced when the queue grows or the driver goes
	nextGI int
	made   int // MIG instances, ever: their UUIDs differ
}

type fakeGPU struct {
	device.GPU
	lost      bool
	reading   device.Reading
	processes []device.Process
	energy    uint64
	limits    map[string]uint64 // of memory, by cgroup
}

var _ gpu.Driver = (*Machine)(nil)

// New makes a machine of these GPUs, with its driver loaded. Missing UUIDs, indexes and bus ids are given.
func New(system device.System, gpus ...device.GPU) *Machine {
	m := &Machine{system: system, loaded: true, wake: make(chan struct{})}
	for i, g := range gpus {
		g.Index, g.Minor = i, i
		if g.UUID == "" {
			g.UUID = fmt.Sprintf("GPU-%08x-0000-4000-8000-%012x", i+1, i+1)
		}
		if g.PCI.BusID == "" {
			g.PCI.BusID = fmt.Sprintf("0000:%02x:00.0", i+1)
		}
		f := &fakeGPU{GPU: g}
		f.reading = quiet(&f.GPU)
		m.gpus = append(m.gpus, f)
	}
	return m
}

// quiet is the reading of a GPU that does nothing and lacks nothing.
func quiet(g *device.GPU) device.Reading {
	p := func(v uint32) *uint32 { return &v }
	q := func(v uint64) *uint64 { return &v }
	no := false
	return device.Reading{
		GPUUtil: p(0), MemUtil: p(0), EncUtil: p(0), DecUtil: p(0),
		MemoryUsed: q(0), MemoryReserved: q(g.MemoryBytes / 128), MemoryFree: q(g.MemoryBytes - g.MemoryBytes/128),
		Temperature: p(32), MemoryTemperature: p(41), SlowdownTemperature: p(87), ShutdownLimit: p(92),
		Power: p(70_000), Energy: q(0), SMClock: p(345), MemClock: p(1593), PCIeReplays: q(0),
		Throttle:     device.ThrottleIdle,
		ECCCorrected: q(0), ECCUncorrected: q(0), Rows: &device.RemappedRows{}, RetiredPending: &no,
		Recovery: device.RecoveryNone, LinksUp: g.ActiveLinks(),
	}
}

// Open implements gpu.Driver.
func (m *Machine) Open() (gpu.Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.loaded {
		return nil, &device.ErrUnavailable{Reason: m.why}
	}
	m.opened++
	return &session{m: m, epoch: m.epoch}, nil
}

// Opened is how many sessions were opened.
func (m *Machine) Opened() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.opened
}

// Misuse lists what was done to sessions that would have killed a process.
func (m *Machine) Misuse() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.misuse)
}

// Unload takes the driver away, for a reason in words: open sessions fail, and none can be opened.
func (m *Machine) Unload(why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.loaded, m.why = false, why
	m.epoch++
	m.queue = nil
	m.wakeLocked()
}

// Load brings the driver back. Counters begin again, MIG instances are gone, as after a real one's reload.
func (m *Machine) Load() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.loaded {
		return
	}
	m.loaded = true
	for _, g := range m.gpus {
		g.resetLocked()
	}
}

func (g *fakeGPU) resetLocked() {
	g.lost = false
	g.MIG.Enabled = g.MIG.Pending
	g.MIG.Instances = nil
	g.processes, g.energy = nil, 0
	g.reading = quiet(&g.GPU)
}

// Lose makes GPU i fall off the bus, with the XID that tells of it.
func (m *Machine) Lose(i int) {
	m.XID(i, 79)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gpus[i].lost = true
}

// Reset resets GPU i: a lost one is back, counters begin again, pending modes and repairs take effect.
func (m *Machine) Reset(i int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gpus[i].resetLocked()
}

// XID reports an XID of the whole GPU i.
func (m *Machine) XID(i int, xid uint64) {
	m.event(i, device.Event{Kind: device.EventXID, XID: xid, GI: -1, CI: -1})
}

// XIDOn reports an XID of a MIG instance.
func (m *Machine) XIDOn(instance string, xid uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, g := range m.gpus {
		for _, mig := range g.MIG.Instances {
			if mig.UUID == instance {
				m.queue = append(m.queue, device.Event{UUID: g.UUID, Kind: device.EventXID, XID: xid, GI: mig.GI, CI: mig.CI})
				m.wakeLocked()
				return nil
			}
		}
	}
	return fmt.Errorf("gputest: no MIG instance %s", instance)
}

// Event reports any event of GPU i.
func (m *Machine) Event(i int, kind device.EventKind) {
	m.event(i, device.Event{Kind: kind, GI: -1, CI: -1})
}

func (m *Machine) event(i int, e device.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e.UUID = m.gpus[i].UUID
	if m.gpus[i].lost {
		e.UUID = "" // a lost GPU can't be asked for its UUID
	}
	m.queue = append(m.queue, e)
	m.wakeLocked()
}

func (m *Machine) wakeLocked() {
	close(m.wake)
	m.wake = make(chan struct{})
}

// Change changes what GPU i reads from now on.
func (m *Machine) Change(i int, change func(*device.Reading)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.gpus[i].reading)
}

// Run puts processes on GPU i, in place of those there: MIG modes and instances in use can't be changed.
func (m *Machine) Run(i int, processes ...device.Process) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gpus[i].processes = processes
}

// Limits are the memory limits that were set on GPU i, in bytes by cgroup.
func (m *Machine) Limits(i int) map[string]uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.gpus[i].limits)
}

// SetMemoryLimits says whether the driver can limit the memory of what runs in a cgroup.
func (m *Machine) SetMemoryLimits(can bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, g := range m.gpus {
		g.MemoryLimits = can
	}
}

// UUID is GPU i's.
func (m *Machine) UUID(i int) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.gpus[i].UUID
}

type session struct {
	m      *Machine
	epoch  int
	closed bool // guarded by m.mu
}

// use locks the machine for a call; the unlock is the caller's, also after an error.
func (s *session) use(call string) error {
	s.m.mu.Lock()
	if s.closed {
		s.m.misuse = append(s.m.misuse, call+" after Close")
		return fmt.Errorf("gputest: %s after Close: the real driver would kill the process", call)
	}
	if s.epoch != s.m.epoch {
		return fmt.Errorf("%s: %w", call, device.ErrRestarted)
	}
	return nil
}

func (s *session) find(uuid string) (*fakeGPU, error) {
	for _, g := range s.m.gpus {
		if g.UUID == uuid {
			if g.lost {
				return nil, fmt.Errorf("ask GPU %s: %w", uuid, device.ErrLost)
			}
			return g, nil
		}
	}
	return nil, fmt.Errorf("find GPU %s: %w", uuid, device.ErrLost)
}

func (s *session) System() (device.System, error) {
	defer s.m.mu.Unlock()
	if err := s.use("System"); err != nil {
		return device.System{}, err
	}
	return s.m.system, nil
}

func (s *session) GPUs() ([]device.GPU, error) {
	defer s.m.mu.Unlock()
	if err := s.use("GPUs"); err != nil {
		return nil, err
	}
	out := make([]device.GPU, len(s.m.gpus))
	for i, g := range s.m.gpus {
		if g.lost {
			out[i] = device.GPU{Index: i, Minor: -1, NUMA: -1, Problem: device.ErrLost.Error()}
			continue
		}
		out[i] = g.GPU
		out[i].Links, out[i].Peers = slices.Clone(g.Links), slices.Clone(g.Peers)
		out[i].MIG.Profiles, out[i].MIG.Instances = slices.Clone(g.MIG.Profiles), slices.Clone(g.MIG.Instances)
	}
	return out, nil
}

func (s *session) Read(uuid string) (device.Reading, error) {
	defer s.m.mu.Unlock()
	if err := s.use("Read"); err != nil {
		return device.Reading{}, err
	}
	g, err := s.find(uuid)
	if err != nil {
		return device.Reading{}, err
	}
	r := g.reading
	r.At = time.Now()
	r.Processes = slices.Clone(g.processes)
	r.LinkErrors = slices.Clone(r.LinkErrors)
	g.energy += 70_000
	energy := g.energy
	r.Energy = &energy
	if g.MIG.Enabled {
		r.MIGMemory = map[string]device.MIGMemory{}
		for _, mig := range g.MIG.Instances {
			r.MIGMemory[mig.UUID] = device.MIGMemory{Free: mig.MemoryMB << 20}
		}
	}
	return r, nil
}

func (s *session) LimitMemory(uuid, cgroup string, bytes uint64) error {
	defer s.m.mu.Unlock()
	if err := s.use("LimitMemory"); err != nil {
		return err
	}
	g, err := s.find(uuid)
	if err != nil {
		return err
	}
	if !g.MemoryLimits {
		return fmt.Errorf("limit the memory of %s: %w", cgroup, device.ErrUnsupported)
	}
	if bytes > g.MemoryBytes {
		return fmt.Errorf("limit the memory of %s: %d bytes are more than the GPU has", cgroup, bytes)
	}
	if g.limits == nil {
		g.limits = map[string]uint64{}
	}
	g.limits[cgroup] = bytes
	return nil
}

func (s *session) Wait(timeout time.Duration) (device.Event, bool, error) {
	end := time.NewTimer(timeout)
	defer end.Stop()
	for {
		err := s.use("Wait")
		wake := s.m.wake
		if err != nil {
			s.m.mu.Unlock()
			return device.Event{}, false, err
		}
		if len(s.m.queue) > 0 {
			e := s.m.queue[0]
			s.m.queue = s.m.queue[1:]
			s.m.mu.Unlock()
			return e, true, nil
		}
		s.m.mu.Unlock()
		select {
		case <-wake:
		case <-end.C:
			return device.Event{}, false, nil
		}
	}
}

func (s *session) Close() error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if s.closed {
		s.m.misuse = append(s.m.misuse, "Close after Close")
	}
	s.closed = true
	return nil
}
