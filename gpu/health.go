package gpu

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pintle/pintle/gpu/device"
)

// HealthPolicy says when a GPU is unhealthy, and when it is well again. Its zero value is the default.
//
// Unhealthy are: an XID that is the hardware's (see classOf), an uncorrectable memory error, rows or pages
// that wait for a reset or could not be repaired, an NVLink that went down or errs too often, clocks slowed
// by heat or by the power brake for longer than SlowFor, a recovery action that the driver asks for, and a
// GPU that is lost.
//
// What a reading shows (a lost GPU, a pending repair, a link that is down, a recovery action) heals with the
// reading that shows it gone. What happened (an XID, an error) heals once HealAfter passed without another
// and no reading speaks against it, or as soon as a reset shows. Nothing needs a restart of this program.
type HealthPolicy struct {
	// HealAfter is how long a GPU must be quiet; 0: 5 min.
	HealAfter time.Duration
	// SlowFor is how long heat or power may slow the clocks; 0: 30 s.
	SlowFor time.Duration
	// LinkErrors is how many NVLink replays, recoveries and CRC errors a minute are too many; 0: 100.
	LinkErrors uint64
	// IgnoreXIDs are never a reason; UnhealthyXIDs always are, even an application's.
	IgnoreXIDs, UnhealthyXIDs []uint64
	// Off makes every GPU that answers healthy.
	Off bool
}

func (p *HealthPolicy) complete() error {
	if p.HealAfter < 0 || p.SlowFor < 0 {
		return fmt.Errorf("gpu.HealthPolicy: HealAfter and SlowFor must not be negative")
	}
	if p.HealAfter == 0 {
		p.HealAfter = 5 * time.Minute
	}
	if p.SlowFor == 0 {
		p.SlowFor = 30 * time.Second
	}
	if p.LinkErrors == 0 {
		p.LinkErrors = 100
	}
	return nil
}

// ReasonKind sorts reasons.
type ReasonKind string

// The kinds of reasons.
const (
	ReasonXID      ReasonKind = "XID"
	ReasonMemory   ReasonKind = "MemoryError"
	ReasonRepair   ReasonKind = "MemoryRepair"
	ReasonNVLink   ReasonKind = "NVLink"
	ReasonHot      ReasonKind = "ThermalSlowdown"
	ReasonPower    ReasonKind = "PowerBrake"
	ReasonRecovery ReasonKind = "RecoveryNeeded"
	ReasonLost     ReasonKind = "Lost"
)

// Reason is why a GPU, or one MIG instance of it, should not be used.
type Reason struct {
	Kind  ReasonKind
	Text  string
	Since time.Time
	XID   uint64 // of the kind ReasonXID
	MIG   string // the instance's UUID; "": the whole GPU
}

func (r Reason) String() string {
	if r.MIG != "" {
		return fmt.Sprintf("%s: %s (on %s)", r.Kind, r.Text, r.MIG)
	}
	return fmt.Sprintf("%s: %s", r.Kind, r.Text)
}

// incident is something that happened, and heals by quiet.
type incident struct {
	Reason
	last time.Time
}

// healthState is what is remembered of a GPU between readings. Its methods take the time and ask nobody, so
// that the same inputs have the same end.
type healthState struct {
	incidents []incident // by what happened
	present   []Reason   // what the newest reading shows
	slowSince map[ReasonKind]time.Time
	linksMost int
	previous  *device.Reading // the newest reading
}

// list is all reasons, oldest first.
func (s *healthState) list() []Reason {
	out := slices.Clone(s.present)
	for _, i := range s.incidents {
		out = append(out, i.Reason)
	}
	slices.SortStableFunc(out, func(a, b Reason) int {
		if c := a.Since.Compare(b.Since); c != 0 {
			return c
		}
		return strings.Compare(string(a.Kind)+a.Text, string(b.Kind)+b.Text)
	})
	return out
}

// event takes in what the driver reported.
func (s *healthState) event(p HealthPolicy, now time.Time, g *device.GPU, e device.Event) {
	if p.Off {
		return
	}
	switch e.Kind {
	case device.EventECCUncorrected:
		s.happened(now, Reason{Kind: ReasonMemory, Text: "uncorrectable memory error"})
	case device.EventXID:
		if slices.Contains(p.IgnoreXIDs, e.XID) {
			return
		}
		class := classOf(e.XID)
		if class == xidApplication || class == xidNotice {
			if !slices.Contains(p.UnhealthyXIDs, e.XID) {
				return
			}
		}
		s.happened(now, Reason{Kind: ReasonXID, Text: xidWords(e.XID), XID: e.XID, MIG: instanceOf(g, e)})
	}
}

// instanceOf is the MIG instance that an event is about; "" where it is about the whole GPU.
func instanceOf(g *device.GPU, e device.Event) string {
	if e.GI < 0 || !g.MIG.Enabled || classOf(e.XID) == xidBus {
		return ""
	}
	for _, m := range g.MIG.Instances {
		if m.GI == e.GI && (e.CI < 0 || m.CI == e.CI) {
			return m.UUID
		}
	}
	return ""
}

func (s *healthState) happened(now time.Time, r Reason) {
	for i := range s.incidents {
		if old := &s.incidents[i]; old.Kind == r.Kind && old.Text == r.Text && old.MIG == r.MIG {
			old.last = now
			return
		}
	}
	r.Since = now
	s.incidents = append(s.incidents, incident{Reason: r, last: now})
}

