package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/pintle/pintle/raftstore"
)

// readyPatience is how long a call waits for the cache to be filled before it answers 503.
const readyPatience = 30 * time.Second

// Run feeds the cache until ctx ends, and then returns nil. It can be called once. When it ends, so do
// all watches.
func (r *Registry) Run(ctx context.Context) error {
	if r.ran.Swap(true) {
		return errors.New("registry: Run was called before: make a new Registry")
	}
	defer close(r.stopped)
	if err := r.follow(ctx); ctx.Err() == nil {
		return err
	}
	return nil
}

func (r *Registry) follow(ctx context.Context) error {
	select {
	case <-r.cfg.Store.Ready():
	case <-ctx.Done():
		return nil
	}
	for {
		revision, err := r.load(ctx)
		if err != nil {
			return err
		}
		if err := r.feed(ctx, revision); !errors.Is(err, raftstore.ErrCompacted) {
			return err
		}
		r.log.Warn("the registry fell behind the store and reads everything again", "revision", revision)
	}
}

// load fills every cache from one revision of the store.
func (r *Registry) load(ctx context.Context) (int64, error) {
	all, err := r.cfg.Store.Range(ctx, raftstore.RangeRequest{Prefix: root})
	if err != nil {
		return 0, fmt.Errorf("registry: read everything: %w", err)
	}
	entries := map[*resource][]*Entry{}
	for _, kv := range all.KVs {
		c, key := r.locate(kv.Key)
		if c == nil {
			continue
		}
		e, err := r.decode(c, key, kv)
		if err != nil {
			return 0, err
		}
		entries[c] = append(entries[c], e)
	}
	quotas := r.resources[quotasGVR()]
	for _, c := range r.resources {
		if c != quotas {
			c.reset(entries[c], all.Revision)
		}
	}
	if quotas != nil { // last, as in feed
		quotas.reset(entries[quotas], all.Revision)
	}
	r.services.reset(entries[r.resources[servicesGVR()]], entries[r.resources[cidrsGVR()]])
	r.reached.advance(all.Revision)
	select {
	case <-r.ready:
	default:
		close(r.ready)
	}
	return all.Revision, nil
}

func (r *Registry) feed(ctx context.Context, revision int64) error {
	w, err := r.cfg.Store.Watch(ctx, raftstore.WatchRequest{Prefix: root, From: revision + 1, Progress: true})
	if err != nil {
		return fmt.Errorf("registry: watch: %w", err)
	}
	defer w.Close()
	services, quotas, cidrs := r.resources[servicesGVR()], r.resources[quotasGVR()], r.resources[cidrsGVR()]
	for {
		batch, err := w.Next(ctx)
		if err != nil {
			return fmt.Errorf("registry: watch: %w", err)
		}
		changes := map[*resource][]change{}
		for _, ev := range batch.Events {
			c, key := r.locate(ev.KV.Key)
			if c == nil {
				continue
			}
			ch := change{key: key, revision: ev.KV.ModRevision}
			if ev.Type == raftstore.Put {
				if ch.entry, err = r.decode(c, key, ev.KV); err != nil {
					return err
				}
			}
			changes[c] = append(changes[c], ch)
		}
		for c, list := range changes {
			switch c {
			case quotas:
			case services:
				c.apply(list, r.services.observe)
			case cidrs:
				c.apply(list, r.services.observeCIDR)
			default:
				c.apply(list, nil)
			}
		}
		// Last: who sees what a quota was charged sees what for.
		if list := changes[quotas]; list != nil {
			quotas.apply(list, nil)
		}
		r.reached.advance(batch.Revision)
	}
}

func (r *Registry) decode(c *resource, key string, kv raftstore.KV) (*Entry, error) {
	obj, err := r.codec.decode(c.kind, kv.Value)
	if err != nil {
		return nil, fmt.Errorf("registry: stored object %s: %w", kv.Key, err)
	}
	return newEntry(obj, key, kv.ModRevision), nil
}

// locate splits a store key. Resources that this program does not serve are left alone.
func (r *Registry) locate(storeKey string) (*resource, string) {
	path, key, ok := splitKey(storeKey)
	if !ok {
		return nil, ""
	}
	return r.byPrefix[path], key
}

// Revision is the one up to which the cache holds everything.
func (r *Registry) Revision() int64 { return r.reached.revision() }

// WaitFor waits until the cache has reached a revision.
func (r *Registry) WaitFor(ctx context.Context, revision int64) error {
	return r.reached.wait(ctx, revision, r.stopped)
}

func (r *Registry) waitReady(ctx context.Context) error {
	select {
	case <-r.stopped:
		return errStopped()
	default:
	}
	select {
	case <-r.ready:
		return nil
	default:
	}
	patience := time.NewTimer(readyPatience)
	defer patience.Stop()
	select {
	case <-r.ready:
		return nil
	case <-r.stopped:
		return errStopped()
	case <-patience.C:
		return apierrors.NewServiceUnavailable("the registry is not ready yet")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// served waits until the cache is filled, and returns the kind as asked for and the cache it is in.
func (r *Registry) served(ctx context.Context, gvr gvr) (*kindRef, error) {
	kind := r.byGVR[gvr]
	if kind == nil {
		return nil, apierrors.NewNotFound(gvr.GroupResource(), "")
	}
	if err := r.waitReady(ctx); err != nil {
		return nil, err
	}
	return &kindRef{kind: kind, cache: r.resources[kind.StorageGVR()]}, nil
}
