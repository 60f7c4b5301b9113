package gpu

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pintle/pintle/gpu/device"
)

// Manager manages one machine's GPUs. Make it with New.
type Manager struct {
	cfg   Config
	ready chan struct{}

	using   sync.RWMutex // read while the session is used, write while it is replaced
	session Session      // nil without a driver

	refreshing sync.Mutex // held while the driver is asked and the answer published, so that answers stay in order

	mu        sync.Mutex // guards the rest; never held while the driver is asked
	inventory *Inventory
	changed   chan struct{} // closed when the inventory's revision rises
	health    map[string]*healthState
	xids      map[string]uint64 // the last XID of each GPU
	running   bool

	claims claims
}

// New checks the configuration and reads the claims that were kept. It asks no driver and starts nothing.
func New(cfg Config) (*Manager, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	m := &Manager{
		cfg:       cfg,
		ready:     make(chan struct{}),
		inventory: &Inventory{Unavailable: "the driver was not asked yet", Sharing: cfg.Sharing},
		changed:   make(chan struct{}),
		health:    map[string]*healthState{},
		xids:      map[string]uint64{},
	}
	if err := m.claims.load(cfg.StateFile); err != nil {
		return nil, err
	}
	return m, nil
}

// Ready is closed once the driver was asked, whatever it said.
func (m *Manager) Ready() <-chan struct{} { return m.ready }

// Inventory is the newest picture.
func (m *Manager) Inventory() *Inventory {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.inventory
}

// WaitChange waits until the inventory's revision is greater than after, and returns it.
func (m *Manager) WaitChange(ctx context.Context, after uint64) (*Inventory, error) {
	for {
		m.mu.Lock()
		inv, changed := m.inventory, m.changed
		m.mu.Unlock()
		if inv.Revision > after {
			return inv, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// LastXID is the newest XID that a GPU reported since this Manager was made, an application's too; 0: none.
func (m *Manager) LastXID(uuid string) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.xids[uuid]
}

// Run works until the context ends, and then returns nil. It may be called again afterwards, not meanwhile.
func (m *Manager) Run(ctx context.Context) error {
	m.mu.Lock()
	if m.running {
		m.mu.Unlock()
		return errors.New("gpu: the Manager runs already")
	}
	m.running = true
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		m.running = false
		m.mu.Unlock()
	}()
	unregister, err := m.registerMetrics()
	if err != nil {
		return err
	}
	defer unregister()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return m.runMPS(ctx) })
	group.Go(func() error { return m.keepOpen(ctx) })
	return group.Wait()
}

// keepOpen opens the driver, follows it, and opens it again when it went away.
func (m *Manager) keepOpen(ctx context.Context) error {
	for ctx.Err() == nil {
		session, err := m.cfg.Driver.Open()
		if err != nil {
			m.absent(err)
			m.markReady()
			pause(ctx, m.cfg.Retry)
			continue
		}
		m.use(session)
		err = m.serve(ctx, session)
		m.use(nil)
		if e := session.Close(); e != nil {
			m.cfg.Logger.Warn("close the GPU driver", "error", e)
		}
		if ctx.Err() == nil {
			m.cfg.Logger.Warn("the GPU driver is opened again", "error", err)
			m.absent(err)
			m.markReady()
			pause(ctx, min(m.cfg.Retry, time.Second)) // a restart takes a moment; don't spin meanwhile
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func (m *Manager) markReady() {
	select {
	case <-m.ready:
	default:
		close(m.ready) // only Run's goroutine gets here
	}
}

func (m *Manager) use(s Session) {
	m.using.Lock()
	defer m.using.Unlock()
	m.session = s
}

// waitSlice is how long a wait for events lasts: a stop, or another session that opens, waits as long.
const waitSlice = 250 * time.Millisecond

// serve follows one session until the context ends or the driver restarts.
func (m *Manager) serve(ctx context.Context, session Session) error {
	if err := m.refresh(session); err != nil {
		return err
	}
	m.markReady()
	events := make(chan device.Event, 64)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return m.listen(ctx, session, events) })
	group.Go(func() error { return m.follow(ctx, session, events) })
	return group.Wait()
}

// listen hands events on, in order.
func (m *Manager) listen(ctx context.Context, session Session, events chan<- device.Event) error {
	for ctx.Err() == nil {
		event, ok, err := session.Wait(waitSlice)
		switch {
		case errors.Is(err, device.ErrRestarted):
			return err
		case err != nil:
			m.cfg.Logger.Warn("wait for GPU events", "error", err)
			event, ok = device.Event{Kind: device.EventGPUUnavailable}, true // something happened: read them all
			pause(ctx, min(m.cfg.Poll, time.Second))
		}
		if !ok {
			continue
		}
		select {
		case events <- event:
		case <-ctx.Done():
		}
	}
	return nil
}

// follow reads the GPUs now and then, and after every event.
func (m *Manager) follow(ctx context.Context, session Session, events <-chan device.Event) error {
	tick := time.NewTicker(m.cfg.Poll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case event := <-events:
			m.note(event)
			for range len(events) { // one reading for all that came
				m.note(<-events)
			}
		case <-tick.C:
		}
		if err := m.refresh(session); err != nil {
			return err
		}
	}
}

