package framework

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/sets"
)

// Affinity is a pod's affinity to other pods, its selectors parsed.
type Affinity struct {
	Required, RequiredAnti   []Term
	Preferred, PreferredAnti []Term
}

// Term is one pod affinity term.
type Term struct {
	TopologyKey string
	Weight      int64  // of preferred terms; 1 otherwise
	Key         string // the same for terms that mean the same pods by the same topology key

	selector   labels.Selector
	namespaces sets.Set[string]
	nsSelector labels.Selector
}

// Pairs are those of which every pod that the term means has one: see PairsOf.
func (t *Term) Pairs() []string { return PairsOf(t.selector) }

// Matches says whether the term means pod, which lives in a namespace with these labels.
func (t *Term) Matches(pod *corev1.Pod, namespaceLabels labels.Set) bool {
	if !t.namespaces.Has(pod.Namespace) && !t.nsSelector.Matches(namespaceLabels) {
		return false
	}
	return t.selector.Matches(labels.Set(pod.Labels))
}

func affinityOf(pod *corev1.Pod) Affinity {
	var a Affinity
	if pod.Spec.Affinity == nil {
		return a
	}
	if aff := pod.Spec.Affinity.PodAffinity; aff != nil {
		a.Required = required(pod, aff.RequiredDuringSchedulingIgnoredDuringExecution)
		a.Preferred = preferred(pod, aff.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if anti := pod.Spec.Affinity.PodAntiAffinity; anti != nil {
		a.RequiredAnti = required(pod, anti.RequiredDuringSchedulingIgnoredDuringExecution)
		a.PreferredAnti = preferred(pod, anti.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	return a
}

func required(pod *corev1.Pod, terms []corev1.PodAffinityTerm) []Term {
	var out []Term
	for i := range terms {
		out = append(out, newTerm(pod, &terms[i], 1))
	}
	return out
}

func preferred(pod *corev1.Pod, terms []corev1.WeightedPodAffinityTerm) []Term {
	var out []Term
	for i := range terms {
		out = append(out, newTerm(pod, &terms[i].PodAffinityTerm, int64(terms[i].Weight)))
	}
	return out
}

func newTerm(pod *corev1.Pod, term *corev1.PodAffinityTerm, weight int64) Term {
	t := Term{TopologyKey: term.TopologyKey, Weight: weight, nsSelector: labels.Nothing(), namespaces: sets.New(term.Namespaces...)}
	t.selector = Selector(pod, term.LabelSelector, term.MatchLabelKeys, term.MismatchLabelKeys)
	if term.NamespaceSelector != nil {
		t.nsSelector = parse(term.NamespaceSelector)
	}
	// No namespaces and no selector mean the pod's own; an empty selector means all.
	if len(term.Namespaces) == 0 && term.NamespaceSelector == nil {
		t.namespaces.Insert(pod.Namespace)
	}
	b := shaper{}
	b = b.text(t.TopologyKey)
	b = b.text(SelectorKey(t.selector))
	b = b.text(SelectorKey(t.nsSelector))
	for _, namespace := range sets.List(t.namespaces) {
		b = b.text(namespace)
	}
	t.Key = string(b)
	return t
}

// SelectorKey is the same for selectors that select the same by the same requirements.
func SelectorKey(s labels.Selector) string {
	switch key := s.String(); {
	case key != "":
		return key
	case s.Empty():
		return "*"
	}
	return ""
}

// Selector parses a label selector and adds the pod's own values of the match and mismatch keys. A
// nil selector, or one that can't be parsed (validation refuses those), selects nothing.
func Selector(pod *corev1.Pod, s *metav1.LabelSelector, match, mismatch []string) labels.Selector {
	out := parse(s)
	for _, key := range match {
		out = require(out, pod, key, selection.In)
	}
	for _, key := range mismatch {
		out = require(out, pod, key, selection.NotIn)
	}
	return out
}

func require(s labels.Selector, pod *corev1.Pod, key string, op selection.Operator) labels.Selector {
	value, ok := pod.Labels[key]
	if !ok {
		return s
	}
	r, err := labels.NewRequirement(key, op, []string{value})
	if err != nil {
		return s
	}
	return s.Add(*r)
}

func parse(s *metav1.LabelSelector) labels.Selector {
	out, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return labels.Nothing()
	}
	return out
}
