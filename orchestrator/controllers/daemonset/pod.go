package daemonset

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// tolerations are those that every daemon pod gets, as documented: it stays on a node that is in trouble.
func tolerations(hostNetwork bool) []corev1.Toleration {
	out := []corev1.Toleration{
		{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute},
		{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute},
		{Key: corev1.TaintNodeDiskPressure, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
		{Key: corev1.TaintNodeMemoryPressure, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
		{Key: corev1.TaintNodePIDPressure, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
		{Key: corev1.TaintNodeUnschedulable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
	}
	if hostNetwork {
		out = append(out, corev1.Toleration{Key: corev1.TaintNodeNetworkUnavailable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule})
	}
	return out
}

// tolerating is the spec with the tolerations of every daemon pod, in the place of the template's for the same taint.
func tolerating(s corev1.PodSpec) corev1.PodSpec {
	s.Tolerations = slices.Clone(s.Tolerations)
	for _, t := range tolerations(s.HostNetwork) {
		s.Tolerations = slices.DeleteFunc(s.Tolerations, func(have corev1.Toleration) bool {
			return have.Key == t.Key && have.Operator == t.Operator && have.Effect == t.Effect && have.Value == t.Value
		})
		s.Tolerations = append(s.Tolerations, t)
	}
	return s
}

// newPod is the pod of a node, of the set's template, whose revision has the hash. Whether the template fits the node has
// been decided: the scheduler has the one node to choose from.
func newPod(set *appsv1.DaemonSet, hash, node string) *corev1.Pod {
	t := set.Spec.Template.DeepCopy()
	p := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, Spec: tolerating(t.Spec)}
	p.Namespace, p.GenerateName = set.Namespace, set.Name+"-"
	p.Labels, p.Annotations, p.Finalizers = t.Labels, t.Annotations, t.Finalizers
	if p.Labels == nil {
		p.Labels = map[string]string{}
	}
	p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] = hash
	p.OwnerReferences = []metav1.OwnerReference{reconcile.ControllerRef(set, kind())}
	if p.Spec.Affinity == nil {
		p.Spec.Affinity = &corev1.Affinity{}
	}
	if p.Spec.Affinity.NodeAffinity == nil {
		p.Spec.Affinity.NodeAffinity = &corev1.NodeAffinity{}
	}
	p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
		MatchFields: []corev1.NodeSelectorRequirement{{Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}}}}}
	return p
}

// nodeOf is the node that the pod is on, or, before it is bound, that it is for.
func nodeOf(p *corev1.Pod) string {
	if p.Spec.NodeName != "" {
		return p.Spec.NodeName
	}
	a := p.Spec.Affinity
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return ""
	}
	for _, term := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		for _, f := range term.MatchFields {
			if f.Key == metav1.ObjectNameField && f.Operator == corev1.NodeSelectorOpIn && len(f.Values) == 1 {
				return f.Values[0]
			}
		}
	}
	return ""
}

// fitter decides on which nodes the pods of a template belong.
type fitter struct {
	spec     corev1.PodSpec
	affinity nodeaffinity.RequiredNodeAffinity
}

func newFitter(set *appsv1.DaemonSet) *fitter {
	s := tolerating(set.Spec.Template.Spec)
	return &fitter{spec: s, affinity: nodeaffinity.GetRequiredNodeAffinity(&corev1.Pod{Spec: s})}
}

// fits reports whether a pod should run on the node, and whether one that runs there may stay: an untolerated NoSchedule
// taint keeps new ones away only.
func (f *fitter) fits(n *corev1.Node) (run, stay bool) {
	if f.spec.NodeName != "" && f.spec.NodeName != n.Name {
		return false, false
	}
	if ok, err := f.affinity.Match(n); err != nil || !ok {
		return false, false
	}
	run, stay = true, true
	for i := range n.Spec.Taints {
		t := &n.Spec.Taints[i]
		if t.Effect == corev1.TaintEffectPreferNoSchedule || helpers.TolerationsTolerateTaint(klog.Background(), f.spec.Tolerations, t, false) {
			continue
		}
		run = false
		stay = stay && t.Effect != corev1.TaintEffectNoExecute
	}
	return run, stay
}
