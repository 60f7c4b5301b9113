package plugins

import (
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

// NodeAffinity honours nodeSelector and nodeAffinity.
type NodeAffinity struct{}

// Name implements framework.Plugin.
func (NodeAffinity) Name() string { return "NodeAffinity" }

// Prepare implements framework.Plugin.
func (NodeAffinity) Prepare(pod *framework.Pod, _ *framework.State) framework.Prepared {
	p := framework.Prepared{Lasting: true, Local: true, Key: affinityKey(pod)}
	if len(pod.Spec.NodeSelector) > 0 || (pod.Spec.Affinity != nil && pod.Spec.Affinity.NodeAffinity != nil) {
		matches := matchesNode(pod)
		p.Filter = func(n *framework.Node) []string {
			if !matches(n) {
				return []string{"node(s) didn't match Pod's node affinity/selector"}
			}
			return nil
		}
	}
	if pod.Spec.Affinity == nil || pod.Spec.Affinity.NodeAffinity == nil {
		return p
	}
	terms, err := nodeaffinity.NewPreferredSchedulingTerms(pod.Spec.Affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	if err != nil || terms == nil {
		return p
	}
	p.Score = func(n *framework.Node) int64 { return terms.Score(n.Node) }
	p.Scale = framework.ToMost
	p.Weight = 2
	return p
}

// affinityKey is the same for pods with the same nodeSelector and nodeAffinity; "" for those without.
func affinityKey(pod *framework.Pod) string {
	out := ""
	if a := pod.Spec.Affinity; a != nil && a.NodeAffinity != nil {
		if encoded, err := a.NodeAffinity.Marshal(); err == nil { // an API object can always be encoded
			out = "a" + string(encoded)
		}
	}
	if len(pod.Spec.NodeSelector) > 0 {
		out += "s" + labels.Set(pod.Spec.NodeSelector).String()
	}
	return out
}

// matchesNode is the pod's nodeSelector and required node affinity; topology spread asks it too.
func matchesNode(pod *framework.Pod) func(*framework.Node) bool {
	required := nodeaffinity.GetRequiredNodeAffinity(pod.Pod)
	return func(n *framework.Node) bool {
		ok, err := required.Match(n.Node)
		return ok && err == nil
	}
}
