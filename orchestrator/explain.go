package orchestrator

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/registry"
	"github.com/pintle/pintle/orchestrator/scheduler"
	"github.com/pintle/pintle/raftstore"
)

// Explain says where a pod would go now and why, with every plugin's filter and score of every node. One that has a
// node is looked at as if it had none. It writes nothing. On a member that doesn't lead, scheduling policies aren't
// asked. GET /api/v1/namespaces/NAMESPACE/pods/POD/scheduling is the same.
func (o *Orchestrator) Explain(ctx context.Context, namespace, pod string) (*scheduler.Explanation, error) {
	p := o.running()
	if p == nil {
		return nil, errors.New("orchestrator: explain: the control plane doesn't run: wait for Ready")
	}
	return p.explain(ctx, namespace, pod)
}

func (p *parts) explain(ctx context.Context, namespace, pod string) (*scheduler.Explanation, error) {
	if s := p.leading.scheduler(); s != nil {
		select {
		case <-s.Ready():
			return s.Explain(ctx, namespace, pod)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return scheduler.Observe(ctx, scheduler.Config{Client: p.registry.Client("system:kube-scheduler"), Clock: p.cfg.Clock}, namespace, pod)
}

// ExplainBackup is Explain in the cluster that a backup holds, as it was then: from Orchestrator.Backup or
// Config.Backups. It needs no cluster, and of the config only KeyProvider, where the backup is sealed, Logger and Clock. It
// unpacks the backup into a temporary folder, which it removes.
func ExplainBackup(ctx context.Context, cfg Config, r io.Reader, namespace, pod string) (_ *scheduler.Explanation, err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if cfg.DataDir, err = os.MkdirTemp("", "pintle-explain-"); err != nil {
		return nil, fmt.Errorf("orchestrator: explain: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(cfg.DataDir)) }()

	in := bufio.NewReader(r)
	if start, _ := in.Peek(len(storeBackup)); string(start) != storeBackup {
		if _, err := restoreIdentity(cfg, in); err != nil {
			return nil, fmt.Errorf("orchestrator: explain: %w", err)
		}
	}
	stored := raftstore.Config{Dir: filepath.Join(cfg.DataDir, "store"), KeyProvider: cfg.KeyProvider,
		Logger: cfg.Logger.With("part", "store"), Clock: cfg.Clock}
	if err := raftstore.Restore(stored, in); err != nil {
		return nil, fmt.Errorf("orchestrator: explain: %w", err)
	}
	store, err := raftstore.Open(stored)
	if err != nil {
		return nil, fmt.Errorf("orchestrator: explain: %w", err)
	}
	objects, err := registry.New(registry.Config{Store: store, Kinds: api.All(), ServiceCIDR: cfg.ServiceCIDR, Clock: cfg.Clock,
		Logger: cfg.Logger.With("part", "registry")})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("orchestrator: explain: %w", err), store.Close())
	}

	running, stop := context.WithCancel(ctx)
	defer stop()
	group, running := errgroup.WithContext(running)
	group.Go(func() error { return store.Run(running) })
	group.Go(func() error { return objects.Run(running) })
	var out *scheduler.Explanation
	group.Go(func() error {
		defer stop()
		select {
		case <-objects.Ready():
		case <-running.Done():
			return nil
		}
		var err error
		out, err = scheduler.Observe(running, scheduler.Config{Client: objects.Client("system:kube-scheduler"), Clock: cfg.Clock}, namespace, pod)
		return err
	})
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("orchestrator: explain: %w", err)
	}
	if out == nil {
		return nil, fmt.Errorf("orchestrator: explain: %w", context.Cause(ctx))
	}
	return out, nil
}
