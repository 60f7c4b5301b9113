package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pintle/pintle/orchestrator/controllers"
	"github.com/pintle/pintle/orchestrator/registry"
	"github.com/pintle/pintle/orchestrator/scheduler"
)

// lead runs what only the leader runs, each time this member leads, until ctx ends. ready is closed when
// this member is of use: at once where another leads, and with the leader's own parts where it leads itself.
func (p *parts) lead(ctx context.Context, ready chan<- struct{}) error {
	for _, part := range []<-chan struct{}{p.store.Ready(), p.registry.Ready(), p.server.Ready()} {
		select {
		case <-part:
		case <-ctx.Done():
			return nil
		}
	}
	closeReady := sync.OnceFunc(func() { close(ready) })
	if leader, _ := p.store.Leader(); !leader.Leading {
		closeReady()
	}
	err := p.store.WhileLeading(ctx, func(ctx context.Context, term uint64) error { return p.leadOnce(ctx, term, closeReady) })
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// leadOnce is one term of leadership: the first objects, then scheduler and controllers, whose writes carry
// the term.
func (p *parts) leadOnce(ctx context.Context, term uint64, ready func()) error {
	client := p.registry.Client("system:pintle", "system:masters").InTerm(term)
	if err := p.firstObjects(ctx, client.Unquestioned()); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return nil
	}
	if !p.policiesRead(ctx) {
		return nil
	}
	sched, err := scheduler.New(scheduler.Config{
		Client: p.registry.Client("system:kube-scheduler").InTerm(term), Policy: p.schedulerPolicy(),
		Logger: p.cfg.Logger.With("part", "scheduler"), Clock: p.cfg.Clock,
	})
	if err != nil {
		return err
	}
	control, err := controllers.New(p.controllersConfig(term))
	if err != nil {
		return err
	}
	p.leading.set(map[string]<-chan struct{}{"scheduler": sched.Ready(), "controllers": control.Ready()}, sched)
	defer p.leading.set(nil, nil)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return sched.Run(ctx) })
	group.Go(func() error { return control.Run(ctx) })
	group.Go(func() error { return p.keepMembers(ctx, client) })
	if p.policies != nil {
		group.Go(func() error { return p.policies.Report(ctx, p.policyClient().InTerm(term)) })
	}
	group.Go(func() error {
		for _, part := range []<-chan struct{}{sched.Ready(), control.Ready()} {
			select {
			case <-part:
			case <-ctx.Done():
				return nil
			}
		}
		ready()
		return nil
	})
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// firstObjects creates what every cluster has. A term that has been succeeded fails first and is told of it
// a moment later, so that an error counts only after some patience.
func (p *parts) firstObjects(ctx context.Context, client *registry.Client) error {
	const patience, pause = 15 * time.Second, 100 * time.Millisecond
	begun := time.Now()
	for {
		err := bootstrap(ctx, client, p.cfg)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		if time.Since(begun) > patience {
			return fmt.Errorf("orchestrator: first objects: %w", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}
