package kubescheduler

import (
	"context"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/guest"
)

// Permit runs reserve and permit, and where these allow the pod, prebind, bind and postbind: a guest has no way to
// bind a pod itself, so that a bind that succeeds, or skips, leaves it to the host. A refusal is followed by unreserve.
func (e *evaluator) Permit(ctx context.Context, q *abi.PermitRequest) (*abi.PermitResponse, abi.Spent, error) {
	var resp *abi.PermitResponse
	spent, err := e.hook(ctx, q.Pod, q.Node, func(ctx context.Context, in *guest.Instance, c *cycle) error {
		c.waiting = q.Waiting
		resp = &abi.PermitResponse{}
		if err := c.scored(ctx, in); err != nil {
			return err
		}
		err := e.permit(ctx, in, c, resp)
		if e.has["unreserve"] && err == nil && resp.Decision == abi.Deny {
			_, err = c.call(ctx, in, "unreserve")
		}
		resp.Reject = c.reject
		return err
	})
	if err != nil {
		return nil, spent, err
	}
	return resp, spent, nil
}

func (e *evaluator) permit(ctx context.Context, in *guest.Instance, c *cycle, resp *abi.PermitResponse) error {
	// denied takes a status that isn't success; what is no refusal is an error.
	denied := func(point string, code int32) error {
		if !refuses(code) {
			return statusError(point, code, c.reason)
		}
		resp.Decision, resp.Reason = abi.Deny, c.reason
		return nil
	}
	if code, err := c.status(ctx, in, "reserve"); err != nil || code != success {
		if err != nil {
			return err
		}
		return denied("reserve", code)
	}
	if e.has["permit"] {
		v, err := c.call(ctx, in, "permit")
		if err != nil {
			return err
		}
		switch code := int32(uint32(v >> 32)); code {
		case success:
		case wait:
			resp.Decision, resp.TimeoutMs, resp.Reason = abi.Wait, int64(uint32(v)), c.reason
			return nil
		default:
			return denied("permit", code)
		}
	}
	for _, point := range []string{"prebind", "bind"} {
		code, err := c.status(ctx, in, point)
		if err != nil {
			return err
		}
		if code != success && code != skip {
			return denied(point, code)
		}
	}
	if e.has["postbind"] {
		_, err := c.call(ctx, in, "postbind")
		return err
	}
	return nil
}

// PostFilter tells the guest that no node is left. What it nominates counts where its status is success.
func (e *evaluator) PostFilter(ctx context.Context, q *abi.PostFilterRequest) (*abi.PostFilterResponse, abi.Spent, error) {
	resp := &abi.PostFilterResponse{}
	if !e.has["postfilter"] {
		return resp, abi.Spent{}, nil
	}
	spent, err := e.hook(ctx, q.Pod, "", func(ctx context.Context, in *guest.Instance, c *cycle) error {
		v, err := c.call(ctx, in, "postfilter")
		if err != nil {
			return err
		}
		const override = 1 // the nominating mode that sets a node; the other leaves it
		switch code := int32(uint32(v)); {
		case code == success && uint32(v>>32) == override:
			resp.Nominate = c.nominated
		case code != success && code != skip && !refuses(code):
			return statusError("postfilter", code, c.reason)
		}
		resp.Message = c.reason
		return nil
	})
	return resp, spent, err
}

// hook runs an extension point that comes after Place, at the end of a cycle for one node, as the guest's own runtime
// would come to it. What these earlier points answer is known.
func (e *evaluator) hook(ctx context.Context, pod *abi.Pod, node string, fn func(ctx context.Context, in *guest.Instance, c *cycle) error) (abi.Spent, error) {
	k := e.recall(pod)
	if node == "" {
		node = k.first
	}
	return e.pool.Do(ctx, func(ctx context.Context, in *guest.Instance) error {
		c := in.State.(*cycle)
		c.begin(nil, k)
		defer c.begin(nil, nil)
		more, err := c.prefilter(ctx, in)
		if err != nil {
			return err
		}
		if c.node = node; more && node != "" {
			if _, err := c.status(ctx, in, "filter"); err != nil {
				return err
			}
		}
		c.reason = ""
		return fn(ctx, in, c)
	})
}

// scored brings a cycle past prescore and score.
func (c *cycle) scored(ctx context.Context, in *guest.Instance) error {
	more, err := c.prescore(ctx, in)
	if err == nil && more && c.e.has["score"] {
		_, err = c.call(ctx, in, "score")
	}
	return err
}