// refresh asks the driver for everything and publishes what it says. Its error asks for a new session.
func (m *Manager) refresh(session Session) error {
	m.refreshing.Lock()
	defer m.refreshing.Unlock()
	system, err := session.System()
	if err != nil {
		return err
	}
	gpus, err := session.GPUs()
	if err != nil {
		return err
	}
	m.mu.Lock()
	devices := merge(m.inventory.Devices, gpus)
	m.mu.Unlock()
	readings := make([]*device.Reading, len(devices))
	for i := range devices {
		if devices[i].Problem != "" {
			continue
		}
		r, err := session.Read(devices[i].UUID)
		switch {
		case errors.Is(err, device.ErrRestarted):
			return err
		case err != nil:
			devices[i].Problem = err.Error()
		default:
			readings[i] = &r
		}
	}
	now := m.cfg.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range devices {
		d := &devices[i]
		if readings[i] != nil {
			d.Reading = readings[i]
		}
		if d.UUID == "" {
			d.Reasons = []Reason{{Kind: ReasonLost, Text: d.Problem, Since: now}}
			continue
		}
		state := m.healthOfLocked(d.UUID)
		state.observe(m.cfg.Health, now, &d.GPU, readings[i])
		d.Reasons = state.list()
	}
	m.publishLocked(Inventory{System: system, Devices: devices, Sharing: m.cfg.Sharing})
	return nil
}

func (m *Manager) healthOfLocked(uuid string) *healthState {
	state := m.health[uuid]
	if state == nil {
		state = &healthState{}
		m.health[uuid] = state
	}
	return state
}

// note takes an event into account; the reading that follows publishes it.
func (m *Manager) note(event device.Event) {
	m.cfg.Logger.Info("GPU event", "gpu", event.UUID, "kind", event.Kind.String(), "xid", event.XID)
	now := m.cfg.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.inventory.Devices {
		d := &m.inventory.Devices[i]
		if d.UUID == "" || event.UUID != d.UUID {
			continue
		}
		if event.Kind == device.EventXID {
			m.xids[d.UUID] = event.XID
		}
		m.healthOfLocked(d.UUID).event(m.cfg.Health, now, &d.GPU, event)
	}
}

// absent publishes that there is no driver. Devices that were there are lost, not forgotten: pods have them.
func (m *Manager) absent(err error) {
	now := m.cfg.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	devices := merge(m.inventory.Devices, nil)
	for i := range devices {
		state := m.healthOfLocked(devices[i].UUID)
		state.observe(m.cfg.Health, now, &devices[i].GPU, nil)
		devices[i].Reasons = state.list()
	}
	m.publishLocked(Inventory{Unavailable: err.Error(), Devices: devices, Sharing: m.cfg.Sharing})
}

func (m *Manager) publishLocked(next Inventory) {
	next.Revision = m.inventory.Revision
	if differs(m.inventory, &next) {
		for _, d := range next.Devices {
			if why := d.Why(); why != "" {
				m.cfg.Logger.Warn("GPU unhealthy", "gpu", d.UUID, "why", why)
			}
		}
		next.Revision++
		close(m.changed)
		m.changed = make(chan struct{})
	}
	m.inventory = &next
}

// differs says whether anything but readings changed.
func differs(a, b *Inventory) bool {
	if a.Revision == 0 || a.Unavailable != b.Unavailable || a.System != b.System || len(a.Devices) != len(b.Devices) {
		return true
	}
	for i := range a.Devices {
		if !reflect.DeepEqual(a.Devices[i].GPU, b.Devices[i].GPU) || !reflect.DeepEqual(a.Devices[i].Reasons, b.Devices[i].Reasons) {
			return true
		}
	}
	return false
}