// observe takes in how the GPU is: reading is nil where it could not be read, and g.Problem says why.
func (s *healthState) observe(p HealthPolicy, now time.Time, g *device.GPU, reading *device.Reading) {
	before := s.present
	s.present = nil
	show := func(kind ReasonKind, text string) {
		r := Reason{Kind: kind, Text: text, Since: now}
		if i := slices.IndexFunc(before, func(b Reason) bool { return b.Kind == kind && b.Text == text }); i >= 0 {
			r.Since = before[i].Since
		}
		s.present = append(s.present, r)
	}
	if reading == nil {
		text := g.Problem
		if text == "" {
			text = device.ErrLost.Error()
		}
		show(ReasonLost, text)
		s.slowSince = nil
		return // incidents neither heal nor grow while nothing is known
	}
	if p.Off {
		s.incidents, s.previous = nil, reading
		return
	}
	s.showRepairs(reading, show)
	if g.MIG.Enabled {
		s.linksMost = 0 // instances have no NVLinks, and the driver may show them down
	} else {
		s.showLinks(p, now, reading, show)
	}
	s.showSlow(p, now, reading, show)
	if reading.Recovery > device.RecoveryNone {
		show(ReasonRecovery, "the driver asks to "+reading.Recovery.String())
	}
	reset := wasReset(s.previous, reading)
	if s.previous != nil && !reset && grew(s.previous.ECCUncorrected, reading.ECCUncorrected) {
		s.happened(now, Reason{Kind: ReasonMemory, Text: "uncorrectable memory error"})
	}
	s.previous = reading
	s.heal(p, now, g, reset)
}

// heal drops the incidents that are over: with a reset, or after quiet while no reading asks for one.
func (s *healthState) heal(p HealthPolicy, now time.Time, g *device.GPU, reset bool) {
	needsReset := slices.ContainsFunc(s.present, func(r Reason) bool { return r.Kind == ReasonRepair || r.Kind == ReasonRecovery })
	s.incidents = slices.DeleteFunc(s.incidents, func(i incident) bool {
		gone := i.MIG != "" && !slices.ContainsFunc(g.MIG.Instances, func(m device.MIGInstance) bool { return m.UUID == i.MIG })
		return gone || reset || !needsReset && now.Sub(i.last) >= p.HealAfter
	})
}

// wasReset says that the GPU was reset between two readings: its counters since then fell.
func wasReset(a, b *device.Reading) bool {
	return a != nil && (grew(b.Energy, a.Energy) || grew(b.ECCUncorrected, a.ECCUncorrected))
}

func grew(a, b *uint64) bool { return a != nil && b != nil && *b > *a }

func (s *healthState) showRepairs(r *device.Reading, show func(ReasonKind, string)) {
	if r.Rows != nil && r.Rows.Failed {
		show(ReasonRepair, "memory could not be repaired: no spare rows are left")
	}
	if r.Rows != nil && r.Rows.Pending || r.RetiredPending != nil && *r.RetiredPending {
		show(ReasonRepair, "a memory repair waits for a reset")
	}
}

func (s *healthState) showLinks(p HealthPolicy, now time.Time, r *device.Reading, show func(ReasonKind, string)) {
	s.linksMost = max(s.linksMost, r.LinksUp)
	if r.LinksUp < s.linksMost {
		show(ReasonNVLink, fmt.Sprintf("%d of %d NVLinks are up", r.LinksUp, s.linksMost))
	}
	if s.previous == nil {
		return
	}
	minutes := max(r.At.Sub(s.previous.At).Minutes(), 1.0/60)
	for _, link := range r.LinkErrors {
		for _, old := range s.previous.LinkErrors {
			if old.Link != link.Link {
				continue
			}
			before, after := old.Replay+old.Recovery+old.CRCFlits, link.Replay+link.Recovery+link.CRCFlits
			if after > before && float64(after-before)/minutes > float64(p.LinkErrors) {
				s.happened(now, Reason{Kind: ReasonNVLink, Text: fmt.Sprintf("NVLink %d errs more than %d times a minute", link.Link, p.LinkErrors)})
			}
		}
	}
}

// showSlow shows what slows the clocks for long. What merely keeps to a power cap is a GPU at work.
func (s *healthState) showSlow(p HealthPolicy, now time.Time, r *device.Reading, show func(ReasonKind, string)) {
	overheated := r.Temperature != nil && r.SlowdownTemperature != nil && *r.SlowdownTemperature > 0 && *r.Temperature >= *r.SlowdownTemperature
	for _, slow := range []struct {
		kind ReasonKind
		text string
		is   bool
	}{
		{ReasonHot, "clocks are slowed by heat", overheated || r.Throttle&device.ThrottleHWThermal != 0},
		{ReasonPower, "clocks are slowed by the power brake", r.Throttle&device.ThrottleHWPowerBrake != 0},
	} {
		if !slow.is {
			delete(s.slowSince, slow.kind)
			continue
		}
		if s.slowSince == nil {
			s.slowSince = map[ReasonKind]time.Time{}
		}
		since, known := s.slowSince[slow.kind]
		if !known {
			s.slowSince[slow.kind], since = now, now
		}
		if now.Sub(since) >= p.SlowFor {
			show(slow.kind, slow.text)
		}
	}
}
