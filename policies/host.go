package policies

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/guest"
)

// Host runs policies. Make one with New; Run ends it.
type Host struct {
	cfg      Config
	log      *slog.Logger
	runtime  *guest.Runtime
	adapters []Adapter
	ready    chan struct{}

	// policies is read by calls without a lock and replaced, never changed, under mu.
	policies atomic.Pointer[map[policyKey]*policy]

	mu      sync.Mutex // guards what follows; held while policies are made, never while a module compiles
	closed  bool
	running bool
	modules map[string]*module
	tickets map[string]uint64 // by module name: how many Loads have begun
	settled map[string]uint64 // by module name: the ticket of the Load that is in force

	retiring sync.WaitGroup // what was replaced, and is closed once its last call has ended
}

type policyKey struct {
	kind abi.Kind
	name string
}

// New checks the configuration and opens the cache. It starts nothing; calls work from now on.
func New(cfg Config) (*Host, error) {
	h := &Host{cfg: cfg, log: cfg.Logger, ready: make(chan struct{}), modules: map[string]*module{}, tickets: map[string]uint64{}, settled: map[string]uint64{}}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if h.cfg.Clock == nil {
		h.cfg.Clock = machineClock{}
	}
	h.adapters = append([]Adapter{&native{lookup: cfg.Lookup, clock: h.cfg.Clock, log: h.log}}, cfg.Adapters...)
	h.policies.Store(&map[policyKey]*policy{})
	var err error
	if h.runtime, err = guest.New(guest.Config{CacheDir: cfg.CacheDir, Logger: h.log}); err != nil {
		return nil, fmt.Errorf("policies: %w", err)
	}
	return h, nil
}

// Run works until ctx ends. Then nothing is answered any more; it returns when the calls that ran have ended and
// everything is freed.
func (h *Host) Run(ctx context.Context) error {
	h.mu.Lock()
	if h.running || h.closed {
		h.mu.Unlock()
		return errors.New("policies: a Host runs once")
	}
	h.running = true
	h.mu.Unlock()
	if h.cfg.Metrics != nil {
		c := newCollector(h)
		if err := h.cfg.Metrics.Register(c); err != nil {
			return errors.Join(fmt.Errorf("policies: register the metrics: %w", err), h.close())
		}
		defer h.cfg.Metrics.Unregister(c)
	}
	close(h.ready)
	<-ctx.Done()
	return h.close()
}

// Ready is closed when Run has begun.
func (h *Host) Ready() <-chan struct{} { return h.ready }

func (h *Host) close() error {
	h.mu.Lock()
	h.closed = true
	for _, p := range *h.policies.Load() {
		h.retire(p.current.Swap(nil))
	}
	modules := h.modules
	h.modules = nil
	h.policies.Store(&map[policyKey]*policy{})
	h.mu.Unlock()
	h.retiring.Wait()
	var errs []error
	ctx := context.Background() // what ends now was bounded by its own limits
	for _, m := range modules {
		errs = append(errs, m.release(ctx))
	}
	return errors.Join(append(errs, h.runtime.Close(ctx))...)
}

// change replaces the policies that calls see. h.mu is held.
func (h *Host) change(fn func(map[policyKey]*policy)) {
	next := maps.Clone(*h.policies.Load())
	fn(next)
	h.policies.Store(&next)
}
