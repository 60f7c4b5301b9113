// Package tainteviction deletes pods from nodes with NoExecute taints that they don't tolerate, or
// no longer: tolerationSeconds count from the taint's stored time, so a restart doesn't extend them.
package tainteviction

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// Name is the controller's name in events and metrics.
const Name = "taint-eviction-controller"

func tolerates(t *corev1.Toleration, taint *corev1.Taint) bool {
	if t.Effect != "" && t.Effect != taint.Effect || t.Key != "" && t.Key != taint.Key || t.Key == "" && t.Operator != corev1.TolerationOpExists {
		return false
	}
	return t.Operator == corev1.TolerationOpExists || t.Value == taint.Value
}

// decide tells whether the pod must go, and in how long (0: now).
func decide(p *corev1.Pod, taints []corev1.Taint, now time.Time) (evict bool, in time.Duration) {
	for i := range taints {
		taint := &taints[i]
		if taint.Effect != corev1.TaintEffectNoExecute {
			continue
		}
		tolerated, limited := false, false
		var shortest int64
		for j := range p.Spec.Tolerations {
			t := &p.Spec.Tolerations[j]
			if !tolerates(t, taint) {
				continue
			}
			tolerated = true
			if t.TolerationSeconds != nil && (!limited || *t.TolerationSeconds < shortest) {
				limited, shortest = true, max(0, *t.TolerationSeconds)
			}
		}
		if !tolerated {
			return true, 0
		}
		if limited {
			from := now
			if taint.TimeAdded != nil {
				from = taint.TimeAdded.Time
			}
			left := max(0, from.Add(time.Duration(shortest)*time.Second).Sub(now))
			if !evict || left < in {
				evict, in = true, left
			}
		}
	}
	return evict, in
}

type shell struct {
	env    reconcile.Env
	events *reconcile.Recorder
}

// New makes the controller.
func New(env reconcile.Env, events *reconcile.Recorder) *reconcile.Controller {
	c := &shell{env.WithDefaults(), events}
	return &reconcile.Controller{Name: Name, Workers: 2, Reconcile: c.reconcile, Watches: []reconcile.Watch{
		{Resource: reconcile.Pods()},
		{Resource: reconcile.Nodes(), Map: func(ctx context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
			n, ok := e.Object.(*corev1.Node)
			if !ok || len(n.Spec.Taints) == 0 {
				return nil
			}
			pods, err := reconcile.List[*corev1.Pod](ctx, c.env.Client, reconcile.Pods(), "", nil)
			if err != nil {
				return err
			}
			for _, p := range pods {
				if p.Spec.NodeName == n.Name {
					enqueue(reconcile.KeyOf(p))
				}
			}
			return nil
		}},
	}}
}

func (c *shell) reconcile(ctx context.Context, k reconcile.Key) (time.Duration, error) {
	cl := c.env.Client
	p, err := reconcile.Get[*corev1.Pod](ctx, cl, reconcile.Pods(), k.Namespace, k.Name)
	if err != nil || p == nil || p.Spec.NodeName == "" || p.DeletionTimestamp != nil {
		return 0, err
	}
	n, err := reconcile.Get[*corev1.Node](ctx, cl, reconcile.Nodes(), "", p.Spec.NodeName)
	if err != nil || n == nil {
		return 0, err
	}
	now := c.env.Clock.Now()
	evict, in := decide(p, n.Spec.Taints, now)
	if !evict || in > 0 {
		return in, nil
	}
	m := p.DeepCopy()
	// Set, not added: an earlier attempt may have got this far.
	m.Status.Conditions = slices.DeleteFunc(m.Status.Conditions, func(x corev1.PodCondition) bool { return x.Type == corev1.DisruptionTarget })
	m.Status.Conditions = append(m.Status.Conditions, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue,
		Reason: "DeletionByTaintManager", Message: "Taint manager: deleting due to NoExecute taint", LastTransitionTime: metav1.NewTime(now)})
	if _, err := cl.Update(ctx, reconcile.Pods(), "status", m); err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("mark pod: %w", err)
	}
	uid := p.UID
	if err := cl.Delete(ctx, reconcile.Pods(), p.Namespace, p.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}); err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("evict pod: %w", err)
	}
	c.events.Emit(Name, p, corev1.SchemeGroupVersion.WithKind("Pod"), corev1.EventTypeNormal, "TaintManagerEviction", fmt.Sprintf("Marking for deletion Pod %s/%s", p.Namespace, p.Name))
	return 0, nil
}
