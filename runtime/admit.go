package runtime

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// admit checks what a scheduler would have: pods that are bound by hand may not fit.
func (a *Agent) admit(pod *corev1.Pod) *refusal {
	a.mu.Lock()
	node, alloc := a.node, a.alloc
	workers := make([]*worker, 0, len(a.workers))
	for _, w := range a.workers {
		workers = append(workers, w)
	}
	a.mu.Unlock()
	if node != nil {
		for k, v := range pod.Spec.NodeSelector {
			if node.Labels[k] != v {
				return &refusal{reason: "NodeAffinity", message: "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"}
			}
		}
	}
	used := corev1.ResourceList{}
	count := int64(0)
	for _, w := range workers {
		p := w.pod()
		if w.uid == pod.UID || p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded {
			continue
		}
		w.mu.Lock()
		admitted := w.sandboxed
		w.mu.Unlock()
		if !admitted {
			continue
		}
		count++
		for n, q := range podRequests(w.asGiven()) {
			u := used[n]
			u.Add(q)
			used[n] = u
		}
	}
	if max := alloc[corev1.ResourcePods]; count+1 > max.Value() {
		return &refusal{reason: "OutOfpods", message: fmt.Sprintf("Pod was rejected: Node didn't have enough resource: pods, requested: 1, used: %d, capacity: %d", count, max.Value())}
	}
	req := podRequests(pod)
	for _, n := range slices.Sorted(maps.Keys(req)) {
		q, c, u := req[n], alloc[n], used[n]
		if q.IsZero() || a.cfg.Devices != nil && a.cfg.Devices.Manages(n) {
			continue
		}
		free := c.DeepCopy()
		free.Sub(u)
		if q.Cmp(free) > 0 {
			value := func(q resource.Quantity) int64 {
				if n == corev1.ResourceCPU {
					return q.MilliValue()
				}
				return q.Value()
			}
			return &refusal{reason: "OutOf" + string(n), message: fmt.Sprintf("Pod was rejected: Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", n, value(q), value(u), value(c))}
		}
	}
	return nil
}
