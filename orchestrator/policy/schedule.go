package policy

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/pintle/pintle/policies/abi"
)

// Scheduling is what the scheduler asks, as its Policy: all policies of a profile as one.

// Has says whether a policy of the profile takes part in a hook; "" is any of them.
func (e *Engine) Has(profile, hook string) bool {
	for _, p := range e.table.Load().scheduling[profile] {
		if hook == "" || hook == hookPlace && p.down != "" && p.fail || slices.Contains(p.hooks, hook) {
			return true
		}
	}
	return false
}

// Changed is closed when policies have changed, so that what they refused may be asked again.
func (e *Engine) Changed() <-chan struct{} { return e.table.Load().placing }

// failedOf is the error of a policy that can't be asked: nil where the pod is scheduled without it.
func (e *Engine) failedOf(ctx context.Context, p *schedulingEntry, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case e.table.Load().schedulingPolicy(p.name) == nil: // it was deleted while it was asked
		return nil
	case !p.fail:
		e.log.WarnContext(ctx, "a policy could not decide about a pod, which is scheduled without it", "policy", p.name, "error", err)
		return nil
	}
	return fmt.Errorf("scheduling policy %q could not decide: %w", p.name, err)
}

// Place fills in what the policies of the pod's profile say: a node's verdict is that of the first that refuses it, and
// the later ones aren't asked about it; scores are sums by weight.
func (e *Engine) Place(ctx context.Context, p *abi.Placement) error {
	p.Reset()
	open := make([]int, len(p.Rows)) // the candidates that nobody has refused
	for i := range open {
		open[i] = i
	}
	for _, policy := range e.table.Load().scheduling[p.Pod.SchedulerName] {
		if len(open) == 0 {
			return nil
		}
		if policy.down != "" {
			if err := e.failedOf(ctx, policy, errors.New("it is not ready: "+policy.down)); err != nil {
				return err
			}
			continue
		}
		if !slices.Contains(policy.hooks, hookPlace) {
			continue
		}
		asked := abi.Placement{Pod: p.Pod, Nodes: p.Nodes, Rows: p.Rows, PodObject: p.PodObject, NodeObject: p.NodeObject}
		if len(open) < len(p.Rows) {
			asked.Rows = make([]uint32, len(open))
			for i, at := range open {
				asked.Rows[i] = p.Rows[at]
			}
		}
		_, err := e.host.Place(ctx, policy.name, &asked)
		if err == nil && (len(asked.Verdicts) != len(open) || len(asked.Scores) != len(open)) {
			err = fmt.Errorf("it answered for %d nodes of %d", len(asked.Verdicts), len(open))
		}
		if err != nil {
			if err := e.failedOf(ctx, policy, err); err != nil {
				return err
			}
			continue
		}
		open = take(p, policy, &asked, open)
	}
	return nil
}

// take adds one policy's answer to the whole, and returns the candidates that are left.
func take(p *abi.Placement, policy *schedulingEntry, asked *abi.Placement, open []int) (left []int) {
	reasons := map[uint32]uint32{} // the whole's verdict by the policy's
	left = open[:0]
	for i, at := range open {
		verdict := asked.Verdicts[i]
		if verdict == 0 || !policy.filter {
			if policy.score {
				p.Scores[at] += policy.weight * min(max(asked.Scores[i], 0), 100)
			}
			left = append(left, at)
			continue
		}
		if reasons[verdict] == 0 {
			reason := "it gives no reason"
			if n := int(verdict) - 1; n < len(asked.Reasons) && asked.Reasons[n] != "" {
				reason = asked.Reasons[n]
			}
			p.Reasons = append(p.Reasons, fmt.Sprintf("nodes rejected by policy %s: %s", policy.name, reason))
			reasons[verdict] = uint32(len(p.Reasons))
		}
		p.Verdicts[at] = reasons[verdict]
	}
	return left
}

// QueueKey is the pod's place in the queue, smaller first, as the first policy that orders queues says; 0 without one.
func (e *Engine) QueueKey(ctx context.Context, pod *abi.Pod) int64 {
	for _, p := range e.table.Load().scheduling[pod.SchedulerName] {
		if !slices.Contains(p.hooks, hookQueueSort) {
			continue
		}
		key, _, err := e.host.QueueKey(ctx, p.name, pod)
		if err != nil {
			e.log.WarnContext(ctx, "a policy gave a pod no place in the queue", "policy", p.name, "namespace", pod.Namespace, "pod", pod.Name, "error", err)
			return 0
		}
		return key
	}
	return 0
}

// Permitters are the policies of a profile that say when a pod may be bound.
func (e *Engine) Permitters(profile string) (names []string) {
	for _, p := range e.table.Load().scheduling[profile] {
		if slices.Contains(p.hooks, hookPermit) {
			names = append(names, p.name)
		}
	}
	return names
}

// Permit asks one of them.
func (e *Engine) Permit(ctx context.Context, policy string, req *abi.PermitRequest) (*abi.PermitResponse, error) {
	p := e.table.Load().schedulingPolicy(policy)
	if p == nil {
		return &abi.PermitResponse{}, nil
	}
	resp, _, err := e.host.Permit(ctx, policy, req)
	if err != nil {
		return &abi.PermitResponse{}, e.failedOf(ctx, p, err)
	}
	return resp, nil
}

// PostFilter tells the policies that no node is left for a pod, and returns what they say to that together.
func (e *Engine) PostFilter(ctx context.Context, req *abi.PostFilterRequest) *abi.PostFilterResponse {
	out := &abi.PostFilterResponse{}
	for _, p := range e.table.Load().scheduling[req.Pod.SchedulerName] {
		if !slices.Contains(p.hooks, hookPostFilter) {
			continue
		}
		resp, _, err := e.host.PostFilter(ctx, p.name, req)
		if err != nil {
			e.log.WarnContext(ctx, "a policy has nothing to say about a pod that fits nowhere", "policy", p.name, "namespace", req.Pod.Namespace, "pod", req.Pod.Name, "error", err)
			continue
		}
		if resp.Message != "" {
			if out.Message != "" {
				out.Message += " "
			}
			out.Message += fmt.Sprintf("policy %s: %s", p.name, resp.Message)
		}
		if out.Nominate == "" {
			out.Nominate = resp.Nominate
		}
	}
	return out
}
