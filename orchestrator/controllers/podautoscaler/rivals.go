package podautoscaler

import (
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// hold is what one autoscaler scales: a target, and the pods of a selector.
type hold struct {
	by       reconcile.Key // the autoscaler
	target   types.UID
	selector labels.Selector
}

// holdings know what every autoscaler scales, so that those that share pods are found without asking all of them: by a
// label that a selector demands. Safe for concurrent use.
type holdings struct {
	mu       sync.Mutex // guards the rest
	all      map[types.UID]hold
	byTarget map[types.UID]map[types.UID]bool // autoscalers
	byLabel  map[demand]map[types.UID]bool    // autoscalers
	of       map[string]int                   // how many autoscalers a namespace has
}

// demand is a label with its value in a namespace; the empty one stands for selectors that demand none in particular.
type demand struct{ namespace, key, value string }

func newHoldings() *holdings {
	return &holdings{all: map[types.UID]hold{}, byTarget: map[types.UID]map[types.UID]bool{}, byLabel: map[demand]map[types.UID]bool{}, of: map[string]int{}}
}

// demandOf is a label that every pod of the selector has.
func demandOf(h hold) demand {
	requirements, _ := h.selector.Requirements()
	for _, r := range requirements {
		values := r.ValuesUnsorted()
		if op := r.Operator(); len(values) == 1 && (op == selection.Equals || op == selection.DoubleEquals || op == selection.In) {
			return demand{h.by.Namespace, r.Key(), values[0]}
		}
	}
	return demand{namespace: h.by.Namespace}
}

// put notes what an autoscaler scales, in place of what it did before.
func (x *holdings) put(autoscaler types.UID, h hold) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if was, ok := x.all[autoscaler]; ok && was.target == h.target && was.selector.String() == h.selector.String() {
		return
	}
	x.dropLocked(autoscaler)
	x.all[autoscaler] = h
	x.of[h.by.Namespace]++
	add(x.byTarget, h.target, autoscaler)
	add(x.byLabel, demandOf(h), autoscaler)
}

// drop forgets an autoscaler.
func (x *holdings) drop(autoscaler types.UID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.dropLocked(autoscaler)
}

func (x *holdings) dropLocked(autoscaler types.UID) {
	h, ok := x.all[autoscaler]
	if !ok {
		return
	}
	delete(x.all, autoscaler)
	if x.of[h.by.Namespace]--; x.of[h.by.Namespace] == 0 {
		delete(x.of, h.by.Namespace)
	}
	remove(x.byTarget, h.target, autoscaler)
	remove(x.byLabel, demandOf(h), autoscaler)
}

func add[K comparable](m map[K]map[types.UID]bool, k K, uid types.UID) {
	if m[k] == nil {
		m[k] = map[types.UID]bool{}
	}
	m[k][uid] = true
}

func remove[K comparable](m map[K]map[types.UID]bool, k K, uid types.UID) {
	delete(m[k], uid)
	if len(m[k]) == 0 {
		delete(m, k)
	}
}

// many says whether a namespace has more than a few autoscalers.
func (x *holdings) many(namespace string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.of[namespace] > fewAutoscalers
}

// rivals names the autoscalers that scale the same target or some of the same pods, with the asking one; none if it is
// alone. pods are those of its own selector.
func (x *holdings) rivals(autoscaler types.UID, pods []*corev1.Pod) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	mine, ok := x.all[autoscaler]
	if !ok {
		return nil
	}
	found := map[string]bool{}
	for uid := range x.byTarget[mine.target] {
		if uid != autoscaler {
			found[x.all[uid].by.String()] = true
		}
	}
	for _, p := range pods {
		look := func(d demand) {
			for uid := range x.byLabel[d] {
				if h := x.all[uid]; uid != autoscaler && h.selector.Matches(labels.Set(p.Labels)) {
					found[h.by.String()] = true
				}
			}
		}
		look(demand{namespace: p.Namespace})
		for key, value := range p.Labels {
			look(demand{p.Namespace, key, value})
		}
	}
	if len(found) == 0 {
		return nil
	}
	found[mine.by.String()] = true
	return slices.Sorted(maps.Keys(found))
}
