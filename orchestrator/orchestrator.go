package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/pintle/pintle/internal/memnet"
)

// Orchestrator is a control plane. Make one with New, then Run it. All methods are safe for
// concurrent use.
type Orchestrator struct {
	cfg    Config
	memory *memnet.Listener
	ready  chan struct{}

	// mu guards what Run sets.
	mu       sync.Mutex
	started  bool
	identity *identity
	addr     net.Addr
	parts    *parts // while Run goes on
}

// New checks the config. It starts nothing and touches no file.
func New(cfg Config) (*Orchestrator, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Orchestrator{cfg: cfg, memory: memnet.Listen(), ready: make(chan struct{})}, nil
}

// Ready is closed once the API is served, the store has a leader, the namespaces and roles that
// every cluster has are there, and the scheduler and the controllers run.
func (o *Orchestrator) Ready() <-chan struct{} { return o.ready }

// Addr is the address of the TLS port; nil before Run listens and without one.
func (o *Orchestrator) Addr() net.Addr {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.addr
}

// ClusterName is the config's, or, for a member that joined, what the cluster is called. Ask after Ready.
func (o *Orchestrator) ClusterName() string {
	if p := o.running(); p != nil {
		return p.membership.Cluster
	}
	return o.cfg.Name
}

// ServiceCIDR is where cluster IPs come from: the config's, or, for a member that joined, the cluster's. Ask
// after Ready.
func (o *Orchestrator) ServiceCIDR() netip.Prefix {
	if p := o.running(); p != nil {
		return p.cfg.ServiceCIDR
	}
	return o.cfg.ServiceCIDR
}

// Run is the cluster's life: it returns nil after ctx has ended, or the error that ended it, once
// everything that it started has stopped. It may be called once; make another Orchestrator on the same
// folder to start again.
func (o *Orchestrator) Run(ctx context.Context) (err error) {
	o.mu.Lock()
	if o.started {
		o.mu.Unlock()
		return errors.New("orchestrator: Run was called before: make a new Orchestrator")
	}
	o.started = true
	o.mu.Unlock()
	defer o.memory.Close()

	listener, err := o.listen()
	if err != nil {
		return err
	}
	membership, identity, err := loadMembership(ctx, o.cfg, listener != nil)
	if err != nil {
		closeListener(listener)
		if ctx.Err() != nil {
			return nil // it ended while it waited to join
		}
		return err
	}
	o.cfg.Name, o.cfg.ServiceCIDR = membership.Cluster, membership.ServiceCIDR
	o.mu.Lock()
	o.identity = identity
	o.mu.Unlock()

	p := &parts{cfg: o.cfg, identity: identity, membership: membership, addr: o.Addr(), memory: o.memory}
	p.openPort(listener)
	if err := p.openStore(); err != nil {
		closeListener(listener)
		return err
	}
	defer func() { err = errors.Join(err, p.store.Close()) }()
	if err := p.assemble(); err != nil {
		closeListener(listener)
		return err
	}
	if err := p.metrics.Open(); err != nil {
		closeListener(listener)
		return fmt.Errorf("orchestrator: register metrics: %w", err)
	}
	defer p.metrics.Close()
	o.setRunning(p)
	defer o.setRunning(nil)
	return p.run(ctx, o.ready)
}

func (o *Orchestrator) setRunning(p *parts) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.parts = p
}

// running are the parts of the Run that goes on, nil outside of it.
func (o *Orchestrator) running() *parts {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.parts
}

func (o *Orchestrator) listen() (net.Listener, error) {
	listener := o.cfg.Listener
	if o.cfg.Address != "" {
		var err error
		if listener, err = net.Listen("tcp", o.cfg.Address); err != nil {
			return nil, fmt.Errorf("orchestrator: listen on %s: %w", o.cfg.Address, err)
		}
	}
	if listener != nil {
		o.mu.Lock()
		o.addr = listener.Addr()
		o.mu.Unlock()
	}
	return listener, nil
}

func closeListener(l net.Listener) {
	if l != nil {
		l.Close()
	}
}
