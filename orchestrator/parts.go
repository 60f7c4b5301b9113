package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/pintle/pintle/internal/memnet"
	"github.com/pintle/pintle/internal/nodelink"
	"github.com/pintle/pintle/internal/scopedmetrics"
	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/apiserver"
	"github.com/pintle/pintle/orchestrator/cluster"
	"github.com/pintle/pintle/orchestrator/metrics"
	"github.com/pintle/pintle/orchestrator/policy"
	"github.com/pintle/pintle/orchestrator/registry"
	"github.com/pintle/pintle/raftstore"
)

// parts are what one Run is made of.
type parts struct {
	cfg        Config
	identity   *identity
	membership membership
	addr       net.Addr
	memory     *memnet.Listener

	port     *cluster.Port // nil when nothing listens; then the listeners are too
	apis     net.Listener
	rafts    net.Listener
	joins    net.Listener
	nodes    net.Listener
	switched nodelink.Switch

	store    *raftstore.Store
	registry *registry.Registry
	policies *policy.Engine // nil without Config.Policies
	usage    *metrics.Service
	server   *apiserver.Server
	metrics  *scopedmetrics.Scope // open while run runs
	leading  leadingParts
}

// openPort shares the listener out by protocol.
func (p *parts) openPort(listener net.Listener) {
	if listener == nil {
		return
	}
	config := cluster.ServerConfig(p.identity.tlsConfig(p.cfg.serverNames(listener.Addr()), p.cfg.Clock),
		p.identity.member(p.membership, p.cfg.Clock), p.identity.ca.Certificate())
	p.port = cluster.NewPort(listener, config, p.cfg.Logger.With("part", "port"))
	p.apis, p.rafts = p.port.API(), p.port.Listen(cluster.ProtocolRaft)
	p.joins, p.nodes = p.port.Listen(cluster.ProtocolJoin), p.port.Listen(cluster.ProtocolNode)
}

// retained is how many revisions of the past a watch may be late by: some ten seconds of thousands of pods a second.
const retained = 100_000

func (p *parts) openStore() (err error) {
	cfg := raftstore.Config{NodeID: p.membership.Member, Cluster: p.membership.ClusterID, Logger: p.cfg.Logger.With("part", "store"), Clock: p.cfg.Clock, Join: p.cfg.Join != nil,
		KeyProvider: p.cfg.KeyProvider, Backups: p.cfg.Backups, RetainRevisions: retained}
	if p.cfg.DataDir != "" {
		cfg.Dir = filepath.Join(p.cfg.DataDir, "store")
	}
	if p.port != nil {
		cfg.Network = cluster.NewLinks(p.rafts, p.identity.member(p.membership, p.cfg.Clock), p.cfg.DialMember)
		cfg.Address = p.cfg.memberAddress(p.addr)
	}
	if p.store, err = raftstore.Open(cfg); err != nil {
		return fmt.Errorf("orchestrator: %w", err)
	}
	return nil
}

// assemble makes the other parts; it starts none.
func (p *parts) assemble() (err error) {
	p.metrics = scopedmetrics.New(p.cfg.Metrics)
	if err := p.newPolicies(); err != nil {
		return err
	}
	p.registry, err = registry.New(registry.Config{
		Store: p.store, Kinds: api.All(), Admitter: p.admitter(), ServiceCIDR: p.cfg.ServiceCIDR,
		Clock: p.cfg.Clock, Logger: p.cfg.Logger.With("part", "registry"),
	})
	if err != nil {
		return fmt.Errorf("orchestrator: %w", err)
	}
	if p.usage, err = newUsage(p); err != nil {
		return err
	}
	access, err := newAccess(p)
	if err != nil {
		return err
	}
	p.server, err = apiserver.New(apiserver.Config{
		Registry: p.registry, Listener: p.apis, Memory: p.memory,
		Authenticator: access.authenticator, Authorizer: access.authorizer, RBAC: access.rbac,
		Issuer: access.issuer, Tokens: access.tokens, NodeProxy: access.nodeProxy, Metrics: p.usage, Health: p.health,
		Explain: func(ctx context.Context, namespace, pod string) (any, error) { return p.explain(ctx, namespace, pod) },
		Logger:  p.cfg.Logger.With("part", "apiserver"), Clock: p.cfg.Clock,
	})
	if err != nil {
		return fmt.Errorf("orchestrator: %w", err)
	}
	return nil
}

// run starts the parts in the order in which they need each other, and ends them in the reverse
// order: the API stops before the registry, the registry before the store, and the port last.
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
	var stops []func() error
	if p.port != nil {
		stops = append(stops, level("port", p.port.Run))
	}
	stops = append(stops, level("store", p.store.Run), level("registry", p.registry.Run))
	if p.policies != nil {
		stops = append(stops, level("policies", p.runPolicies))
	}
	if p.port != nil {
		stops = append(stops, level("joins", p.serveJoins), level("nodes", p.serveNodes))
	}
	stops = append(stops, level("metrics", p.usage.Run), level("API server", p.server.Run), level("membership", p.beMember))

	err := p.lead(failed, ready)
	if err == nil && ctx.Err() == nil {
		err = context.Cause(failed)
	}
	p.retire()
	// The first error is the cause; what ending the others says is a consequence.
	for i := len(stops) - 1; i >= 0; i-- {
		if stopErr := stops[i](); err == nil {
			err = stopErr
		}
	}
	return err
}

// How long a stop may take to hand leadership over, and how long clients that have connected already may take to
// say what they want.
const (
	retireWait = 2 * time.Second
	lastWords  = 250 * time.Millisecond
)

// retire leaves the work to the other members, where there are some, before anything here stops: another one leads,
// and who connects is refused and goes to another member, while connections that are there are served to their end.
func (p *parts) retire() {
	if p.port == nil || p.store.Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), retireWait)
	defer cancel()
	if members, _ := p.store.Members(ctx); len(members) < 2 { // without a leader it says which it knows
		return
	}
	if leader, _ := p.store.Leader(); leader.Leading {
		if err := p.store.HandOver(ctx, ""); err != nil {
			p.cfg.Logger.Warn("this member stops without having handed over", "error", err)
		}
	}
	// The new leader dials this member, and must have done so before nobody can: a read that the leader confirms shows
	// that it has. Without it requests that are under way here would wait in vain.
	if _, _, err := p.store.Get(ctx, "retire"); err != nil {
		p.cfg.Logger.Warn("this member stops without having heard of a leader", "error", err)
	}
	p.port.Drain(ctx)
	select {
	case <-time.After(lastWords):
	case <-ctx.Done():
	}
}

func (p *parts) serveJoins(ctx context.Context) error {
	return cluster.ServeJoin(ctx, p.joins, joinHost{p}, p.cfg.Logger.With("part", "join"))
}
