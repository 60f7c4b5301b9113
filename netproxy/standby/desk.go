package standby

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"

	"github.com/pintle/pintle/netproxy/services"
)

// ErrFull and ErrLate say why something isn't held, or no longer.
var (
	ErrFull = errors.New("too many requests wait for a pod of this Service") //nolint:gochecknoglobals // a sentinel
	ErrLate = errors.New("no pod of this Service became ready in time")      //nolint:gochecknoglobals // a sentinel
)

// Config of a Desk. Client and NodeName are required.
type Config struct {
	Client   kubernetes.Interface // writes Leases
	NodeName string
	// Used says when Services were used past this process (through nftables), for those that were; nil: never.
	Used func([]*services.Service) (map[services.Key]time.Time, error)
	// Deadline is the longest that one is held; 0 is 60 s. MaxHeld is how many are of one Service, MaxHeldTogether of
	// all; 0 is 1024 and 4096.
	Deadline                 time.Duration
	MaxHeld, MaxHeldTogether int
	Clock                    clock.WithTicker
	Logger                   *slog.Logger
}

// Desk knows the Services that may be scaled to zero. Make it with New.
type Desk struct {
	cfg  Config
	kick chan struct{} // something changed that Run may have to tell

	mu      sync.Mutex // guards the rest, and the fields of entries
	entries map[services.Key]*Entry
	held    int
}

// Entry is one such Service. It stays valid when the Service is no longer one: then it holds nothing.
type Entry struct {
	d     *Desk
	svc   *services.Service // nil: gone, or not to be scaled
	use   use
	ready chan struct{} // closed while it has an endpoint
	open  bool          // ready is closed
}

// New makes a Desk that knows no Service.
func New(cfg Config) *Desk {
	if cfg.Deadline == 0 {
		cfg.Deadline = time.Minute
	}
	if cfg.MaxHeld == 0 {
		cfg.MaxHeld = 1024
	}
	if cfg.MaxHeldTogether == 0 {
		cfg.MaxHeldTogether = 4096
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Desk{cfg: cfg, kick: make(chan struct{}, 1), entries: map[services.Key]*Entry{}}
}

// Mark takes changes of Services in before they are programmed: what lost its last endpoint is held from now on.
func (d *Desk) Mark(changes []services.Change) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, ch := range changes {
		key, now := keyOf(ch)
		e := d.entries[key]
		switch {
		case now == nil || now.ScaleToZero == 0:
			if e != nil {
				e.svc = nil
				e.setOpenLocked(true) // they see what there is without us
				delete(d.entries, key)
			}
			continue
		case e == nil:
			e = &Entry{d: d, ready: make(chan struct{})}
			d.entries[key] = e
		}
		e.svc = now
		if !hasEndpoint(now) {
			e.setOpenLocked(false)
		}
		d.poke()
	}
}

// Wake takes changes in after they were programmed: what waits for an endpoint that came goes on.
func (d *Desk) Wake(changes []services.Change) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, ch := range changes {
		key, now := keyOf(ch)
		if e := d.entries[key]; e != nil && e.svc == now && hasEndpoint(now) {
			e.setOpenLocked(true)
		}
	}
}

func keyOf(ch services.Change) (services.Key, *services.Service) {
	if ch.New != nil {
		return ch.New.Key, ch.New
	}
	return ch.Old.Key, nil
}

func hasEndpoint(s *services.Service) bool {
	return slices.ContainsFunc(s.Ports, func(p services.Port) bool { return len(p.Cluster) > 0 })
}

func (e *Entry) setOpenLocked(open bool) {
	switch {
	case open && !e.open:
		close(e.ready)
	case !open && e.open:
		e.ready = make(chan struct{})
	}
	e.open = open
}

// Of is the entry of a Service that may be scaled to zero; nil for others.
func (d *Desk) Of(key services.Key) *Entry {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.entries[key]
}

func (e *Entry) service() *services.Service {
	e.d.mu.Lock()
	defer e.d.mu.Unlock()
	return e.svc
}

// Begin counts a connection or a request as open until end is called, once.
func (e *Entry) Begin() (end func()) {
	if e == nil {
		return func() {}
	}
	d := e.d
	d.mu.Lock()
	defer d.mu.Unlock()
	e.use.active++
	e.use.last = d.cfg.Clock.Now()
	d.poke()
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		e.use.active--
		e.use.last = d.cfg.Clock.Now()
		d.poke()
	})
}

