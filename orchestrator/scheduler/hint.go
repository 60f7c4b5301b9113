package scheduler

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
	"github.com/pintle/pintle/orchestrator/scheduler/plugins"
)

// hint is a change after which a pod that fitted nowhere may fit.
type hint struct {
	node  *framework.Node // that has come, changed, or lost a pod; nil: none
	other *framework.Pod  // that has come to a node or left it; nil: the node itself has changed
	came  bool            // other has come, or is another to those near it; it takes room and gives none
}

// helps says whether a pod, which these plugins of its profile have refused a node, may fit now. A node helps only if none of
// the plugins that look at it alone still refuses it, and it would have room if pods that are less important were gone.
func (h hint) helps(profile *Profile, refused map[string]bool, pod *framework.Pod, s *framework.State) bool {
	if refused[policyPlugin] && h.other != nil {
		return true // a policy may look at any pod
	}
	if h.other == nil {
		if refused["InterPodAffinity"] || refused["PodTopologySpread"] {
			return true // another domain, or a domain that is no longer one, counts on all nodes
		}
	} else {
		if refused["PodTopologySpread"] && h.other.Namespace == pod.Namespace {
			return true
		}
		if refused["InterPodAffinity"] && h.affine(pod, s) {
			return true
		}
		if refused["VolumeRestrictions"] && !h.came && plugins.SharesClaim(pod, h.other) {
			return true // the claim is free on every node
		}
	}
	return !h.came && h.node != nil && h.node.Node != nil && helpful(profile, pod, h.node, s)
}

// affine says whether other is, or was, what the pod's affinity waits for or stays away from, or stayed away from it.
func (h hint) affine(pod *framework.Pod, s *framework.State) bool {
	mean := func(terms []framework.Term, other *framework.Pod) bool {
		namespace := s.NamespaceLabels(other.Namespace)
		for i := range terms {
			if terms[i].Matches(other.Pod, namespace) {
				return true
			}
		}
		return false
	}
	if h.came {
		return mean(pod.Affinity.Required, h.other)
	}
	return mean(pod.Affinity.RequiredAnti, h.other) || mean(h.other.Affinity.RequiredAnti, pod)
}

// helpful says whether the pod may come to fit on the node by the end of other pods, if at all.
func helpful(profile *Profile, pod *framework.Pod, n *framework.Node, s *framework.State) bool {
	for i, plugin := range profile.Plugins {
		if h, ok := plugin.(framework.Hinter); ok {
			if !h.Helps(pod, n) {
				return false
			}
			continue
		}
		if p := profile.prepare(i, pod, s); p.Lasting && p.Filter != nil && len(p.Filter(n)) > 0 {
			return false
		}
	}
	return true
}

// wake has the pods tried again that a change may help.
func (l *loop) wake(h hint) {
	l.queue.wakeEach(func(p *pending) bool {
		helps, err := guarded(func() (bool, error) {
			return p.refused == nil || h.helps(l.decider.profile(p.pod.Spec.SchedulerName), p.refused, p.pod, l.state), nil
		})
		return helps || err != nil // a plugin that panics will be heard of by the decision
	})
}

// left has the pods tried again that the end of another one may help, which has been taken from the state already.
func (l *loop) left(pod *framework.Pod, node string) {
	l.wake(hint{node: l.state.Node(node), other: pod})
}

// nodeMayHelp says whether a pod that fitted nowhere may fit now that the node has come or changed. A
// heartbeat is no reason to try again.
func nodeMayHelp(before, now *corev1.Node) bool {
	return before == nil || before.Spec.Unschedulable && !now.Spec.Unschedulable ||
		!apiequality.Semantic.DeepEqual(before.Status.Allocatable, now.Status.Allocatable) ||
		!maps.Equal(before.Labels, now.Labels) || !maps.Equal(before.Annotations, now.Annotations) ||
		!apiequality.Semantic.DeepEqual(before.Spec.Taints, now.Spec.Taints)
}
