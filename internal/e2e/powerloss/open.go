package powerloss

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/pintle/pintle/raftstore"
	"github.com/pintle/pintle/raftstore/raftstoretest"
)

var errNotReady = errors.New("not ready")

// opener opens what the disk holds in dir, and waits until the first of the stores is ready. stop is
// never nil.
type opener func(ctx context.Context, dir string) (stores []*raftstore.Store, stop func() error, err error)

// single opens a store of one member. It must be ready without help.
func single(ctx context.Context, dir string) ([]*raftstore.Store, func() error, error) {
	return start(ctx, raftstore.Config{Dir: dir, NoAutoCompact: true})
}

// sealed opens one that is sealed, or seals it.
func sealed(ctx context.Context, dir string) ([]*raftstore.Store, func() error, error) {
	return start(ctx, raftstore.Config{Dir: dir, NoAutoCompact: true, KeyProvider: raftstoretest.Key()})
}

// cluster opens the three members whose folders are below dir. They lost their power together.
func cluster(key raftstore.KeyProvider) opener {
	return func(ctx context.Context, dir string) ([]*raftstore.Store, func() error, error) {
		net := raftstoretest.NewNet()
		var cfgs []raftstore.Config
		for _, id := range []string{"n1", "n2", "n3"} {
			at := raftstoretest.Address(id)
			cfgs = append(cfgs, raftstore.Config{Dir: filepath.Join(dir, id), NodeID: id, Network: net.Host(at), Address: at,
				Join: id != "n1", NoAutoCompact: true, RemoveDeadAfter: -1, KeyProvider: key})
		}
		return start(ctx, cfgs...)
	}
}

func start(ctx context.Context, cfgs ...raftstore.Config) (stores []*raftstore.Store, stop func() error, err error) {
	done := make(chan error, len(cfgs))
	stop = func() (err error) {
		for _, s := range stores {
			err = errors.Join(err, s.Close())
		}
		for range stores {
			err = errors.Join(err, <-done)
		}
		return err
	}
	for _, cfg := range cfgs {
		s, err := raftstore.Open(cfg)
		if err != nil {
			return stores, stop, fmt.Errorf("open %s: %w", cfg.NodeID, err)
		}
		stores = append(stores, s)
		go func() { done <- s.Run(context.WithoutCancel(ctx)) }()
	}
	select {
	case <-stores[0].Ready():
		return stores, stop, nil
	case <-ctx.Done():
		return stores, stop, errNotReady
	}
}
