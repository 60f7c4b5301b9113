package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/pintle/pintle/internal/memnet"
	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/apiserver"
	"github.com/pintle/pintle/orchestrator/controllers"
	"github.com/pintle/pintle/orchestrator/registry"
	"github.com/pintle/pintle/orchestrator/scheduler"
	"github.com/pintle/pintle/raftstore"
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
	identity, err := loadIdentity(o.cfg.DataDir, o.cfg.Name, o.cfg.Clock)
	if err != nil {
		closeListener(listener)
		return err
	}
	o.mu.Lock()
	o.identity = identity
	o.mu.Unlock()

	storeDir := ""
	if o.cfg.DataDir != "" {
		storeDir = filepath.Join(o.cfg.DataDir, "store")
	}
	store, err := raftstore.Open(raftstore.Config{Dir: storeDir, KeyProvider: o.cfg.KeyProvider, Backups: o.cfg.Backups, Logger: o.cfg.Logger.With("part", "store"), Clock: o.cfg.Clock})
	if err != nil {
		closeListener(listener)
		return fmt.Errorf("orchestrator: %w", err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	parts, err := o.assemble(store, identity, listener)
	if err != nil {
		closeListener(listener)
		return err
	}
	return parts.run(ctx, o.ready)
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

// parts are what one Run is made of.
type parts struct {
	cfg      Config
	store    *raftstore.Store
	registry *registry.Registry
	server   *apiserver.Server
	identity *identity
	addr     net.Addr
}

// run starts the parts in the order in which they need each other, and ends them in the reverse
// order: the API stops before the registry, the registry before the store.
func (p *parts) run(ctx context.Context, ready chan<- struct{}) error {
	// Each level lives until the one above it has ended.
	failed, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	level := func(what string, run func(context.Context) error) func() error {
		levelCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
		done := make(chan error, 1)
		go func() {
			err := run(levelCtx)
			if err == nil && levelCtx.Err() == nil {
				err = errors.New("it ended without being told to")
			}
			if err != nil {
				err = fmt.Errorf("orchestrator: %s: %w", what, err)
				cancel(err)
			}
			done <- err
		}()
		return func() error {
			stop()
			return <-done
		}
	}
	stopStore := level("store", p.store.Run)
	stopRegistry := level("registry", p.registry.Run)
	stopServer := level("API server", p.server.Run)

	err := p.lead(failed, ready)
	if err == nil && ctx.Err() == nil {
		err = context.Cause(failed)
	}
	// The first error is the cause; what ending the others says is a consequence.
	for _, stop := range []func() error{stopServer, stopRegistry, stopStore} {
		if stopErr := stop(); err == nil {
			err = stopErr
		}
	}
	return err
}

// lead runs what only the leader runs, each time this node leads, until ctx ends.
func (p *parts) lead(ctx context.Context, ready chan<- struct{}) error {
	for _, part := range []<-chan struct{}{p.store.Ready(), p.registry.Ready(), p.server.Ready()} {
		select {
		case <-part:
		case <-ctx.Done():
			return nil
		}
	}
	first := true
	return p.store.WhileLeading(ctx, func(ctx context.Context, term uint64) error {
		client := p.registry.Client("system:pintle", "system:masters").InTerm(term)
		if err := bootstrap(ctx, client, p.cfg); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("orchestrator: first objects: %w", err)
		}
		sched, err := scheduler.New(scheduler.Config{
			Client: p.registry.Client("system:kube-scheduler").InTerm(term), Policy: p.cfg.Policy,
			Logger: p.cfg.Logger.With("part", "scheduler"), Clock: p.cfg.Clock,
		})
		if err != nil {
			return err
		}
		control, err := controllers.New(p.controllersConfig(term))
		if err != nil {
			return err
		}
		group, ctx := errgroup.WithContext(ctx)
		group.Go(func() error { return sched.Run(ctx) })
		group.Go(func() error { return control.Run(ctx) })
		group.Go(func() error {
			for _, part := range []<-chan struct{}{sched.Ready(), control.Ready()} {
				select {
				case <-part:
				case <-ctx.Done():
					return nil
				}
			}
			if first {
				first = false
				close(ready)
			}
			return nil
		})
		if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	})
}

// assemble makes the parts; it starts none.
func (o *Orchestrator) assemble(store *raftstore.Store, id *identity, listener net.Listener) (*parts, error) {
	reg, err := registry.New(registry.Config{
		Store: store, Kinds: api.All(), Admitter: o.cfg.Admission, ServiceCIDR: o.cfg.ServiceCIDR,
		Clock: o.cfg.Clock, Logger: o.cfg.Logger.With("part", "registry"),
	})
	if err != nil {
		return nil, fmt.Errorf("orchestrator: %w", err)
	}
	access, err := newAccess(reg, id, o.cfg)
	if err != nil {
		return nil, err
	}
	serverConfig := apiserver.Config{
		Registry: reg, Listener: listener, Memory: o.memory,
		Authenticator: access.authenticator, Authorizer: access.authorizer, RBAC: access.rbac,
		Issuer: access.issuer, Tokens: access.tokens, NodeProxy: access.nodeProxy,
		Logger: o.cfg.Logger.With("part", "apiserver"), Clock: o.cfg.Clock,
	}
	if listener != nil {
		serverConfig.TLS = id.tlsConfig(o.cfg.serverNames(listener.Addr()))
	}
	server, err := apiserver.New(serverConfig)
	if err != nil {
		return nil, fmt.Errorf("orchestrator: %w", err)
	}
	return &parts{cfg: o.cfg, store: store, registry: reg, server: server, identity: id, addr: o.Addr()}, nil
}
