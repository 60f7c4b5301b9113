package scheduler

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

// decide chooses the node for a pod: every plugin's filter, then the policy's, then the best sum of
// weighted scores; of equal nodes the one with the fewest pods, then the first by name. Without a
// node it returns a *FitError. It changes nothing.
func decide(ctx context.Context, plugins []framework.Plugin, policy Policy, pod *framework.Pod, s *framework.State) (string, error) {
	nodes := s.Nodes()
	fit := &FitError{Nodes: len(nodes), Reasons: map[string]int{}, Plugins: map[string]bool{}}
	prepared := make([]framework.Prepared, len(plugins))
	for i, plugin := range plugins {
		prepared[i] = plugin.Prepare(pod, s)
	}
	var feasible []*framework.Node
nodes:
	for _, n := range nodes {
		for i := range prepared {
			if prepared[i].Filter == nil {
				continue
			}
			if reasons := prepared[i].Filter(n); len(reasons) > 0 {
				for _, reason := range reasons {
					fit.Reasons[reason]++
				}
				fit.Plugins[plugins[i].Name()] = true
				continue nodes
			}
		}
		feasible = append(feasible, n)
	}
	feasible, err := filterByPolicy(ctx, policy, pod, feasible, fit)
	if err != nil {
		return "", err
	}
	if len(feasible) == 0 {
		return "", fit
	}
	totals, err := score(ctx, prepared, policy, pod, feasible)
	if err != nil {
		return "", err
	}
	best := 0
	for i := range feasible {
		if totals[i] > totals[best] || (totals[i] == totals[best] && len(feasible[i].Pods) < len(feasible[best].Pods)) {
			best = i
		}
	}
	return feasible[best].Name, nil
}

func filterByPolicy(ctx context.Context, policy Policy, pod *framework.Pod, nodes []*framework.Node, fit *FitError) ([]*framework.Node, error) {
	if policy == nil || len(nodes) == 0 {
		return nodes, nil
	}
	reasons, err := policy.Filter(ctx, pod.Pod, apiNodes(nodes))
	if err == nil && len(reasons) != len(nodes) {
		err = fmt.Errorf("it answered for %d nodes of %d", len(reasons), len(nodes))
	}
	if err != nil {
		return nil, fmt.Errorf("filter nodes by policy: %w", err)
	}
	kept := nodes[:0]
	for i, reason := range reasons {
		if reason == "" {
			kept = append(kept, nodes[i])
		} else {
			fit.Reasons[reason]++
		}
	}
	return kept, nil
}

func score(ctx context.Context, prepared []framework.Prepared, policy Policy, pod *framework.Pod, nodes []*framework.Node) ([]int64, error) {
	totals := make([]int64, len(nodes))
	if len(nodes) == 1 {
		return totals, nil
	}
	scores := make([]int64, len(nodes))
	for i := range prepared {
		if prepared[i].Score == nil {
			continue
		}
		for j, n := range nodes {
			scores[j] = prepared[i].Score(n)
		}
		if prepared[i].Normalize != nil {
			prepared[i].Normalize(scores)
		}
		for j := range totals {
			totals[j] += scores[j] * prepared[i].Weight
		}
	}
	if policy == nil {
		return totals, nil
	}
	scores, err := policy.Score(ctx, pod.Pod, apiNodes(nodes))
	if err == nil && len(scores) != len(nodes) {
		err = fmt.Errorf("it answered for %d nodes of %d", len(scores), len(nodes))
	}
	if err != nil {
		return nil, fmt.Errorf("score nodes by policy: %w", err)
	}
	for j := range totals {
		totals[j] += min(max(scores[j], 0), framework.MaxScore)
	}
	return totals, nil
}

func apiNodes(nodes []*framework.Node) []*corev1.Node {
	out := make([]*corev1.Node, len(nodes))
	for i, n := range nodes {
		out[i] = n.Node
	}
	return out
}
