package scheduler

import (
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

// nomination is a node that is being cleared for a pod.
type nomination struct {
	pod     *framework.Pod
	node    string
	leaving map[types.UID]bool // pods that are ended for it; after a restart they are known by their deletion alone
}

// expect puts the pods that nodes are being cleared for where they are expected, as far as they are at least
// as important as pod: their room is taken. The function that is returned undoes it, and says whether there were any.
func (l *loop) expect(pod *framework.Pod) (restore func() bool) {
	return l.expectBeside([]*framework.Pod{pod}, priority(pod))
}

// expectBeside is expect for several pods: those that nodes are being cleared for, as far as they are at least as important and
// not among them, stand in their places.
func (l *loop) expectBeside(pods []*framework.Pod, least int32) (restore func() bool) {
	if len(l.nominated) == 0 {
		return func() bool { return false }
	}
	among := map[types.UID]bool{}
	for _, p := range pods {
		among[p.UID] = true
	}
	var added []types.UID
	for uid, n := range l.nominated {
		if !among[uid] && priority(n.pod) >= least && l.state.NodeOf(uid) == "" {
			l.stand(n)
			added = append(added, uid)
		}
	}
	return func() bool {
		for _, uid := range added {
			l.state.RemovePod(uid)
		}
		return len(added) > 0
	}
}

// stand puts one nominated pod in its place, with the devices that it would be given there. What those that make way for it
// hold may be among them: that is nobody else's any more.
func (l *loop) stand(n nomination) {
	reserve := func() (*framework.Pod, error) {
		annotations, err := l.decider.profile(n.pod.Spec.SchedulerName).reserve(n.pod, l.state.Node(n.node))
		return n.pod.WithAnnotations(annotations), err
	}
	if node := l.state.Node(n.node); node == nil || node.Node == nil {
		l.state.SetPod(n.pod, n.node)
		return
	}
	there, err := guarded(reserve)
	if err != nil {
		var leaving []*framework.Pod
		for _, p := range l.state.Node(n.node).Pods {
			if n.leaving[p.UID] || p.DeletionTimestamp != nil && priority(p) < priority(n.pod) {
				leaving = append(leaving, p)
			}
		}
		for _, p := range leaving {
			l.state.RemovePod(p.UID)
		}
		if there, err = guarded(reserve); err != nil { // it won't fit there after all; what it needs is counted all the same
			there = n.pod
		}
		for _, p := range leaving {
			l.state.SetPod(p, n.node)
		}
	}
	l.state.SetPod(there, n.node)
}
