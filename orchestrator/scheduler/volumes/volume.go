package volumes

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// Volume is a PersistentVolume with what is derived from it once.
type Volume struct {
	*corev1.PersistentVolume
	hosts    []string                   // of a volume of these hosts alone
	selector *nodeaffinity.NodeSelector // where it can be reached, if that takes more to say; both nil: everywhere
	nowhere  bool                       // its selector is none
}

func newVolume(v *corev1.PersistentVolume) *Volume {
	out := &Volume{PersistentVolume: v}
	if v.Spec.NodeAffinity == nil || v.Spec.NodeAffinity.Required == nil {
		return out
	}
	required := v.Spec.NodeAffinity.Required
	if terms := required.NodeSelectorTerms; len(terms) == 1 && len(terms[0].MatchFields) == 0 && len(terms[0].MatchExpressions) == 1 {
		if e := terms[0].MatchExpressions[0]; e.Key == corev1.LabelHostname && e.Operator == corev1.NodeSelectorOpIn {
			out.hosts = e.Values
			return out
		}
	}
	var err error
	if out.selector, err = nodeaffinity.NewNodeSelector(required); err != nil {
		out.nowhere = true
	}
	return out
}

// Reaches says whether the volume can be used on the node.
func (v *Volume) Reaches(n *corev1.Node) bool {
	switch {
	case v.nowhere || n == nil:
		return false
	case v.hosts != nil:
		host, ok := n.Labels[corev1.LabelHostname]
		return ok && slices.Contains(v.hosts, host)
	}
	return v.selector == nil || v.selector.Match(n)
}

// zoneLabels are those of a volume that its node must have, too, and what they were called before.
func zoneLabels() [4]string {
	return [4]string{corev1.LabelTopologyZone, corev1.LabelTopologyRegion, corev1.LabelFailureDomainBetaZone, corev1.LabelFailureDomainBetaRegion}
}

// SameZone says whether the node is in the volume's zone and region: one of several, where the label names several.
func (v *Volume) SameZone(n *corev1.Node) bool {
	for _, label := range zoneLabels() {
		want, ok := v.Labels[label]
		if !ok {
			continue
		}
		have, ok := n.Labels[label]
		if !ok {
			for i, old := range []string{corev1.LabelFailureDomainBetaZone, corev1.LabelFailureDomainBetaRegion} {
				if now := [2]string{corev1.LabelTopologyZone, corev1.LabelTopologyRegion}[i]; label == now {
					have, ok = n.Labels[old]
				} else if label == old {
					have, ok = n.Labels[now]
				}
				if ok {
					break
				}
			}
		}
		if !ok || !sets.New(strings.Split(want, "__")...).Has(have) {
			return false
		}
	}
	return true
}
