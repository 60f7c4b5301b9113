package ingress

import (
	"context"
	"errors"

	"github.com/pintle/pintle/netproxy/standby"
)

// await holds a request while the Service of its backend is scaled to zero. It returns the route with the endpoints
// of then, or nil where there is none to wait for.
func (c *Controller) await(ctx context.Context, r *route, host, path string) (*route, error) {
	u := r.backend
	if u.zero == nil || len(u.eps) > 0 {
		return nil, nil
	}
	if err := u.zero.Wait(ctx); err != nil {
		return nil, errors.Join(errNoEndpoint, err)
	}
	now := c.state.Load().table.match(host, path)
	if now != nil && now.ingress != r.ingress && now.canary != nil {
		now = now.canary
	}
	if now == nil || now.ingress != r.ingress || now.backend == u {
		return nil, nil
	}
	return now, nil
}

// held is what a client is told of a request that waited in vain; "" for others.
func held(err error) string {
	for _, known := range []error{standby.ErrFull, standby.ErrLate} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return ""
}
