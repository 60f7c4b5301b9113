package orchestrator

import (
	"context"
	"errors"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/pintle/pintle/orchestrator/controllers/nodeautoscaler"
	"github.com/pintle/pintle/orchestrator/scheduler"
	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

// NodeProvider makes nodes and takes them back: see package nodeautoscaler.
type NodeProvider = nodeautoscaler.Provider

// NodeGroup is nodes of a NodeProvider that are alike.
type NodeGroup = nodeautoscaler.Group

// NodeScaling is when nodes are asked for and given back.
type NodeScaling = nodeautoscaler.Options

// NodeGroupLabel is on every node that a NodeProvider makes.
const NodeGroupLabel = nodeautoscaler.GroupLabel

// simulator is the scheduler's decision for the node autoscaler.
type simulator struct{ d *scheduler.Decider }

func newSimulator() nodeautoscaler.Simulator { return simulator{scheduler.NewDecider()} }

func (s simulator) SetNamespace(name string, labels map[string]string) {
	s.d.SetNamespace(name, labels)
}
func (s simulator) SetNode(node *corev1.Node) { s.d.SetNode(node) }
func (s simulator) RemoveNode(name string)    { s.d.RemoveNode(name) }
func (s simulator) SetPod(pod *corev1.Pod)    { s.d.SetPod(pod) }
func (s simulator) RemovePod(pod *corev1.Pod) { s.d.RemovePod(pod.UID) }

func (s simulator) SetStorage(o runtime.Object) { s.d.SetStorage(o) }

func (s simulator) Place(ctx context.Context, pod *corev1.Pod) (node string, reasons []string) {
	p := framework.NewPod(pod)
	to, err := s.d.Decide(ctx, p)
	var unfit *scheduler.FitError
	switch {
	case errors.As(err, &unfit):
		return "", slices.Sorted(maps.Keys(unfit.Reasons))
	case err != nil:
		return "", []string{err.Error()}
	}
	s.d.Assume(p, to)
	return to.Node, nil
}
