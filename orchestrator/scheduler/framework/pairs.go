package framework

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"
)

// A pair is something that a pod has: a label with its value, or its controller. What selects pods mostly names pairs of which
// every pod that it selects has one, so that it's found by the pod's pairs, and the pods by its own.

func labelPair(key, value string) string { return key + "\x00" + value }

// OwnerPair is the pair of a controller's pods.
func OwnerPair(owner types.UID) string { return "\x00" + string(owner) }

func pairsOf(pod *corev1.Pod) []string {
	out := make([]string, 0, len(pod.Labels)+1)
	for key, value := range pod.Labels {
		out = append(out, labelPair(key, value))
	}
	if owner := metav1.GetControllerOfNoCopy(pod); owner != nil {
		out = append(out, OwnerPair(owner.UID))
	}
	return out
}

// PairsOf are pairs of one key of which whatever the selector selects has one; nil if it names none.
func PairsOf(s labels.Selector) (out []string) {
	requirements, selectable := s.Requirements()
	if !selectable {
		return nil
	}
	for i := range requirements {
		r := &requirements[i]
		switch r.Operator() {
		case selection.In, selection.Equals, selection.DoubleEquals:
		default:
			continue
		}
		values := r.ValuesUnsorted()
		if out != nil && len(values) >= len(out) {
			continue
		}
		out = make([]string, len(values))
		for j, value := range values {
			out[j] = labelPair(r.Key(), value)
		}
	}
	return out
}

// byPair finds things by pairs; loose are those that name none.
type byPair[T comparable] struct {
	pairs map[string][]T
	loose []T
}

func (x *byPair[T]) add(pairs []string, item T) {
	if len(pairs) == 0 {
		x.loose = append(x.loose, item)
		return
	}
	if x.pairs == nil {
		x.pairs = map[string][]T{}
	}
	for _, pair := range pairs {
		x.pairs[pair] = append(x.pairs[pair], item)
	}
}

func (x *byPair[T]) remove(pairs []string, item T) {
	without := func(all []T) []T {
		if i := slices.Index(all, item); i >= 0 {
			all[i] = all[len(all)-1]
			clear(all[len(all)-1:])
			all = all[:len(all)-1]
		}
		return all
	}
	if len(pairs) == 0 {
		x.loose = without(x.loose)
		return
	}
	for _, pair := range pairs {
		if x.pairs[pair] = without(x.pairs[pair]); len(x.pairs[pair]) == 0 {
			delete(x.pairs, pair)
		}
	}
}

// of calls visit for everything that may select a pod with these pairs. Pairs of one key: nothing comes twice.
func (x *byPair[T]) of(pairs []string, visit func(T)) {
	for _, item := range x.loose {
		visit(item)
	}
	for _, pair := range pairs {
		for _, item := range x.pairs[pair] {
			visit(item)
		}
	}
}
