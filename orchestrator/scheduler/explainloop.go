package scheduler

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

// explainRequest asks the loop, which owns the state, about a pod.
type explainRequest struct {
	pod    *corev1.Pod
	answer chan *Explanation
}

// Explain makes the decision on a pod as it would be made now, with what every plugin says of every node, and records
// nothing. A pod that has a node is looked at as if it had none. It may be called from any goroutine while Run runs; it
// takes the decisions' time, some milliseconds with thousands of nodes. The error is the Client's where there is no such
// pod, or ctx's.
func (s *Scheduler) Explain(ctx context.Context, namespace, name string) (*Explanation, error) {
	object, err := s.cfg.Client.Get(ctx, podsResource, namespace, name)
	if err != nil {
		return nil, err
	}
	request := explainRequest{pod: object.(*corev1.Pod), answer: make(chan *Explanation, 1)}
	if !send(ctx, s.explains, request) {
		return nil, ctx.Err()
	}
	select {
	case answer := <-request.answer:
		return answer, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// explain answers one request.
func (l *loop) explain(ctx context.Context, r explainRequest) {
	object := *r.pod
	object.Spec.NodeName = ""
	pod := framework.NewPod(l.ranked(&object))
	there, node := l.state.Pod(pod.UID), l.state.NodeOf(pod.UID)
	l.state.RemovePod(pod.UID)
	restore := l.expect(pod)
	out, err := guarded(func() (*Explanation, error) { return l.decider.Explain(ctx, pod), nil })
	restore()
	if there != nil {
		l.state.SetPod(there, node)
	}
	if err != nil { // a plugin's panic
		out = &Explanation{Pod: pod.Namespace + "/" + pod.Name, Error: err.Error()}
	}
	l.explainTogether(ctx, pod, there != nil, out)
	r.answer <- out
}
