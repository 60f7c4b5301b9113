// Package scopedmetrics registers metrics for as long as something runs. Parts register when they are
// made; whoever is made and never run, or run again in the same process, must leave nothing in the
// host's registry.
package scopedmetrics

import (
	"errors"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Scope is a prometheus.Registerer that hands on what is registered with it while it is open, and takes
// it out again when it closes. It is safe for concurrent use.
type Scope struct {
	to prometheus.Registerer

	mu      sync.Mutex // guards the rest
	open    bool
	mine    []prometheus.Collector
	pending []prometheus.Collector
}

// New returns a scope that isn't open. A nil registerer makes one that registers nothing.
func New(to prometheus.Registerer) *Scope { return &Scope{to: to} }

// Registerer is the scope, or nil without a registerer to hand on to.
func (s *Scope) Registerer() prometheus.Registerer {
	if s.to == nil {
		return nil
	}
	return s
}

// Open registers what was registered so far, all of it or nothing.
func (s *Scope) Open() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = true
	for _, c := range s.pending {
		if err := s.registerLocked(c); err != nil {
			s.closeLocked()
			return err
		}
	}
	s.pending = nil
	return nil
}

// Close unregisters everything.
func (s *Scope) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeLocked()
}

func (s *Scope) closeLocked() {
	for _, c := range s.mine {
		s.to.Unregister(c)
	}
	s.mine, s.open = nil, false
}

func (s *Scope) registerLocked(c prometheus.Collector) error {
	if err := s.to.Register(c); err != nil {
		return err
	}
	s.mine = append(s.mine, c)
	return nil
}

// Register implements prometheus.Registerer. Before Open it only remembers, so that an error comes from there.
func (s *Scope) Register(c prometheus.Collector) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.open {
		s.pending = append(s.pending, c)
		return nil
	}
	return s.registerLocked(c)
}

// MustRegister implements prometheus.Registerer. Nothing of ours calls it.
func (s *Scope) MustRegister(cs ...prometheus.Collector) {
	var errs []error
	for _, c := range cs {
		errs = append(errs, s.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		panic(err)
	}
}

// Unregister implements prometheus.Registerer.
func (s *Scope) Unregister(c prometheus.Collector) bool { return s.to.Unregister(c) }
