package registry

import (
	"context"
	"time"

	"github.com/pintle/pintle/raftstore"
)

// currentPatience is how long a read waits for a leader: an election, and more.
const currentPatience = 10 * time.Second

// Current waits until the cache holds everything that was acknowledged before the call, on whichever member:
// what is read then is linearizable. With a single member that is so at once. ServiceUnavailable when no
// majority of the members can be reached for some seconds.
func (r *Registry) Current(ctx context.Context) error {
	if err := r.waitReady(ctx); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, currentPatience)
	defer cancel()
	// A key that is never written: what counts is the revision of the answer.
	res, err := r.cfg.Store.Range(limited, raftstore.RangeRequest{Key: root, CountOnly: true})
	if err == nil {
		err = r.WaitFor(limited, res.Revision)
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case limited.Err() != nil:
		return errNoMajority()
	}
	return storeError("read", err)
}
