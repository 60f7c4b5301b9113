package podautoscaler

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

const (
	fewAutoscalers = 8           // of a namespace: so many list its pods for themselves
	sharedFor      = time.Second // how old a list of pods may be that more of them share
)

// podLists finds the pods of selectors. Where a namespace has many autoscalers they share one list of its pods, by
// label: with thousands of both, a list for each would be quadratic. Safe for concurrent use.
type podLists struct {
	mu     sync.Mutex // guards the rest; held while a list is made, so that it is made once
	shared map[string]podList
}

// podList are the pods of a namespace at one time. It isn't changed.
type podList struct {
	at      time.Time
	all     []*corev1.Pod
	byLabel map[demand][]*corev1.Pod
}

// find returns the pods that an autoscaler's selector matches. many says that its namespace has many autoscalers.
func (l *podLists) find(ctx context.Context, env reconcile.Env, h hold, many bool) ([]*corev1.Pod, error) {
	namespace := h.by.Namespace
	if !many {
		return reconcile.List[*corev1.Pod](ctx, env.Client, reconcile.Pods(), namespace, h.selector)
	}
	list, err := l.list(ctx, env, namespace)
	if err != nil {
		return nil, err
	}
	candidates := list.all
	if d := demandOf(h); d.key != "" {
		candidates = list.byLabel[d]
	}
	var out []*corev1.Pod
	for _, p := range candidates {
		if h.selector.Matches(labels.Set(p.Labels)) {
			out = append(out, p)
		}
	}
	return out, nil
}

func (l *podLists) list(ctx context.Context, env reconcile.Env, namespace string) (podList, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := env.Clock.Now()
	if have, ok := l.shared[namespace]; ok && now.Sub(have.at) < sharedFor {
		return have, nil
	}
	for other, list := range l.shared { // what nobody shares any more is dropped
		if now.Sub(list.at) >= sharedFor {
			delete(l.shared, other)
		}
	}
	all, err := reconcile.List[*corev1.Pod](ctx, env.Client, reconcile.Pods(), namespace, nil)
	if err != nil {
		return podList{}, err
	}
	made := podList{at: now, all: all, byLabel: make(map[demand][]*corev1.Pod, len(all))}
	for _, p := range all {
		for key, value := range p.Labels {
			d := demand{namespace, key, value}
			made.byLabel[d] = append(made.byLabel[d], p)
		}
	}
	l.shared[namespace] = made
	return made, nil
}
