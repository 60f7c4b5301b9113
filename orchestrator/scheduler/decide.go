package scheduler

import (
	"context"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

// decide chooses the node for a pod: every plugin's filter, then the policies', then the best sum of
// weighted scores; of equal nodes the one with the fewest pods, then the first by name. Without a
// node it returns a *FitError. It changes nothing.
func decide(ctx context.Context, plugins []framework.Plugin, policies *policyView, pod *framework.Pod, s *framework.State) (string, error) {
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
	feasible, said, err := filterByPolicy(ctx, policies, pod, feasible, s, fit)
	if err != nil {
		return "", err
	}
	if len(feasible) == 0 {
		return "", fit
	}
	totals := score(prepared, feasible, said)
	best := 0
	for i := range feasible {
		if totals[i] > totals[best] || (totals[i] == totals[best] && len(feasible[i].Pods) < len(feasible[best].Pods)) {
			best = i
		}
	}
	return feasible[best].Name, nil
}

// filterByPolicy asks the policies about the nodes that are left, and returns those that they leave, with what they say
// of each; nil if they say nothing.
func filterByPolicy(ctx context.Context, policies *policyView, pod *framework.Pod, nodes []*framework.Node, s *framework.State, fit *FitError) ([]*framework.Node, []verdict, error) {
	said, err := policies.ask(ctx, pod, nodes, s)
	if err != nil || said == nil {
		return nodes, nil, err
	}
	kept := 0
	for i, v := range said {
		if v.reason != "" {
			fit.Reasons[v.reason]++
			fit.Plugins[policyPlugin] = true
			continue
		}
		nodes[kept], said[kept] = nodes[i], v
		kept++
	}
	return nodes[:kept], said[:kept], nil
}

func score(prepared []framework.Prepared, nodes []*framework.Node, said []verdict) []int64 {
	totals := make([]int64, len(nodes))
	if len(nodes) == 1 {
		return totals
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
	for j := range said {
		totals[j] += said[j].score
	}
	return totals
}