// Wait returns nil once the Service has an endpoint, ErrFull or ErrLate, or ctx's cause.
func (e *Entry) Wait(ctx context.Context) error {
	d := e.d
	d.mu.Lock()
	if e.open {
		d.mu.Unlock()
		return nil
	}
	if !admit(e.use.held, d.held, &d.cfg) {
		d.mu.Unlock()
		return ErrFull
	}
	e.use.held++
	d.held++
	ready := e.ready
	d.poke()
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		e.use.held--
		d.held--
		d.poke()
	}()
	late := d.cfg.Clock.NewTimer(d.cfg.Deadline)
	defer late.Stop()
	select {
	case <-ready:
		return nil
	case <-late.C():
		return fmt.Errorf("%w: %s", ErrLate, d.cfg.Deadline)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// poke has Run look.
func (d *Desk) poke() {
	select {
	case d.kick <- struct{}{}:
	default:
	}
}

// Run writes Leases until ctx ends.
func (d *Desk) Run(ctx context.Context) error {
	t := d.cfg.Clock.NewTimer(time.Hour)
	defer t.Stop()
	looked := time.Time{}
	for {
		now := d.cfg.Clock.Now()
		if now.Sub(looked) >= max(d.soonest(), fastest) && d.observe() { // it may list all connections of the machine
			looked = now
		}
		next := now.Add(time.Hour)
		for _, r := range d.reports(now, &next) {
			if err := d.tell(ctx, r); err != nil && ctx.Err() == nil {
				d.cfg.Logger.Warn("could not tell how a Service is used", "service", r.key.String(), "err", err)
				d.mu.Lock()
				r.entry.use.told = d.cfg.Clock.Now() // tried, that is: the next try is no sooner than if it had worked
				d.mu.Unlock()
				next = now.Add(fastest)
			}
		}
		if d.cfg.Used != nil {
			if s := d.soonest(); s > 0 && looked.Add(s).Before(next) {
				next = looked.Add(s)
			}
		}
		t.Reset(max(next.Sub(now), 10*time.Millisecond))
		select {
		case <-ctx.Done():
			return nil
		case <-t.C():
		case <-d.kick:
		}
	}
}

// soonest is how long until the next look at what is used past this process; 0: none is to be.
func (d *Desk) soonest() (out time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.entries {
		if i := interval(e.svc.ScaleToZero); e.open && (out == 0 || i < out) {
			out = i
		}
	}
	return out
}

// observe asks what was used past this process.
func (d *Desk) observe() bool {
	if d.cfg.Used == nil {
		return false
	}
	d.mu.Lock()
	var list []*services.Service
	for _, e := range d.entries {
		if e.open {
			list = append(list, e.svc)
		}
	}
	d.mu.Unlock()
	if len(list) == 0 {
		return false
	}
	used, err := d.cfg.Used(list)
	if err != nil {
		d.cfg.Logger.Warn("could not see which Services are used", "err", err)
		return true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for key, at := range used {
		if e := d.entries[key]; e != nil && at.After(e.use.last.Add(2*time.Second)) { // it is known to the second
			e.use.last = at
		}
	}
	return true
}

// report is a Lease to write.
type report struct {
	key   services.Key
	entry *Entry
	last  time.Time
	held  int
}

// reports are those that are due; next becomes the time of the first that isn't, if that is sooner.
func (d *Desk) reports(now time.Time, next *time.Time) (out []report) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, key := range slices.SortedFunc(maps.Keys(d.entries), func(a, b services.Key) int {
		return slices.Compare([]string{a.Namespace, a.Name}, []string{b.Namespace, b.Name})
	}) {
		e := d.entries[key]
		yes, at := e.use.due(e.svc.ScaleToZero, now)
		if !yes {
			if !at.IsZero() && at.Before(*next) {
				*next = at
			}
			continue
		}
		if e.use.active > 0 || e.use.held > 0 {
			e.use.last = now
		}
		out = append(out, report{key, e, e.use.last, e.use.held})
	}
	return out
}

func (d *Desk) told(r report) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r.entry.use.told, r.entry.use.toldLast, r.entry.use.toldHeld = d.cfg.Clock.Now(), r.last, r.held
}
