// Package disruption works out how many pods of a PodDisruptionBudget may be evicted.
package disruption

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// disruptedFor is how long an evicted pod counts as gone before its deletion is seen.
const disruptedFor = 2 * time.Minute

// decide works the status out; scale is the sum of the sizes of the pods' controllers.
func decide(pdb *policyv1.PodDisruptionBudget, pods []*corev1.Pod, scale int32, now time.Time) (policyv1.PodDisruptionBudgetStatus, time.Duration) {
	s := *pdb.Status.DeepCopy()
	s.ObservedGeneration = pdb.Generation
	var again time.Duration
	disrupted := map[string]metav1.Time{}
	var healthy int32
	for _, p := range pods {
		if !reconcile.PodActive(p) {
			continue
		}
		if at, ok := pdb.Status.DisruptedPods[p.Name]; ok {
			if left := disruptedFor - now.Sub(at.Time); left > 0 {
				disrupted[p.Name] = at
				if again == 0 || left < again {
					again = left
				}
				continue
			}
		}
		if ok, _ := reconcile.PodReady(p); ok {
			healthy++
		}
	}
	s.DisruptedPods = nil
	if len(disrupted) > 0 {
		s.DisruptedPods = disrupted
	}
	expected, desired := scale, int32(0)
	switch {
	case pdb.Spec.MaxUnavailable != nil:
		n, err := intstr.GetScaledValueFromIntOrPercent(pdb.Spec.MaxUnavailable, int(expected), true)
		if err != nil {
			n = 0
		}
		desired = max(0, expected-int32(n))
	case pdb.Spec.MinAvailable != nil && pdb.Spec.MinAvailable.Type == intstr.Int:
		desired, expected = pdb.Spec.MinAvailable.IntVal, 0
		for _, p := range pods {
			if reconcile.PodActive(p) {
				expected++
			}
		}
	case pdb.Spec.MinAvailable != nil:
		n, err := intstr.GetScaledValueFromIntOrPercent(pdb.Spec.MinAvailable, int(expected), true)
		if err != nil {
			n = int(expected)
		}
		desired = int32(n)
	}
	s.CurrentHealthy, s.DesiredHealthy, s.ExpectedPods = healthy, desired, expected
	s.DisruptionsAllowed = max(0, healthy-desired)
	if expected <= 0 {
		s.DisruptionsAllowed = 0
	}
	c := metav1.Condition{Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionTrue, Reason: policyv1.SufficientPodsReason,
		ObservedGeneration: pdb.Generation, LastTransitionTime: metav1.NewTime(now)}
	if s.DisruptionsAllowed == 0 {
		c.Status, c.Reason = metav1.ConditionFalse, policyv1.InsufficientPodsReason
	}
	meta.SetStatusCondition(&s.Conditions, c)
	return s, again
}

type shell struct{ env reconcile.Env }

// New makes the controller.
func New(env reconcile.Env) *reconcile.Controller {
	c := &shell{env.WithDefaults()}
	all := func(ctx context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
		pdbs, err := c.env.Client.List(ctx, reconcile.PodDisruptionBudgets(), e.Object.GetNamespace(), nil)
		if err != nil {
			return fmt.Errorf("list budgets: %w", err)
		}
		for _, p := range pdbs {
			enqueue(reconcile.KeyOf(p))
		}
		return nil
	}
	return &reconcile.Controller{Name: "disruption-controller", Workers: 1, Reconcile: c.reconcile, Watches: []reconcile.Watch{
		{Resource: reconcile.PodDisruptionBudgets()}, {Resource: reconcile.Pods(), Map: all},
		{Resource: reconcile.ReplicaSets(), Map: all}, {Resource: reconcile.Deployments(), Map: all},
	}}
}

func (c *shell) reconcile(ctx context.Context, k reconcile.Key) (time.Duration, error) {
	cl := c.env.Client
	pdb, err := reconcile.Get[*policyv1.PodDisruptionBudget](ctx, cl, reconcile.PodDisruptionBudgets(), k.Namespace, k.Name)
	if err != nil || pdb == nil || pdb.DeletionTimestamp != nil {
		return 0, err
	}
	sel, err := metav1.LabelSelectorAsSelector(pdb.Spec.Selector) // nil matches nothing, {} everything
	if err != nil {
		return 0, fmt.Errorf("selector: %w", err)
	}
	pods, err := c.pods(ctx, k.Namespace, sel)
	if err != nil {
		return 0, err
	}
	scale, err := c.scale(ctx, pods)
	if err != nil {
		return 0, err
	}
	s, again := decide(pdb, pods, scale, c.env.Clock.Now())
	if apiequality.Semantic.DeepEqual(s, pdb.Status) {
		return again, nil
	}
	n := pdb.DeepCopy()
	n.Status = s
	if _, err := cl.Update(ctx, reconcile.PodDisruptionBudgets(), "status", n); err != nil {
		return 0, fmt.Errorf("update status: %w", err)
	}
	return again, nil
}

func (c *shell) pods(ctx context.Context, ns string, sel labels.Selector) ([]*corev1.Pod, error) {
	return reconcile.List[*corev1.Pod](ctx, c.env.Client, reconcile.Pods(), ns, sel)
}

// scale sums the sizes of the pods' controllers, each once; a pod of an unknown one counts itself.
func (c *shell) scale(ctx context.Context, pods []*corev1.Pod) (int32, error) {
	var n int32
	seen := map[types.UID]bool{}
	for _, p := range pods {
		ref := metav1.GetControllerOfNoCopy(p)
		if ref == nil || ref.Kind != "ReplicaSet" {
			if reconcile.PodActive(p) {
				n++
			}
			continue
		}
		rs, err := reconcile.Get[*appsv1.ReplicaSet](ctx, c.env.Client, reconcile.ReplicaSets(), p.Namespace, ref.Name)
		if err != nil {
			return 0, err
		}
		if rs == nil {
			continue
		}
		uid, size := rs.UID, rs.Spec.Replicas
		if o := metav1.GetControllerOfNoCopy(rs); o != nil && o.Kind == "Deployment" {
			d, err := reconcile.Get[*appsv1.Deployment](ctx, c.env.Client, reconcile.Deployments(), p.Namespace, o.Name)
			if err != nil {
				return 0, err
			}
			if d != nil {
				uid, size = d.UID, d.Spec.Replicas
			}
		}
		if seen[uid] {
			continue
		}
		seen[uid] = true
		if size == nil {
			n++
		} else {
			n += *size
		}
	}
	return n, nil
}
