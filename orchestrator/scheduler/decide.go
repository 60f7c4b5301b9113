package scheduler

import (
	"context"
	"maps"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

// decideAndReserve is decide, and what the profile's Reservers choose on the node. Where one of them refuses it, the next
// best node is tried.
func (e *engine) decideAndReserve(ctx context.Context, q question) (Decision, error) {
	for {
		if e.torn { // a plugin has panicked: what was kept may be half of it
			clear(e.views)
			clear(e.columns)
		}
		e.torn = true
		node, err := e.decide(ctx, &q)
		e.torn = false
		if err != nil {
			return Decision{}, err
		}
		annotations, err := q.profile.reserve(q.pod, q.s.Node(node))
		if err == nil {
			return Decision{Node: node, Annotations: annotations}, nil
		}
		if q.refused == nil {
			q.refused = map[string]string{}
		}
		q.refused[node] = err.Error()
	}
}

// reserve asks the profile's Reservers; annotations of later ones win, who see those of the earlier ones on the pod.
func (p *Profile) reserve(pod *framework.Pod, n *framework.Node) (annotations map[string]string, err error) {
	for _, r := range p.reservers {
		pod := pod.WithAnnotations(annotations)
		add, err := r.Reserve(pod, n)
		if err != nil {
			return nil, err
		}
		if annotations == nil {
			annotations = add
		} else {
			maps.Copy(annotations, add)
		}
	}
	return annotations, nil
}

// prepare is what one of the profile's plugins says, with the profile's weight.
func (p *Profile) prepare(i int, pod *framework.Pod, s *framework.State) framework.Prepared {
	out := p.Plugins[i].Prepare(pod, s)
	if len(p.Weights) > 0 {
		if weight, ok := p.Weights[p.Plugins[i].Name()]; ok {
			if out.Weight = weight; weight == 0 {
				out.Score, out.ScoreRows = nil, nil
			}
		}
	}
	return out
}
