package registry

import (
	"context"

	"github.com/pintle/pintle/raftstore"
)

// allocationsKey is written by whoever takes a cluster IP or a node port. It is outside of root: no object.
const allocationsKey = "/pintle/allocations"

// turn orders the writes that claim addresses and ports. On one member they follow each other. Of two members,
// the one that decided without having seen the other's claim fails the comparison, and looks again. A nil turn
// is that of a write that claims nothing.
type turn struct {
	a *allocator
	// since is what the cache held before the claim was decided.
	since int64
}

// takeTurn waits for its turn, for Services.
func (r *Registry) takeTurn(ctx context.Context, k *kindRef) (*turn, error) {
	if k.cache.kind.GVR() != servicesGVR() {
		return nil, nil
	}
	select {
	case r.services.turn <- struct{}{}:
		return &turn{a: r.services, since: r.Revision()}, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (t *turn) end() {
	if t != nil {
		<-t.a.turn
	}
}

func (t *turn) compares(c *claim) []raftstore.Compare {
	if t == nil || c == nil || !c.fresh {
		return nil
	}
	return []raftstore.Compare{{Key: allocationsKey, Target: raftstore.ModRevision, Relation: raftstore.Less, Int: t.since + 1}}
}

func (t *turn) puts(c *claim) []raftstore.Op {
	if t == nil || c == nil || !c.fresh {
		return nil
	}
	return []raftstore.Op{{Type: raftstore.OpPut, Key: allocationsKey}}
}
